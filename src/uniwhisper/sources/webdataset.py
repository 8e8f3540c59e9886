"""A set of WebDataset tars: samples of one audio member and its annotation, read in place.

Reads every uncompressed `*.tar` below the root. A sample's `.json` member has the fields of the source `table`
(`text`, `label`, `transcript`, `caption`, ..., lists allowed), or is a clip as uniwhisper's own shards hold it; a
`.txt` member is its text, a `.cls` member its label. The split is the one that the tar's name contains (train, valid,
test, foldN), else train. Clips name the tar and a byte range; nothing is unpacked.

Source: https://github.com/webdataset/webdataset (README, "The WebDataset format").
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uniwhisper.errors import LayoutError
from uniwhisper.manifest import clip_from_json
from uniwhisper.sources._context import Context
from uniwhisper.sources._draft import TEXT_COLUMNS, Draft
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.sources._tars import TarClip, read_tars
from uniwhisper.types import FAMILIES, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="webdataset",
    version="1",
    homepage="https://github.com/webdataset/webdataset",
    license="as stated by the owner",
    citation="the tars' owner",
    domain="mixed",
    families=FAMILIES,
    languages=(),
    uses=("own",),
    splits=("train", "valid", "test", *(f"fold{number}" for number in range(1, 11))),
    description="WebDataset tars with audio and json, txt or cls members, X-ARES's and uniwhisper's own among them.",
)

_SPLIT = re.compile(r"train|valid|dev|test|eval|fold[-_]?0*\d+")
_NAMES = {"dev": "valid", "eval": "test"}
_ALIASES = {"captions": "caption", "labels": "label", "sentence": "transcript", "transcription": "transcript"}
"""Common names of the table's columns in other people's JSON."""


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per sample with audio.

    Raises:
        LayoutError: There is no tar, or one is damaged or not safe to read.
        ManifestError: A sample's annotation cannot be understood; the message names tar and member.
    """
    tars = [root] if root.is_file() else sorted(root.rglob("*.tar"))
    if not tars:
        raise LayoutError(f"{ctx.source}: expected *.tar below {root}, found none")
    for tar in tars:
        for sample in read_tars(ctx, tar.parent, {_split(tar.stem): tar.name}):
            yield _clip(sample, root)


def _split(stem: str) -> str:
    match = _SPLIT.search(stem.lower())
    if match is None:
        return "train"
    text = match[0]
    return f"fold{int(re.sub(r'[^0-9]', '', text))}" if text.startswith("fold") else _NAMES.get(text, text)


def _clip(sample: TarClip, root: Path) -> Clip:
    member = {"path": str(sample.path), "offset_bytes": sample.offset_bytes, "num_bytes": sample.num_bytes}
    if "annotation" in sample.json:
        return clip_from_json({**_own_row(sample), **member}, sample.where)
    name = sample.path.relative_to(root).as_posix() if root.is_dir() else sample.path.name
    draft = Draft(
        id=f"{name}/{sample.key}",
        where=sample.where,
        audio=sample.path,
        offset_bytes=sample.offset_bytes,
        num_bytes=sample.num_bytes,
    )
    for row in _rows(sample):
        draft.add(row, sample.where)
    clip = draft.clip(
        default_source=re.sub(r"[^a-z0-9]+", "_", root.stem.lower()).strip("_") or "webdataset", measured=False
    )
    return clip if "split" in draft.shared else dataclasses.replace(clip, split=sample.split)


def _own_row(sample: TarClip) -> dict[str, Any]:
    """Return the manifest's row in a shard of uniwhisper: lists and objects are JSON text there, and audio is whole."""
    row: dict[str, Any] = {}
    for field in dataclasses.fields(Clip):
        value = sample.json.get(field.name)
        if isinstance(value, str) and field.name in ("annotation", "upstream_ids"):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError) as e:
                raise LayoutError(f"{sample.where}: expected {field.name} as JSON text, found: {e}") from e
        if value is not None and field.name != "start_s":
            row[field.name] = value
    return row


def _rows(sample: TarClip) -> Iterator[dict[str, str]]:
    """Yield the annotation as rows of a table: one with all single values, one more for each further item of a list."""
    cells: dict[str, list[str]] = {}
    for name, value in sample.json.items():
        items: list[Any] = value if isinstance(value, list) else [value]
        column = _ALIASES.get(name.lower(), name.lower())
        # NaN is how data frames spell nothing, and the only number that is not equal to itself.
        cells[column] = [str(item).strip() for item in items if isinstance(item, str | int | float) and item == item]
    if "txt" in sample.texts:
        cells.setdefault("text", [sample.texts["txt"]])
    if "cls" in sample.texts:
        cells.setdefault("label", [sample.texts["cls"]])
    yield {name: items[0] for name, items in cells.items() if items}
    for column in TEXT_COLUMNS:
        kept = {name: cells[name][0] for name in ("kind", "domain") if cells.get(name)}
        for item in cells.get(column, [])[1:]:
            yield {**kept, column: item}
