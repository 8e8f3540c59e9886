"""Making a shard set: plan, write every shard on an engine, join the rows, mark done.

Reads clips and their audio; writes the folder that the package's docstring describes, `DONE` last. A run that was
stopped continues where it was; a finished folder of the same clips and settings is left alone.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniwhisper.audio import WINDOW_S
from uniwhisper.engine import EngineKind, map_tasks
from uniwhisper.errors import ConfigError, ManifestError, ShardError
from uniwhisper.files import is_done, mark_done, read_json, read_jsonl, write_json, write_jsonl
from uniwhisper.shards.plan import EMPTY_PART, FORMAT, SEARCHES, Plan, make_plan, read_plan
from uniwhisper.shards.table import write_arrays, write_joined
from uniwhisper.shards.writing import (
    ShardRecord,
    ShardTask,
    clear_leftovers,
    finished,
    too_many_dropped,
    writable,
    write_shard,
)
from uniwhisper.types import Clip

__all__ = ["Sharding", "SourceTally", "finish_shards", "plan_shards", "shard_tasks", "write_shards"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceTally:
    """What a set holds of one source."""

    num_clips: int
    hours: float
    num_bytes: int
    """Of its tars."""
    num_dropped: int
    """Rows of `dropped.jsonl`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sharding:
    """A finished shard set."""

    folder: Path
    key: str
    """Hash of the clips and settings that it was made from."""
    num_shards: int
    sources: dict[str, SourceTally]
    reused: bool
    """Whether the folder was finished already and nothing was done."""


def write_shards(
    clips: Iterable[Clip],
    folder: Path,
    *,
    shard_mb: float = 768.0,
    max_s: float = float(WINDOW_S),
    tolerance: float = 0.01,
    workers: int = 0,
    engine: EngineKind = "local",
    rebuild: bool = False,
    searches: Sequence[str] = (),
) -> Sharding:
    """Put `clips` into shards in `folder`, and return what became of them.

    The same clips in the same order give the same bytes, whatever the engine, the number of workers, or how often the
    run was stopped in between. Of a folder with other clips, shards that would hold what they hold now are kept.

    Args:
        clips: Clips with absolute paths, in any order; they keep it within their source and split.
        folder: The folder to write; every worker has to see it.
        shard_mb: Size of a shard, estimated from durations. Half a gigabyte to one is usual.
        max_s: Longer clips are cut (`cutting.py`).
        tolerance: The share of a source's clips that may be dropped: audio that cannot be read, recordings that cannot
            be cut, clips about which nothing can be asked. All of them are listed in `dropped.jsonl`.
        workers: Processes; 0 takes one per CPU.
        engine: `local` or `ray`.
        rebuild: Replace a set of other clips.
        searches: Keys of the searches for leakage that the clips went through (`dedup.leakage.search_key`); kept with
            the set, so that an encoder trained on it can say what it was trained without.

    Raises:
        ConfigError: A setting is out of range.
        ManifestError: A clip is invalid, or its id repeats within its source.
        ShardError: The folder holds a set of other clips, a file cannot be written, or too many clips are dropped.
    """
    limits = {"shard_mb": shard_mb, "max_s": max_s, "tolerance": tolerance}
    plan = plan_shards(clips, folder, **limits, rebuild=rebuild, searches=searches)
    if is_done(folder, plan.key):
        return dataclasses.replace(_summary(folder), reused=True)
    tasks = [
        task
        for task in shard_tasks(folder, tolerance=tolerance)
        if finished(folder, task.name, task.plan_sha256) is None
    ]
    names = {task.name for task in tasks}
    total = sum(shard.num_clips for shard in plan.shards if shard.name in names)
    for _ in map_tasks(
        write_shard, tasks, workers=workers, kind=engine, label="shards", unit="clips", amount=_num_clips, total=total
    ):
        pass
    return finish_shards(folder, tolerance=tolerance)


