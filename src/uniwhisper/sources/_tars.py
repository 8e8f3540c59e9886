"""WebDataset tars as a publisher's layout: each sample's audio by its place in the tar, and its annotation.

Reads uncompressed tars; writes nothing and unpacks nothing, so clips name the tar and a byte range. A tar is taken as
untrusted: members whose names leave the folder, links, devices and oversized annotations are refused, with the name of
the tar and the member. Used for X-ARES's copies of the evaluation corpora and for tar sets of one's own.

Source: grouping of files into samples by the name up to the first dot, https://github.com/webdataset/webdataset
(README, "The WebDataset format").
"""

from __future__ import annotations

import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import AUDIO_SUFFIXES, Context
from uniwhisper.sources._read import json_value

__all__ = ["TarClip", "has_tars", "read_tars", "tar_members"]

_TEXT_SUFFIXES = (".json", ".txt", ".cls", ".text", ".transcript")
_MAX_TEXT_BYTES = 16 << 20
"""Far above any annotation of one clip; beyond it the member is an attack or a mistake."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TarClip:
    """One sample of a tar."""

    key: str
    """Member name without its suffixes, folders included; a repeated one in the same tar gets `~2`, `~3`, ..."""
    split: str
    path: Path
    """The tar."""
    offset_bytes: int
    num_bytes: int
    suffix: str
    """Of the audio member, with its dot, in lower case."""
    json: dict[str, Any]
    """The `.json` member; empty where there is none, or where it is a list."""
    rows: tuple[dict[str, Any], ...] = ()
    """The `.json` member where it is a list of objects."""
    texts: dict[str, str] = field(default_factory=dict)
    """Suffix without dot -> content of the other text members (`txt`, `cls`, ...)."""
    where: str
    """Tar and member, for messages."""


def has_tars(root: Path, patterns: Iterable[str]) -> bool:
    """Return whether any tar in the folder `root` matches one of the glob patterns."""
    return root.is_dir() and any(next(root.glob(pattern), None) for pattern in patterns)


def read_tars(ctx: Context, root: Path, splits: Mapping[str, str]) -> Iterator[TarClip]:
    """Yield the samples with audio of all tars in `root`, split by split, in the order of tar names and members.

    Args:
        ctx: Counts samples as rows, and hears about samples without audio.
        root: Folder with the tars.
        splits: Split -> glob pattern of its tars.

    Raises:
        LayoutError: A split has no tar, or a tar is damaged, compressed or not safe to read.
    """
    for split, pattern in splits.items():
        tars = sorted(root.glob(pattern))
        if not tars:
            found = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
            raise LayoutError(f"{ctx.source}: expected tars {pattern} for split {split} in {root}, found {found}")
        for tar in tars:
            yield from _samples(ctx, tar, split)


def _samples(ctx: Context, tar: Path, split: str) -> Iterator[TarClip]:
    """Yield the samples of one tar, in the order of its members."""
    seen: Counter[str] = Counter()
    samples = _grouped(tar)
    with tar.open("rb") as file:
        for name, members in samples:
            seen[name] += 1
            # X-ARES names members by file stems, and stems such as 00001 come back; the second one is another sample.
            key = name if seen[name] == 1 else f"{name}~{seen[name]}"
            ctx.rows[tar] += 1
            audio = next((suffix for suffix in members if f".{suffix.rpartition('.')[2]}" in AUDIO_SUFFIXES), None)
            if audio is None:
                ctx.drop(f"{tar.stem}/{key}", f"no audio in the sample: members {', '.join(sorted(members))}")
                continue
            texts = {
                suffix: _text(file, member, f"{tar}:{member.name}")
                for suffix, member in members.items()
                if f".{suffix}" in _TEXT_SUFFIXES
            }
            where = f"{tar}:{members[audio].name}"
            values, rows = _annotation(texts.pop("json", "{}"), where)
            yield TarClip(
                key=key,
                split=split,
                path=tar,
                offset_bytes=members[audio].offset_data,
                num_bytes=members[audio].size,
                suffix=f".{audio.rpartition('.')[2]}",
                json=values,
                rows=rows,
                texts=texts,
                where=where,
            )


def _grouped(tar: Path) -> list[tuple[str, dict[str, tarfile.TarInfo]]]:
    """Return key and members by suffix of each sample: members with the same name up to the first dot.

    They need not be neighbours, because not everybody's are; a second member of one suffix begins another sample.
    """
    samples: list[tuple[str, dict[str, tarfile.TarInfo]]] = []
    latest: dict[str, dict[str, tarfile.TarInfo]] = {}
    for member in tar_members(tar):
        path = PurePosixPath(member.name)
        stem, dot, suffix = path.name.partition(".")
        if not (stem and dot and suffix):
            raise LayoutError(f"{tar}: expected members named <key>.<suffix>, found {member.name!r}")
        key = (path.parent / stem).as_posix()
        if key not in latest or suffix.lower() in latest[key]:
            latest[key] = {}
            samples.append((key, latest[key]))
        latest[key][suffix.lower()] = member
    return samples


def tar_members(tar: Path) -> list[tarfile.TarInfo]:
    """Return the files in an uncompressed tar, checked to be safe.

    Raises:
        LayoutError: The tar is missing, damaged or compressed, or holds a link, a device or a name that leaves the
            folder.
    """
    members: list[tarfile.TarInfo] = []
    size_bytes = tar.stat().st_size if tar.is_file() else 0
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                if member.size < 0:  # it would lead back to an earlier member, and round in circles from there
                    raise LayoutError(f"{tar}: expected {member.name!r} to have a size, found {member.size} bytes")
                if member.isdir():
                    continue
                name = PurePosixPath(member.name)
                if name.is_absolute() or ".." in name.parts or "\\" in member.name:
                    raise LayoutError(f"{tar}: expected members below the folder, found {member.name!r}: do not use it")
                if not member.isreg():
                    raise LayoutError(f"{tar}: expected plain files, found {member.name!r}, a link or device")
                if member.issparse() or member.offset_data + member.size > size_bytes:
                    raise LayoutError(
                        f"{tar}: expected {member.size} bytes of {member.name!r} from byte {member.offset_data}, found "
                        f"a file of {size_bytes} bytes: truncated or damaged, fetch it again"
                    )
                members.append(member)
    except (tarfile.TarError, OSError, ValueError, EOFError) as e:
        raise LayoutError(f"expected an uncompressed tar at {tar}, found: {e}; unpack .tar.gz first") from e
    return members


def _text(file: Any, member: tarfile.TarInfo, where: str) -> str:
    if member.size > _MAX_TEXT_BYTES:
        raise LayoutError(f"{where}: expected an annotation of at most {_MAX_TEXT_BYTES} bytes, found {member.size}")
    file.seek(member.offset_data)
    try:
        return file.read(member.size).decode("utf-8-sig").strip()
    except UnicodeDecodeError as e:
        raise LayoutError(f"{where}: expected UTF-8, found: {e}") from e


def _annotation(text: str, where: str) -> tuple[dict[str, Any], tuple[dict[str, Any], ...]]:
    """Return the object in a JSON member, or the objects of its list."""
    value = json_value(text, where)
    if isinstance(value, dict):
        return value, ()
    if isinstance(value, list) and all(isinstance(row, dict) for row in value):
        return {}, tuple(value)
    raise LayoutError(f"{where}: expected a JSON object or a list of them beside the audio, found {str(value)[:80]}")
