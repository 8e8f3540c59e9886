"""Reading shards: any clip of any set at once, by its number, without reading a manifest into memory.

Reads `DONE`, `shards.json`, the durations (mapped, so processes share them), single rows of the index and single JSON
members; writes nothing. Guarantees: opening costs the same whether a set has a thousand clips or ten million; a clip
that comes back is the one that was written, because every member's checksum is checked; sequences can be used from
several threads, after a fork and in spawned processes, and give the same clips there.
"""

from __future__ import annotations

import functools
import os
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np

from uniwhisper.errors import ManifestError, ShardError
from uniwhisper.files import content_hash, read_json
from uniwhisper.shards.members import json_offset, member_clip
from uniwhisper.shards.plan import FORMAT, SEARCHES
from uniwhisper.shards.table import INDEX_DTYPE, IndexEntry, clip_id, index_offset, map_durations, read_licenses
from uniwhisper.types import Clip

__all__ = ["ShardClips", "ShardFile", "ShardFolder", "ShardSet", "open_folder", "open_shards"]

_OPEN_FILES = 64
"""File descriptors that are kept; there may be thousands of shards."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardFile:
    """One row of `shards.json`."""

    name: str
    source: str
    split: str
    first_row: int
    """Where its clips begin in the manifest."""
    num_clips: int
    duration_s: float
    num_bytes: int
    sha256: str


class ShardFolder:
    """One finished set on disk: its shards, and the mapped arrays."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        try:
            facts = read_json(self.path / "shards.json")
            if facts["format"] != FORMAT:
                raise ShardError(f"expected shards of format {FORMAT} in {path}, found {facts['format']!r}: make anew")
            self.key: str = facts["key"]
            self.shards = tuple(ShardFile(**shard) for shard in facts["shards"])
        except (ManifestError, KeyError, TypeError) as e:
            raise ShardError(f"{path}: expected shards.json to list the shards, found: {e}") from e
        searches = self.path / SEARCHES
        self.searches: tuple[str, ...] = tuple(read_json(searches)) if searches.is_file() else ()
        self.durations = map_durations(self.path)
        num_rows = sum(shard.num_clips for shard in self.shards)
        if num_rows != len(self.durations):
            raise ShardError(f"expected {num_rows} rows in {self.path / 'durations.npy'}, found {len(self.durations)}")
        self._index_offset = index_offset(self.path, num_rows)

    def check_sizes(self) -> None:
        """Raise a ShardError that names the first shard that is missing or has another size than was written."""
        for shard in self.shards:
            tar = self.path / shard.name
            try:
                found = f"{tar.stat().st_size} bytes"
            except OSError as e:
                found = str(e.strerror)
            if found != f"{shard.num_bytes} bytes":
                raise ShardError(
                    f"expected {shard.num_bytes} bytes in {tar}, found: {found}. The shard is truncated or missing: "
                    "fetch it again, or run `uniwhisper shards` again"
                )

    def entry(self, row: int) -> IndexEntry:
        """Return where the clip in `row` lies; a ShardError where `index.npy` cannot be read."""
        size = INDEX_DTYPE.itemsize
        path = self.path / "index.npy"
        try:
            # Not mapped: every page that a random row touches would stay in this process, with its neighbours.
            return IndexEntry.unpack(_open(str(path), self.key).read(self._index_offset + row * size, size))
        except (OSError, struct.error) as e:
            raise ShardError(f"expected row {row} in {path}, found: {e}") from e

    def clip(self, row: int) -> Clip:
        """Return the clip in `row` of the manifest.

        Raises:
            ShardError: Its JSON member is damaged; the message names the shard and the clip.
        """
        offset_bytes, num_bytes, size, checksum, number = self.entry(row)
        tar = ""
        try:
            shard = self.shards[number]
            tar = str(self.path / shard.name)
            text = _open(tar, shard.sha256).read(json_offset(offset_bytes, num_bytes), size)
            if zlib.crc32(text) != checksum:
                raise ValueError(f"{len(text)} of {size} bytes, with another checksum")
            return member_clip(text, path=tar, offset_bytes=offset_bytes, num_bytes=num_bytes, where=tar)
        except (OSError, ValueError, LookupError, ManifestError) as e:
            name = clip_id(self.path / "manifest.parquet", row)
            raise ShardError(
                f"expected clip {name!r} (row {row}) in {tar or self.path}, found its JSON member damaged: {e}. "
                "Fetch the shard again"
            ) from e


