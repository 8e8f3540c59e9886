"""FSD50K: 51,197 Freesound clips of 0.3 to 30 s with any of 200 AudioSet labels, in train, valid and test.

Reads `FSD50K.ground_truth/dev.csv` (its column split says train or val) and `eval.csv`, and the clips in
`FSD50K.dev_audio` and `FSD50K.eval_audio`; or X-ARES's tars `fsd50k_{train,validation,eval}*.tar`. Where
`FSD50K.metadata` lies beside either, it adds title, description, tags, uploader and licence of each clip, the labels
before they were merged and propagated (`collection`), and the raters' judgements: a vote is a rater who found the
label predominant or present. File names are Freesound ids. Nothing is dropped by annotation.

Source: https://zenodo.org/records/4060432 (files and columns), arXiv:2010.00475; tars:
https://zenodo.org/records/14868441, https://github.com/jimbozhang/xares (src/tasks/fsd50k_task.py, v0.1.3).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._freesound import freesound_id, freesound_license
from uniwhisper.sources._read import number, read_csv, read_json
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import listed_vocabulary, spell
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_PARTS = ("dev", "eval")
_SPLITS = {"train": "train", "val": "valid", "": "test"}
_TARS = {"train": "fsd50k_train*.tar", "valid": "fsd50k_validation*.tar", "test": "fsd50k_eval*.tar"}
_FILES = "https://zenodo.org/records/4060432/files/FSD50K"

SPEC = SourceSpec(
    name="fsd50k",
    version="1.0",
    homepage="https://zenodo.org/records/4060432",
    license="CC-BY-4.0; each clip under its own Creative Commons licence",
    citation="E. Fonseca, X. Favory, J. Pons, F. Font and X. Serra, FSD50K: an Open Dataset of Human-Labeled Sound "
    "Events, IEEE/ACM TASLP 30, 2022",
    domain="sound",
    families=("tagging", "classification", "audio_text_matching"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("evaluation",),
    description="51,197 Freesound clips of 0.3 to 30 s, 200 AudioSet labels, several a clip.",
    remotes=(
        # Source of the checksums: https://github.com/soundata/soundata, soundata/datasets/fsd50k.py (1.0.1).
        Remote(url=f"{_FILES}.dev_audio.zip", checksum="md5:c480d119b8f7a7e32fdb58f3ea4d6c5a"),
        Remote(url=f"{_FILES}.dev_audio.z01", checksum="md5:faa7cf4cc076fc34a44a479a5ed862a3"),
        Remote(url=f"{_FILES}.dev_audio.z02", checksum="md5:8f9b66153e68571164fb1315d00bc7bc"),
        Remote(url=f"{_FILES}.dev_audio.z03", checksum="md5:1196ef47d267a993d30fa98af54b7159"),
        Remote(url=f"{_FILES}.dev_audio.z04", checksum="md5:d088ac4e11ba53daf9f7574c11cccac9"),
        Remote(url=f"{_FILES}.dev_audio.z05", checksum="md5:81356521aa159accd3c35de22da28c7f"),
        Remote(url=f"{_FILES}.eval_audio.zip", checksum="md5:6fa47636c3a3ad5c7dfeba99f2637982"),
        Remote(url=f"{_FILES}.eval_audio.z01", checksum="md5:3090670eaeecc013ca1ff84fe4442aeb"),
        Remote(url=f"{_FILES}.ground_truth.zip", checksum="md5:ca27382c195e37d2269c4c866dd73485"),
        Remote(url=f"{_FILES}.metadata.zip", checksum="md5:b9ea0c829a411c1d42adb9da539ed237"),
        Remote(url="https://zenodo.org/api/records/14868441/files-archive"),
    ),
    placement="FSD50K.ground_truth/{dev,eval}.csv  annotations\n"
    "FSD50K.dev_audio/*.wav, FSD50K.eval_audio/*.wav  clips (join the parts first: zip -s 0 FSD50K.dev_audio.zip "
    "--out dev.zip)\n"
    "FSD50K.metadata/  facts about the clips (may be left out)\n"
    "or fsd50k_{train,validation,eval}*.tar  X-ARES's tars, FSD50K.metadata beside them if wanted",
    num_clips=51_197,
    hours=108.3,
)


@dataclass(kw_only=True, slots=True)
class _Facts:
    """What `FSD50K.metadata` says about a clip."""

    license: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    votes: dict[str, int] = field(default_factory=dict)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of the ground truth, or per sample of the tars.

    Raises:
        LayoutError: A file is missing, or a row has an unknown label, split or Freesound id.
    """
    classes = listed_vocabulary(SPEC.name)
    facts = _facts(root, ctx)
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            names = str(tar.json.get("soundevent", "")).split(";")
            labels = tuple(classes.label(name, tar.where) for name in names)
            clip = _clip(tar.key, tar.split, labels, facts, tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    for part in _PARTS:
        table = ctx.require(root / "FSD50K.ground_truth" / f"{part}.csv", root)
        columns = ("fname", "labels", "mids", *(["split"] if part == "dev" else []))
        for row in read_csv(ctx, table, columns=columns):
            split = row["split"] if part == "dev" else ""
            if split not in _SPLITS or (part == "dev" and not split):
                raise LayoutError(f"{row.where}: expected split train or val, found {split!r}")
            labels = tuple(classes.label(name, row.where) for name in row["labels"].split(","))
            clip = _clip(row["fname"], _SPLITS[split], labels, facts, row.where)
            yield replace(clip, path=str(ctx.audio(root / f"FSD50K.{part}_audio", row["fname"])))


def _facts(root: Path, ctx: Context) -> dict[str, _Facts]:
    """Return Freesound id -> what the metadata files say; those that are not there say nothing."""
    facts: dict[str, _Facts] = {}
    folder, vocabulary = root / "FSD50K.metadata", root / "FSD50K.ground_truth" / "vocabulary.csv"
    rows = read_csv(ctx, vocabulary, names=("index", "label", "mid")) if vocabulary.is_file() else ()
    names = {row["mid"]: spell(row["label"]) for row in rows}
    for part in _PARTS:
        info = folder / f"{part}_clips_info_FSD50K.json"
        for clip_id, entry in _entries(info, ctx) if info.is_file() else ():
            fact = facts.setdefault(clip_id, _Facts())
            fact.license = freesound_license(str(entry.get("license", "")))
            fact.metadata |= {key: str(entry[key]) for key in ("title", "description", "uploader") if entry.get(key)}
            if tags := ", ".join(map(str, _list(entry.get("tags")))):
                fact.metadata["tags"] = tags
        collection = folder / "collection" / f"collection_{part}.csv"
        for row in read_csv(ctx, collection, columns=("fname", "labels", "mids")) if collection.is_file() else ():
            labels = [spell(label) for label in row["labels"].split(",")]
            names |= dict(zip(row["mids"].split(","), labels, strict=False))
            facts.setdefault(row["fname"], _Facts()).metadata["collection labels"] = ", ".join(labels)
    ratings = folder / "pp_pnp_ratings_FSD50K.json"
    for clip_id, entry in _entries(ratings, ctx) if ratings.is_file() else ():
        # Predominant is 1, present 0.5, unsure 0, absent -1. A class that was never kept has no name but its number.
        facts.setdefault(clip_id, _Facts()).votes = {
            names.get(mid, mid): sum(number(value, f"{ratings}: {clip_id}: {mid}") > 0 for value in _list(values))
            for mid, values in entry.items()
        }
    return facts


def _entries(path: Path, ctx: Context) -> Iterator[tuple[str, dict[str, Any]]]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise LayoutError(f"{path}: expected an object by Freesound id, found {type(content).__name__}")
    for clip_id, entry in content.items():
        if not isinstance(entry, dict):
            raise LayoutError(f"{path}: {clip_id}: expected an object, found {entry!r}")
        ctx.rows[path] += 1
        yield clip_id, entry


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _clip(stem: str, split: str, labels: tuple[str, ...], facts: dict[str, _Facts], where: str) -> Clip:
    fact = facts.get(stem, _Facts())
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(labels=labels, label_set=SPEC.name, votes=fact.votes, metadata=fact.metadata),
        group=stem,
        license=fact.license,
        upstream_ids=(freesound_id(stem, where),),
    )
