"""ESC-50: 2,000 environmental sounds of 5 s in 50 classes, cut from Freesound recordings, in five folds.

Reads `meta/esc50.csv` and `audio/*.wav` of the publisher's archive, or X-ARES's tars `wds-audio-fold-<1..5>-*.tar`,
whose members are named alike and whose JSON holds the class number. Kept: the class, fold, Freesound id, take, and
whether the clip belongs to ESC-10, which is under another licence. Takes of a recording are one group; of the 1,524
recordings, four (131943, 134049, 209698, 234879) have takes of two classes in two folds, which is the publisher's split
and is left as it is. Nothing is dropped by annotation.

Source: https://github.com/karolpiczak/ESC-50 (README and meta/esc50.csv; class numbers in `labels/esc50.csv`);
tars: https://zenodo.org/records/14614287, https://github.com/jimbozhang/xares (src/tasks/esc50_task.py, v0.1.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary, listed_vocabulary, spell
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_FOLDS = tuple(f"fold{number}" for number in range(1, 6))
_TARS = {fold: f"wds-audio-fold-{fold.removeprefix('fold')}-*.tar" for fold in _FOLDS}

SPEC = SourceSpec(
    name="esc50",
    version="2.0",
    homepage="https://github.com/karolpiczak/ESC-50",
    license="CC-BY-NC-3.0 AND CC-BY-3.0",
    citation="K. J. Piczak, ESC: Dataset for Environmental Sound Classification, ACM Multimedia 2015",
    domain="sound",
    families=("classification", "audio_text_matching"),
    languages=(),
    splits=_FOLDS,
    uses=("evaluation",),
    description="2,000 environmental sounds of 5 s in 50 classes, five folds (Freesound).",
    remotes=(
        # Source of the checksum: https://github.com/soundata/soundata, soundata/datasets/esc50.py (1.0.1).
        Remote(
            url="https://github.com/karoldvl/ESC-50/archive/master.zip", checksum="md5:7771e4b9d86d0945acce719c7a59305a"
        ),
        Remote(url="https://zenodo.org/api/records/14614287/files-archive"),
    ),
    placement="meta/esc50.csv  annotations\n"
    "audio/*.wav  clips (both as in the archive's folder ESC-50-master)\n"
    "or wds-audio-fold-<1..5>-*.tar  X-ARES's tars",
    num_clips=2000,
    hours=2.78,
)

_NAME = re.compile(r"(?P<fold>[1-5])-(?P<freesound>\d+)-(?P<take>[A-Z])-(?P<target>\d+)")
_ESC10 = frozenset(("0", "1", "10", "11", "12", "20", "21", "38", "40", "41"))
"""Class numbers of ESC-10. Source: the column esc10 of meta/esc50.csv."""


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of meta/esc50.csv, or per sample of the tars.

    Raises:
        LayoutError: A file is missing, or a row contradicts itself or the list of classes.
    """
    classes = listed_vocabulary(SPEC.name)
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(tar.key, tar.json.get("label"), tar.split, classes, tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    table = ctx.require(root / "meta" / "esc50.csv", root)
    for row in read_csv(ctx, table, columns=("filename", "fold", "target", "category", "esc10", "src_file", "take")):
        stem = row["filename"].removesuffix(".wav")
        clip = _clip(stem, row["target"], f"fold{row['fold']}", classes, row.where)
        expected = (clip.annotation.labels[0], clip.group, clip.annotation.metadata["take"], row["target"] in _ESC10)
        found = (spell(row["category"]), row["src_file"], row["take"], row["esc10"] == "True")
        if found != expected:
            raise LayoutError(f"{row.where}: expected category, src_file, take, esc10 to be {expected}, found {found}")
        yield replace(clip, path=str(ctx.audio(root / "audio", stem)))


def _clip(stem: str, target: object, split: str, classes: Vocabulary, where: str) -> Clip:
    match = _NAME.fullmatch(stem)
    if match is None or match["target"] != str(target) or f"fold{match['fold']}" != split:
        raise LayoutError(
            f"{where}: expected a name <fold>-<Freesound id>-<take>-<class> of {split} and class {target}, found {stem}"
        )
    esc10 = match["target"] in _ESC10
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(
            labels=(classes.label(target, where),),
            label_set=SPEC.name,
            metadata={"take": match["take"], **({"subset": "ESC-10"} if esc10 else {})},
        ),
        group=match["freesound"],
        license="CC-BY-3.0" if esc10 else "CC-BY-NC-3.0",
        upstream_ids=(identifiers.freesound(match["freesound"]),),
    )
