"""Planning: which clip goes into which shard, decided from the clips alone, before any audio is read.

Reads clips, one at a time; writes the folder `plan/`: `<shard>.jsonl` with the clips of each shard, `dropped.jsonl`,
and `plan.json` last. Guarantees: equal clips and settings give equal files, so that every shard can be written by
itself, anywhere and again; ids are unique within their source; a shard holds clips of one source and one split, so
that nobody who reads shards by name trains on a test part; no clip is longer than the limit (`cutting.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import shutil
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from uniwhisper.audio import WINDOW_S
from uniwhisper.cutting import Uncuttable, cut
from uniwhisper.errors import ConfigError, ManifestError, ShardError
from uniwhisper.files import content_hash, read_json, read_jsonl, write_json
from uniwhisper.manifest import check_clip, clip_from_json, clip_to_json
from uniwhisper.shards.members import clip_hash, file_stem
from uniwhisper.types import Annotation, Clip

__all__ = [
    "EMPTY_PART",
    "FORMAT",
    "SEARCHES",
    "Plan",
    "PlannedShard",
    "make_plan",
    "planned_clips",
    "read_manifests",
    "read_plan",
    "split_order",
]

FORMAT = "uniwhisper-shards-1"
SEARCHES = "searches.json"
"""File with the keys of the searches for leakage that the clips went through."""
"""Changes whenever equal clips would give other bytes."""

# 16 kHz FLAC measured over speech, sound and music: 17.3, 18.3 and 18.9 kB/s; the rest of a clip is headers and JSON.
_FLAC_BYTES_PER_S = 18_500
_CLIP_BYTES = 3_000
_SPLITS = ("train", "valid", "test")
_EMPTY = "nothing can be asked about it: it has no transcript, caption, label, attribute, event, note or question"
EMPTY_PART = "nothing is annotated in this part of the recording"


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedShard:
    """One shard and what will go into it."""

    name: str
    """File name without `.tar`."""
    source: str
    split: str
    num_clips: int
    duration_s: float
    sha256: str
    """Of the shard's clips, as they stand in its file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """All shards in their order: by source, then split, then number."""

    key: str
    max_s: float
    """No planned clip is longer."""
    shards: tuple[PlannedShard, ...]
    sources: dict[str, int]
    """Source -> clips that were handed in, after cutting; what is dropped for cause counts."""
    dropped: dict[str, int]
    """Source -> clips that were dropped for cause; silent parts of long recordings are not counted."""


def split_order(split: str) -> tuple[int, int]:
    """Return the place of a split among the others: train, valid, test, then folds by number."""
    if split in _SPLITS:
        return (_SPLITS.index(split), 0)
    return (len(_SPLITS), int(split.removeprefix("fold")))


def read_manifests(paths: Iterable[Path]) -> Iterator[Clip]:
    """Yield the clips of several manifests (files, or folders with a `manifest.jsonl`), one at a time.

    Raises:
        ManifestError: A file is missing or a row is not a valid clip; the message names file and line.
    """
    for path in paths:
        file = path / "manifest.jsonl" if path.is_dir() else path
        folder = file.parent.resolve()
        for number, row in enumerate(read_jsonl(file), start=1):
            clip = clip_from_json(row, f"{file}:{number}")
            yield dataclasses.replace(clip, path=str(folder / clip.path))


def make_plan(clips: Iterable[Clip], folder: Path, *, shard_mb: float = 768.0, max_s: float = float(WINDOW_S)) -> Plan:
    """Write the plan for `clips` into `folder`, which is emptied first, and return it.

    Args:
        clips: Clips in the order that they shall keep within their source and split.
        folder: The folder to write.
        shard_mb: Size of a shard, estimated from durations; what is left at the end of a split is smaller.
        max_s: Longer clips are cut.

    Raises:
        ConfigError: `shard_mb` is not above 0.
        ManifestError: A clip is invalid, its path is relative, or its id repeats within its source.
        ShardError: There is no clip.
    """
    if not shard_mb > 0:
        raise ConfigError(f"shards: expected shard_mb above 0, found {shard_mb}")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as stack:
        plan = _Planner(folder, stack.enter_context((folder / "dropped.jsonl").open("w", encoding="utf-8")), shard_mb)
        stack.callback(plan.close)
        for clip in clips:
            if not Path(check_clip(clip, "shards").path).is_absolute():
                raise ManifestError(f"shards: clip {clip.id!r}: expected an absolute audio path, found {clip.path!r}")
            plan.add(clip, max_s)
    if not plan.shards:
        found = f"{sum(plan.num_dropped.values())}, all of them dropped (see {folder / 'dropped.jsonl'})"
        raise ShardError(f"expected clips to put into shards, found {found if plan.num_dropped else 'none'}")
    _check_unique(folder, plan)
    shards = sorted(plan.shards, key=lambda shard: (shard.source, split_order(shard.split), shard.name))
    facts = {
        "max_s": max_s,
        "shards": [dataclasses.asdict(shard) for shard in shards],
        "sources": dict(sorted(plan.num_clips.items())),
        "dropped": dict(sorted(plan.num_dropped.items())),
    }
    key = content_hash({"format": FORMAT, "shard_mb": shard_mb, **facts})
    write_json(folder / "plan.json", {"format": FORMAT, "key": key, **facts})
    return read_plan(folder)