class ShardClips(Sequence[Clip]):
    """The clips of one source, in the order of the manifest; each is read when it is asked for."""

    def __init__(self, folder: ShardFolder, source: str, rows: range) -> None:
        self._folder = folder
        self._rows = rows
        self.source = source

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Clip: ...
    @overload
    def __getitem__(self, index: slice) -> ShardClips: ...
    def __getitem__(self, index: int | slice) -> Clip | ShardClips:
        """Return a clip, or for a slice a sequence of its clips."""
        if isinstance(index, slice):
            return ShardClips(self._folder, self.source, self._rows[index])
        return self._folder.clip(self._rows[index])

    def __iter__(self) -> Iterator[Clip]:
        return (self._folder.clip(row) for row in self._rows)

    def __repr__(self) -> str:
        return f"<{len(self)} clips of {self.source!r} in {self._folder.path}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return (_reopened, (str(self._folder.path), self._folder.key, self.source, self._rows))

    @property
    def durations(self) -> np.ndarray:
        """Seconds of every clip, float64 [clips]; a view of the mapped file that cannot be written to."""
        rows = self._rows
        first, last = (rows[0], rows[-1]) if rows else (0, -1)
        return self._folder.durations[min(first, last) : max(first, last) + 1][:: rows.step]

    def licenses(self) -> tuple[str, ...]:
        """Return the licences that these clips state, sorted; empty text where one states none."""
        rows = self._rows if self._rows.step > 0 else self._rows[::-1]
        return read_licenses(self._folder.path / "manifest.parquet", range(rows.start, rows.stop))


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardSet:
    """The clips of one or more folders, by source."""

    sources: dict[str, ShardClips]
    """Source -> its clips; sources in the order of their names."""
    key: str
    """Hash of the content of all shards and of the choice of split: what was made from this set can be keyed by it."""
    searches: tuple[str, ...] = ()
    """Keys of the searches for leakage that its clips went through."""

    def durations(self, source: str) -> np.ndarray:
        """Return the seconds of every clip of `source`, float64 [clips], as a view of the mapped file."""
        return self.sources[source].durations

    @property
    def num_clips(self) -> int:
        """Clips in all sources."""
        return sum(len(clips) for clips in self.sources.values())


def open_shards(folders: Path | Iterable[Path], *, split: str | None = None) -> ShardSet:
    """Open finished shard sets.

    Args:
        folders: One folder or several, whose sources are put side by side.
        split: Only the clips of this split; sources without any are left out.

    Raises:
        ShardError: A folder holds no finished set, a shard is missing or has another size, two folders have a source of
            the same name, or no clip is of that split.
    """
    paths = [folders] if isinstance(folders, Path) else list(folders)
    sources: dict[str, ShardClips] = {}
    shards: list[str] = []
    searches: set[str] = set()
    for path in paths:
        folder = open_folder(path)
        searches.update(folder.searches)
        folder.check_sizes()
        shards += [shard.sha256 for shard in folder.shards]
        for source, rows in _rows_by_source(folder, split).items():
            if source in sources:
                raise ShardError(
                    f"expected every source in one shard set, found {source!r} in {sources[source]!r} and {path}"
                )
            sources[source] = ShardClips(folder, source, rows)
    if not sources:
        wanted = f"clips of split {split!r}" if split else "clips"
        raise ShardError(f"expected {wanted} in {', '.join(map(str, paths)) or 'a folder'}, found none")
    return ShardSet(
        sources=dict(sorted(sources.items())),
        key=content_hash([shards, split]),
        searches=tuple(sorted(searches)),
    )


def _rows_by_source(folder: ShardFolder, split: str | None) -> dict[str, range]:
    """Return the rows of every source; a source's rows, and those of a split of it, lie together."""
    found: dict[str, range] = {}
    for shard in folder.shards:
        if shard.num_clips and split in (None, shard.split):
            first = found[shard.source].start if shard.source in found else shard.first_row
            found[shard.source] = range(first, shard.first_row + shard.num_clips)
    return found


@functools.lru_cache(maxsize=64)
def _folder(path: str, done: str, modified_ns: int) -> ShardFolder:
    return ShardFolder(Path(path))


def open_folder(path: Path) -> ShardFolder:
    """Return the finished set in `path`; opened once in a process, unless it was made anew in between.

    Raises:
        ShardError: It holds no finished set, or one that is not whole.
    """
    try:
        marker = path / "DONE"
        return _folder(str(path.resolve()), marker.read_text(encoding="utf-8"), marker.stat().st_mtime_ns)
    except OSError as e:
        raise ShardError(f"expected a finished shard set in {path}, found no file DONE: make or finish it first") from e


def _reopened(path: str, key: str, source: str, rows: range) -> ShardClips:
    """Return a sequence in another process; the same one only if the folder was not made anew since."""
    folder = open_folder(Path(path))
    if folder.key != key:
        raise ShardError(f"expected the shard set {key[:8]} in {path}, found {folder.key[:8]}: it was made anew")
    return ShardClips(folder, source, rows)


class _OpenFile:
    """A tar, or an index. Reads name their position, so threads and forked processes can share it."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))

    def read(self, offset_bytes: int, num_bytes: int) -> bytes:
        """Return `num_bytes` from `offset_bytes`, or fewer at the end of the file."""
        return os.pread(self._descriptor, num_bytes, offset_bytes)

    def __del__(self) -> None:
        # Only when nobody reads any more: whoever got it from the cache holds a reference of its own.
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


@functools.lru_cache(maxsize=_OPEN_FILES)
def _open(path: str, content: str) -> _OpenFile:
    """Return the open file; the hash `content` tells it from one that was written in its place."""
    return _OpenFile(path)
