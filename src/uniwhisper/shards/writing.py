"""Writing shards: read audio, encode FLAC, append to tars; one independent and repeatable task per shard.

Reads the plan and the clips' audio; writes for every shard the tar, then `journal/<shard>.parquet`, and last
`journal/<shard>.json`, which says that the shard is finished, by which plan, how large it is and what was dropped. Each
file appears whole or not at all. Guarantees: the bytes depend on plan and audio alone (and on the libraries that
encode them), so a run that was killed and started again ends in the same files as one that was not; a finished shard
is not read again; a clip that cannot be read is listed, and too many of them stop the run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.clips import read_clip
from uniwhisper.cutting import part
from uniwhisper.errors import AudioError, ManifestError, ShardError, UniWhisperError
from uniwhisper.files import atomic_path, read_json, write_json
from uniwhisper.shards.members import TAR_END, Member, pack, padded, tar_header, to_pcm
from uniwhisper.shards.plan import planned_clips
from uniwhisper.shards.table import write_rows
from uniwhisper.types import Clip

__all__ = ["ShardRecord", "ShardTask", "clear_leftovers", "finished", "too_many_dropped", "writable", "write_shard"]

_END_TOLERANCE_S = 0.05
_END_TOLERANCE = 0.02
"""Audio may be longer than its clip says by so much, absolute or relative: as `clips.read_clip` has it for shorter."""
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardTask:
    """Everything that writing one shard takes; small, because it travels to worker processes."""

    folder: str
    """The folder of the set, with its plan."""
    name: str
    plan_sha256: str
    max_s: float
    max_dropped: int
    """More dropped clips than this, which is what the whole source may lose, stop the run at once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ShardRecord:
    """What the journal says about a finished shard."""

    name: str
    plan_sha256: str
    num_clips: int
    duration_s: float
    num_bytes: int
    """Size of the tar."""
    sha256: str
    """Of the tar."""
    dropped: tuple[dict[str, str], ...]
    """Clips that were left out: `source`, `id`, `reason`."""


def finished(folder: Path, name: str, plan_sha256: str) -> ShardRecord | None:
    """Return the record of a shard that was finished by this plan and whose files are there, else None."""
    try:
        row = read_json(folder / "journal" / f"{name}.json")
        record = ShardRecord(**{**row, "dropped": tuple(row["dropped"])})
        there = (folder / f"{name}.tar").stat().st_size
    except (ManifestError, OSError, TypeError, KeyError):
        return None
    rows = folder / "journal" / f"{name}.parquet"
    done = record.plan_sha256 == plan_sha256 and record.num_bytes == there and rows.is_file()
    return record if done else None


def write_shard(task: ShardTask) -> ShardRecord:
    """Write one shard of a planned set, unless it is finished already, and return its record.

    Shards are independent of each other: any number of processes or machines that see the folder may write different
    ones at the same time.

    Raises:
        ShardError: The shard cannot be written (disk full, no permission), its plan is missing or is another one, or
            more clips cannot be read than the source may lose.
    """
    folder = Path(task.folder)
    record = finished(folder, task.name, task.plan_sha256)
    if record is not None:
        return record
    plan = folder / "plan" / f"{task.name}.jsonl"
    tar = folder / f"{task.name}.tar"
    journal = folder / "journal"
    with writable(tar):
        _check_plan(plan, task.plan_sha256)
        with atomic_path(tar) as temporary, temporary.open("wb") as file:
            written = _Tar(file)
            for clip in planned_clips(plan):
                _add(written, clip, task)
            written.end()
        record = ShardRecord(
            name=task.name,
            plan_sha256=task.plan_sha256,
            num_clips=len(written.rows),
            duration_s=round(sum(row["duration_s"] for row in written.rows), 6),
            num_bytes=written.num_bytes,
            sha256=written.digest.hexdigest(),
            dropped=tuple(written.dropped),
        )
        write_rows(journal / f"{task.name}.parquet", [{**row, "shard": tar.name} for row in written.rows])
        write_json(journal / f"{task.name}.json", dataclasses.asdict(record))
    return record


@contextlib.contextmanager
def writable(path: Path) -> Iterator[None]:
    """Turn a failure of the file system while `path` is made into a ShardError that says what to do.

    Raises:
        ShardError: The block raised an OSError.
    """
    try:
        yield
    except OSError as e:
        raise ShardError(
            f"expected to write {path}, found: {e.strerror or e}{f' ({e.filename})' if e.filename else ''}. Make room "
            "or give a folder that can be written, then run the same command again: finished shards are kept"
        ) from e