def read_plan(folder: Path) -> Plan:
    """Return the plan in `folder`; a ManifestError where there is none."""
    facts = read_json(folder / "plan.json")
    shards = tuple(PlannedShard(**shard) for shard in facts["shards"])
    return Plan(
        key=facts["key"],
        max_s=facts["max_s"],
        shards=shards,
        sources=facts["sources"],
        dropped=facts["dropped"],
    )


def planned_clips(path: Path) -> Iterator[Clip]:
    """Yield the clips of one shard from its file in the plan."""
    for number, row in enumerate(read_jsonl(path), start=1):
        yield clip_from_json(row, f"{path}:{number}")


@dataclass(slots=True)
class _Stream:
    """The shard of a source and split that is being filled."""

    source: str
    split: str
    name: str
    file: TextIO
    digest: Any
    num_clips: int = 0
    duration_s: float = 0.0
    size_bytes: float = 0.0


@dataclass(slots=True)
class _Planner:
    """Spreads clips over shards."""

    folder: Path
    dropped: TextIO
    shard_mb: float
    shards: list[PlannedShard] = field(default_factory=list)
    num_clips: dict[str, int] = field(default_factory=dict)
    num_dropped: dict[str, int] = field(default_factory=dict)
    hashes: array[int] = field(default_factory=lambda: array("Q"))
    """Of all ids; eight bytes each, because there may be ten million."""
    _streams: dict[tuple[str, str], _Stream] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)

    def add(self, clip: Clip, max_s: float) -> None:
        """Put `clip`, or its pieces, into the shards of its source and split."""
        if not _askable(clip.annotation):
            return self._drop(clip, clip.id, _EMPTY)
        pieces = cut(clip, max_s=max_s)
        if isinstance(pieces, Uncuttable):
            return self._drop(clip, pieces.clip_id, pieces.reason)
        for piece in pieces:
            if _askable(piece.annotation):
                self._put(piece)
            else:
                self._list(piece, piece.id, EMPTY_PART)
        return None

    def close(self) -> None:
        """Finish the shards that are not full."""
        for stream in self._streams.values():
            self._finish(stream)
        self._streams.clear()

    def _put(self, clip: Clip) -> None:
        place = (clip.source, clip.split)
        size_bytes = _CLIP_BYTES + clip.duration_s * _FLAC_BYTES_PER_S
        stream = self._streams.get(place)
        if stream is not None and stream.size_bytes + size_bytes > self.shard_mb * 1e6:
            self._finish(stream)
            stream = None
        if stream is None:
            stream = self._streams[place] = self._begin(*place)
        line = json.dumps(clip_to_json(clip), ensure_ascii=False, allow_nan=False) + "\n"
        stream.file.write(line)
        stream.digest.update(line.encode())
        stream.num_clips += 1
        stream.duration_s += clip.duration_s
        stream.size_bytes += size_bytes
        self.hashes.append(clip_hash(clip.source, clip.id))
        self.num_clips[clip.source] = self.num_clips.get(clip.source, 0) + 1

    def _begin(self, source: str, split: str) -> _Stream:
        stem = file_stem(source, split)
        number = self._counts[stem] = self._counts.get(stem, -1) + 1
        name = f"{stem}-{number:06d}"
        file = (self.folder / f"{name}.jsonl").open("w", encoding="utf-8")
        return _Stream(source=source, split=split, name=name, file=file, digest=hashlib.sha256())

    def _finish(self, stream: _Stream) -> None:
        stream.file.close()
        self.shards.append(
            PlannedShard(
                name=stream.name,
                source=stream.source,
                split=stream.split,
                num_clips=stream.num_clips,
                duration_s=round(stream.duration_s, 6),
                sha256=stream.digest.hexdigest(),
            )
        )

    def _drop(self, clip: Clip, clip_id: str, reason: str) -> None:
        self.num_clips[clip.source] = self.num_clips.get(clip.source, 0) + 1
        self.num_dropped[clip.source] = self.num_dropped.get(clip.source, 0) + 1
        self._list(clip, clip_id, reason)

    def _list(self, clip: Clip, clip_id: str, reason: str) -> None:
        row = {"source": clip.source, "id": clip_id, "reason": reason}
        self.dropped.write(json.dumps(row, ensure_ascii=False) + "\n")


def _askable(annotation: Annotation) -> bool:
    return bool(
        annotation.transcript
        or annotation.translations
        or annotation.captions
        or annotation.labels
        or annotation.attributes
        or annotation.events
        or annotation.notes
        or annotation.questions
    )


def _check_unique(folder: Path, plan: _Planner) -> None:
    """Raise if an id occurs twice in its source, naming both files."""
    hashes = np.sort(np.frombuffer(plan.hashes, dtype=np.uint64))
    twice = set(hashes[1:][hashes[1:] == hashes[:-1]].tolist())
    if not twice:
        return
    seen: dict[int, Clip] = {}
    for shard in plan.shards:
        for clip in planned_clips(folder / f"{shard.name}.jsonl"):
            number = clip_hash(clip.source, clip.id)
            if number not in twice:
                continue
            first = seen.setdefault(number, clip)
            if first is not clip:
                raise ManifestError(
                    f"shards: expected ids to be unique within a source, found {first.id!r} of {first.source!r} "
                    f"({first.path}) and {clip.id!r} of {clip.source!r} ({clip.path}): give each clip its own id, and "
                    "each manifest once"
                )
