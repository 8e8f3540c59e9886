"""FSDKaggle2018: 11,073 Freesound clips with one of 41 labels each, in train and test (DCASE 2018 task 2).

Reads `FSDKaggle2018.meta/train_post_competition.csv` and `test_post_competition_scoring_clips.csv` and the two folders
of audio of the publisher's archives, or X-ARES's tars `fsd18_train*.tar` and `fsd18_test*.tar`; where the tables lie
beside the tars, they add what tars lack. Kept: the label, whether a person verified it, the Freesound id and the
licence. Dropped: clips that Kaggle's version of the test table calls `Ignored` (padding of the challenge, no label).

Source: https://zenodo.org/records/2552860 (layout and columns); tars: https://zenodo.org/records/14725117,
https://github.com/jimbozhang/xares (src/tasks/fsdkaggle2018_task.py, v0.1.3; it has no validation part).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import plain_name
from uniwhisper.sources._freesound import freesound_id, freesound_license
from uniwhisper.sources._read import Row, by_column, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import listed_vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TABLES = {"train": "train_post_competition.csv", "test": "test_post_competition_scoring_clips.csv"}
_TARS = {"train": "fsd18_train*.tar", "test": "fsd18_test*.tar"}

SPEC = SourceSpec(
    name="fsdkaggle2018",
    version="1.0",
    homepage="https://zenodo.org/records/2552860",
    license="CC-BY; each clip under its own Creative Commons licence",
    citation="E. Fonseca et al., General-purpose Tagging of Freesound Audio with AudioSet Labels: Task Description, "
    "Dataset, and Baseline, DCASE 2018",
    domain="sound",
    families=("classification", "audio_text_matching"),
    languages=(),
    splits=("train", "test"),
    uses=("evaluation",),
    description="11,073 Freesound clips of 0.3 to 30 s, one of 41 AudioSet labels each.",
    remotes=(
        Remote(url="https://zenodo.org/records/2552860/files/FSDKaggle2018.audio_train.zip"),
        Remote(url="https://zenodo.org/records/2552860/files/FSDKaggle2018.audio_test.zip"),
        Remote(url="https://zenodo.org/records/2552860/files/FSDKaggle2018.meta.zip"),
        Remote(url="https://zenodo.org/api/records/14725117/files-archive"),
    ),
    placement="FSDKaggle2018.meta/*_post_competition*.csv  annotations\n"
    "FSDKaggle2018.audio_train/*.wav, FSDKaggle2018.audio_test/*.wav  clips\n"
    "or fsd18_train*.tar, fsd18_test*.tar  X-ARES's tars (with FSDKaggle2018.meta beside them: Freesound ids as well)",
    num_clips=11_073,
    hours=20.0,
)

_VERIFIED = {"1": "yes", "0": "no"}


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of the tables, or per sample of the tars.

    Raises:
        LayoutError: A file or column is missing, a label is not one of the 41, or a Freesound id is no number.
    """
    classes = listed_vocabulary(SPEC.name)
    meta = root / "FSDKaggle2018.meta"
    if has_tars(root, _TARS.values()):
        rows = by_column((row for split in _TARS for row in _rows(ctx, meta, split)), "fname")
        facts = {name.removesuffix(".wav"): row for name, row in rows.items()}
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(tar.key, tar.split, classes.label(tar.json.get("sound"), tar.where), facts.get(tar.key))
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    for split, name in _TABLES.items():
        ctx.require(meta / name, root)
        for row in _rows(ctx, meta, split):
            stem = plain_name(row["fname"].removesuffix(".wav"), row.where)
            if row.get("usage") == "Ignored":
                ctx.drop(stem, "padding of the challenge: the table gives no label")
                continue
            clip = _clip(stem, split, classes.label(row["label"], row.where), row)
            yield replace(clip, path=str(ctx.audio(root / f"FSDKaggle2018.audio_{split}", stem)))


def _rows(ctx: Context, meta: Path, split: str) -> Iterator[Row]:
    """Yield the rows of a split's table, none where it is not there."""
    columns = ("fname", "label", "manually_verified" if split == "train" else "usage", "freesound_id", "license")
    if (meta / _TABLES[split]).is_file():
        yield from read_csv(ctx, meta / _TABLES[split], columns=columns)


def _clip(stem: str, split: str, label: str, row: Row | None) -> Clip:
    clip = Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(labels=(label,), label_set=SPEC.name),
    )
    if row is None:
        return clip
    verified = row.get("manually_verified", "")
    return replace(
        clip,
        annotation=replace(
            clip.annotation, metadata={"manually verified": _VERIFIED.get(verified, verified)} if verified else {}
        ),
        group=row["freesound_id"],
        license=freesound_license(row["license"]),
        upstream_ids=(freesound_id(row["freesound_id"], row.where),),
    )
