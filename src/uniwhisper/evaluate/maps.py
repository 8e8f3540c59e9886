"""Keep some test clips' embeddings for the maps that a report draws.

Writes and reads: `embeddings.npz` with `vectors` float32 [N, D], `labels` [N], `task` [N] and `paths` [N] (absolute, so
that a page finds the audio); up to 1000 test clips a task.
Guarantees: the choice depends on the task alone, so two encoders judged on one table keep the same clips.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from uniwhisper.evaluate.tables import LABEL_SEPARATOR, Task
from uniwhisper.files import atomic_path

__all__ = ["FILE_NAME", "MapClips", "read_map_clips", "sample_clips", "write_map_clips"]

FILE_NAME = "embeddings.npz"
MAX_CLIPS = 1000
"""Clips kept a task; a map with more points shows no more."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class MapClips:
    """One task's kept clips."""

    task: str
    vectors: np.ndarray
    labels: tuple[str, ...]
    paths: tuple[str, ...]


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
        paths=tuple(task.paths[i].resolve().as_posix() for i in rows),
    )


def write_map_clips(folder: Path, tasks: Sequence[MapClips]) -> None:
    """Write the kept clips of all tasks to `embeddings.npz` in `folder`; without tasks, remove the file."""
    path = folder / FILE_NAME
    if not tasks:
        path.unlink(missing_ok=True)
        return
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            vectors=np.concatenate([clips.vectors for clips in tasks]),
            labels=np.array([label for clips in tasks for label in clips.labels]),
            task=np.array([clips.task for clips in tasks for _ in clips.labels]),
            paths=np.array([path for clips in tasks for path in clips.paths]),
        )


def read_map_clips(folder: Path) -> list[MapClips]:
    """Return the kept clips in `folder`, by task; none where the file is missing or not ours: it can be made again."""
    try:
        with (folder / FILE_NAME).open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            vectors, labels, tasks, paths = (arrays[name] for name in ("vectors", "labels", "task", "paths"))
    except (OSError, KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile):
        return []
    return [
        MapClips(
            task=str(name),
            vectors=vectors[tasks == name],
            labels=tuple(labels[tasks == name].tolist()),
            paths=tuple(paths[tasks == name].tolist()),
        )
        for name in dict.fromkeys(tasks.tolist())
    ]
