"""Keep some test clips' embeddings for the maps that a report draws.

Writes and reads: `embeddings.npz` with `vectors` float32 [N, D] and, [N] each, `labels`, `task`, `ids`, and where the
audio lies: `paths` (absolute, so that a page finds it), `start_s`, `duration_s`, `offset_bytes`, `num_bytes` as in a
clip; up to 1000 test clips a task.
Guarantees: the choice depends on the task alone, so two encoders judged on one table keep the same clips.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from uniwhisper.evaluate.neighbours import Recording
from uniwhisper.evaluate.tables import LABEL_SEPARATOR
from uniwhisper.evaluate.task import Task
from uniwhisper.files import atomic_path

__all__ = ["FILE_NAME", "MapClips", "read_map_clips", "sample_clips", "write_map_clips"]

FILE_NAME = "embeddings.npz"
_PLACE = {field.name if field.name != "path" else "paths": field.name for field in fields(Recording)}
MAX_CLIPS = 1000
"""Clips kept a task; a map with more points shows no more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MapClips:
    """One task's kept clips."""

    task: str
    vectors: np.ndarray
    labels: tuple[str, ...]
    ids: tuple[str, ...]
    recordings: tuple[Recording, ...]


def sample_clips(task: Task, test: np.ndarray, vectors: np.ndarray) -> MapClips:
    """Return up to `MAX_CLIPS` of the task's test clips, the same ones every time.

    Args:
        task: The task.
        test: Row indices of its test clips.
        vectors: Embeddings of all its clips [N, D].
    """
    rows = np.sort(np.random.default_rng(0).permutation(np.sort(test))[:MAX_CLIPS])
    return MapClips(
        task=task.name,
        vectors=vectors[rows],
        labels=tuple(LABEL_SEPARATOR.join(task.labels[i]) for i in rows),
        ids=tuple(task.ids[i] for i in rows),
        recordings=tuple(Recording.of(task.clips[i]) for i in rows),
    )


def write_map_clips(folder: Path, tasks: Sequence[MapClips]) -> None:
    """Write the kept clips of all tasks to `embeddings.npz` in `folder`; without tasks, remove the file."""
    path = folder / FILE_NAME
    if not tasks:
        path.unlink(missing_ok=True)
        return
    places = [one for clips in tasks for one in clips.recordings]
    columns: dict[str, Any] = {
        "vectors": np.concatenate([clips.vectors for clips in tasks]),
        "labels": np.array([label for clips in tasks for label in clips.labels]),
        "task": np.array([clips.task for clips in tasks for _ in clips.labels]),
        "ids": np.array([id for clips in tasks for id in clips.ids]),
    }
    columns |= {column: np.array([getattr(one, field) for one in places]) for column, field in _PLACE.items()}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **columns)


def read_map_clips(folder: Path) -> list[MapClips]:
    """Return the kept clips in `folder`, by task; none where the file is missing or not ours: it can be made again."""
    try:
        with (folder / FILE_NAME).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            vectors, labels, tasks, ids = (arrays[name] for name in ("vectors", "labels", "task", "ids"))
            columns = {field: arrays[column].tolist() for column, field in _PLACE.items()}
    except (OSError, KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        return []
    places = [Recording(**dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]
    return [
        MapClips(
            task=name,
            vectors=vectors[tasks == name],
            labels=tuple(labels[tasks == name].tolist()),
            ids=tuple(ids[tasks == name].tolist()),
            recordings=tuple(places[i] for i in np.flatnonzero(tasks == name)),
        )
        for name in dict.fromkeys(tasks.tolist())
    ]