def plan_shards(
    clips: Iterable[Clip],
    folder: Path,
    *,
    shard_mb: float = 768.0,
    max_s: float = float(WINDOW_S),
    tolerance: float = 0.01,
    rebuild: bool = False,
    searches: Sequence[str] = (),
) -> Plan:
    """Prepare `folder` for the shards of `clips`, and return the plan; the first step of `write_shards`.

    Where shards are written by other means (one job of a cluster's array each), `shard_tasks` says what to run
    `writing.write_shard` on, and `finish_shards` comes last.

    Raises:
        ConfigError: A setting is out of range.
        ManifestError: A clip is invalid, or its id repeats within its source.
        ShardError: The folder holds a set of other clips, a file cannot be written, or too many clips are dropped.
    """
    if not 0 <= tolerance <= 1:
        raise ConfigError(f"shards: expected a tolerance from 0 to 1, found {tolerance}")
    draft = folder / "plan.part"
    with writable(folder):
        plan = make_plan(clips, draft, shard_mb=shard_mb, max_s=max_s)
        before = _key_of(folder)
        if is_done(folder, plan.key) and _intact(folder):
            shutil.rmtree(draft)
            write_json(folder / SEARCHES, sorted(set(searches)))
            return plan
        if before not in ("", plan.key) and not rebuild:
            shutil.rmtree(draft)
            raise ShardError(
                f"expected {folder} to be empty or to hold shards of the same clips and settings ({plan.key[:8]}), "
                f"found a set of others ({before[:8]}): give another folder, or replace the set (--rebuild)"
            )
        (folder / "DONE").unlink(missing_ok=True)  # from here on the folder is half old, half new
        shutil.rmtree(folder / "plan", ignore_errors=True)
        draft.rename(folder / "plan")
        clear_leftovers(folder)
        _remove_others(folder, plan)
        write_json(folder / SEARCHES, sorted(set(searches)))
    for source, count in plan.dropped.items():
        allowed = _allowed(plan, source, tolerance)
        if count > allowed:
            listed = read_jsonl(folder / "plan" / "dropped.jsonl")
            mine = [row for row in listed if row["source"] == source and row["reason"] != EMPTY_PART]
            raise too_many_dropped(source, allowed, mine)
    return plan


def shard_tasks(folder: Path, *, tolerance: float = 0.01) -> list[ShardTask]:
    """Return one task per shard of the plan in `folder`; a ManifestError where there is no plan."""
    plan = read_plan(folder / "plan")
    return [
        ShardTask(
            folder=str(folder.resolve()),
            name=shard.name,
            plan_sha256=shard.sha256,
            max_s=plan.max_s,
            max_dropped=_allowed(plan, shard.source, tolerance) - plan.dropped.get(shard.source, 0),
        )
        for shard in plan.shards
    ]


def finish_shards(folder: Path, *, tolerance: float = 0.01) -> Sharding:
    """Join the rows of all shards into manifest, index and summary, and mark the set done.

    Raises:
        ManifestError: There is no plan.
        ShardError: A shard is not written yet, no clip is left, or more clips of a source were dropped than
            `tolerance` allows; the shards that lost clips are then forgotten, so that the next run reads them again.
    """
    plan = read_plan(folder / "plan")
    records: list[ShardRecord] = []
    for shard in plan.shards:
        record = finished(folder, shard.name, shard.sha256)
        if record is None:
            raise ShardError(f"expected the finished shard {folder / shard.name}.tar, found none: write it first")
        records.append(record)
    _check_dropped(folder, plan, records, tolerance)
    with writable(folder):
        journal = [folder / "journal" / f"{record.name}.parquet" for record in records]
        manifest = folder / "manifest.parquet"
        write_joined(journal, manifest)
        write_arrays(manifest, folder, [f"{record.name}.tar" for record in records])
        planned = read_jsonl(folder / "plan" / "dropped.jsonl")
        write_jsonl(folder / "dropped.jsonl", itertools.chain(planned, *(record.dropped for record in records)))
        write_json(folder / "shards.json", _facts(plan, records))
        clear_leftovers(folder)
        shutil.rmtree(folder / "plan")
        mark_done(folder, plan.key)
    return _summary(folder)