def clear_leftovers(folder: Path) -> None:
    """Remove the half-written files that a killed run left in the set's folder and its journal."""
    for place in (folder, folder / "journal"):
        for path in place.glob(".*.part"):
            path.unlink(missing_ok=True)


class _Tar:
    """A tar that grows by two members a clip, and the rows that describe it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.num_bytes = 0
        self.digest = hashlib.sha256()
        self.rows: list[dict[str, Any]] = []
        self.dropped: list[dict[str, str]] = []

    def add(self, member: Member) -> None:
        """Append the clip's two files and note where they lie."""
        offset_bytes = self._file_member(f"{member.key}.flac", member.flac)
        json_offset_bytes = self._file_member(f"{member.key}.json", member.text)
        place = {
            "key": member.key,
            "offset_bytes": offset_bytes,
            "num_bytes": len(member.flac),
            "json_offset_bytes": json_offset_bytes,
            "json_num_bytes": len(member.text),
            "json_crc32": zlib.crc32(member.text),
            "upstream_ids": json.loads(member.row["upstream_ids"]),
        }
        self.rows.append({**member.row, **place})

    def end(self) -> None:
        """Append what ends a tar."""
        self._write(TAR_END)
        self._file.flush()

    def _file_member(self, name: str, data: bytes) -> int:
        self._write(tar_header(name, len(data)))
        offset_bytes = self.num_bytes
        self._write(data + bytes(padded(len(data)) - len(data)))
        return offset_bytes

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self.digest.update(data)
        self.num_bytes += len(data)


def _check_plan(plan: Path, sha256: str) -> None:
    found = hashlib.sha256(plan.read_bytes()).hexdigest()
    if found != sha256:
        raise ShardError(f"expected the plan {plan} with sha256 {sha256}, found {found}: plan the set again")


def _add(tar: _Tar, clip: Clip, task: ShardTask) -> None:
    """Append `clip`, or list why it cannot be read."""
    try:
        member = _packed(clip, task.max_s)
    except (AudioError, OSError) as e:
        tar.dropped.append({"source": clip.source, "id": clip.id, "reason": str(e)})
        if len(tar.dropped) > task.max_dropped:
            raise too_many_dropped(clip.source, task.max_dropped, tar.dropped) from e
    except UniWhisperError:
        raise
    except Exception as e:
        raise ShardError(f"{task.name}: clip {clip.id!r} of {clip.source!r} ({clip.path}): {e!r}") from e
    else:
        tar.add(member)


def too_many_dropped(source: str, allowed: int, dropped: Sequence[Mapping[str, str]]) -> ShardError:
    """Return the error for a source that loses more clips than it may, with the last few reasons."""
    reasons = "; ".join(row["reason"] for row in dropped[-_SHOWN:])
    return ShardError(
        f"{source}: expected to drop at most {allowed} clips, found {len(dropped)} or more: {reasons}. Repair the "
        "corpus and run again, or allow more (--tolerance)"
    )


def _packed(clip: Clip, max_s: float) -> Member:
    wave = read_clip(clip)
    limit_s = clip.duration_s + max(_END_TOLERANCE_S, _END_TOLERANCE * clip.duration_s)
    if len(wave) > limit_s * SAMPLE_RATE:
        raise AudioError(
            f"clip {clip.id!r} of {clip.source!r}: expected {clip.duration_s:.3f} s in {clip.path}, found "
            f"{len(wave) / SAMPLE_RATE:.3f} s: the file is not the one that was converted"
        )
    pcm = to_pcm(wave[: round(max_s * SAMPLE_RATE)])
    return pack(_clipped(clip, len(pcm) / SAMPLE_RATE), pcm)


def _clipped(clip: Clip, duration_s: float) -> Clip:
    """Return `clip` with its duration as found, and no time beyond it."""
    items = (*clip.annotation.events, *clip.annotation.notes)
    late = any(item.offset_s > duration_s for item in items)
    annotation = part(clip.annotation, 0.0, duration_s) if late else clip.annotation
    return dataclasses.replace(clip, duration_s=duration_s, annotation=annotation)