def _num_clips(record: ShardRecord) -> float:
    return float(record.num_clips)


def _key_of(folder: Path) -> str:
    """Return the key of the set that `folder` holds, finished or not; empty where there is none."""
    if (folder / "DONE").is_file():
        return (folder / "DONE").read_text(encoding="utf-8").strip()
    # Of a set that is being replaced the plan is newer than the summary.
    for path in (folder / "plan" / "plan.json", folder / "shards.json"):
        if path.is_file():
            return str(read_json(path)["key"])
    return ""


def _intact(folder: Path) -> bool:
    """Return whether every shard of a finished set is there with its size."""
    try:
        shards = read_json(folder / "shards.json")["shards"]
        return all((folder / shard["name"]).stat().st_size == shard["num_bytes"] for shard in shards)
    except (OSError, ManifestError):
        return False


def _remove_others(folder: Path, plan: Plan) -> None:
    """Remove the shards of an earlier plan that this one does not have; files that no journal names are left alone."""
    planned = {shard.name for shard in plan.shards}
    for record in sorted((folder / "journal").glob("*.json")):
        if record.stem not in planned:
            (folder / f"{record.stem}.tar").unlink(missing_ok=True)
            record.with_suffix(".parquet").unlink(missing_ok=True)
            record.unlink()


def _allowed(plan: Plan, source: str, tolerance: float) -> int:
    """Return how many clips of `source` may be dropped."""
    return math.floor(tolerance * plan.sources[source] + 1e-9)


def _check_dropped(folder: Path, plan: Plan, records: Sequence[ShardRecord], tolerance: float) -> None:
    by_source: dict[str, list[Mapping[str, str]]] = {}
    for record in records:
        for row in record.dropped:
            by_source.setdefault(row["source"], []).append(row)
    for source, dropped in by_source.items():
        allowed = _allowed(plan, source, tolerance) - plan.dropped.get(source, 0)
        if len(dropped) > allowed:
            for record in records:
                if record.dropped and record.dropped[0]["source"] == source:
                    (folder / "journal" / f"{record.name}.json").unlink()
            raise too_many_dropped(source, allowed, dropped)
    if not any(record.num_clips for record in records):
        raise ShardError(f"expected clips with audio that can be read, found none of {sum(plan.sources.values())}")


def _facts(plan: Plan, records: Sequence[ShardRecord]) -> dict[str, Any]:
    """Return the content of `shards.json`: shards in the order of the rows, and where their rows begin."""
    shards: list[dict[str, Any]] = []
    first_row = 0
    for shard, record in zip(plan.shards, records, strict=True):
        shards.append(
            {
                "name": f"{record.name}.tar",
                "source": shard.source,
                "split": shard.split,
                "first_row": first_row,
                "num_clips": record.num_clips,
                "duration_s": record.duration_s,
                "num_bytes": record.num_bytes,
                "sha256": record.sha256,
            }
        )
        first_row += record.num_clips
    return {"format": FORMAT, "key": plan.key, "shards": shards}


def _summary(folder: Path) -> Sharding:
    """Return what the finished set in `folder` holds."""
    facts = read_json(folder / "shards.json")
    dropped: dict[str, int] = {}
    for row in read_jsonl(folder / "dropped.jsonl"):
        dropped[row["source"]] = dropped.get(row["source"], 0) + 1
    sources: dict[str, SourceTally] = {}
    for name in sorted({shard["source"] for shard in facts["shards"]} | dropped.keys()):
        mine = [shard for shard in facts["shards"] if shard["source"] == name]
        sources[name] = SourceTally(
            num_clips=sum(shard["num_clips"] for shard in mine),
            hours=sum(shard["duration_s"] for shard in mine) / 3600,
            num_bytes=sum(shard["num_bytes"] for shard in mine),
            num_dropped=dropped.get(name, 0),
        )
    return Sharding(folder=folder, key=facts["key"], num_shards=len(facts["shards"]), sources=sources, reused=False)
