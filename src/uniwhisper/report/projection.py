"""Embeddings on a plane: what lies near what, for one encoder beside another.

Reads one npz per encoder (`vectors` [N, D], `labels` [N], `task` [N] or one name, `paths` [N], absolute or relative to
the npz) and places each task's clips with t-SNE after PCA. All encoders show the same clips, and each map is rotated
onto the first, so that a clip is easy to find again. Deterministic. t-SNE keeps neighbourhoods and not distances; the
page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from uniwhisper.errors import ReportError

__all__ = ["FRAME", "MAX_CLIPS", "Embeddings", "Point", "TaskMap", "project", "read_embeddings", "task_maps"]

MAX_CLIPS = 600
"""Most clips of a task on its map."""
FRAME = 1000
"""Width and height of a map in drawing units."""
_MARGIN = 40
_NUM_COMPONENTS = 50
_PERPLEXITY = 30.0  # scikit-learn's default
_MIN_TSNE_CLIPS = 12
_MAX_ITERATIONS = 600
_KEYS = ("vectors", "labels", "task", "paths")


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeddings:
    """One encoder's clip embeddings of all tasks; row i of every field is one clip."""

    file: Path
    vectors: np.ndarray
    labels: tuple[str, ...]
    tasks: tuple[str, ...]
    paths: tuple[str, ...]

    def rows_of(self, task: str) -> dict[tuple[str, str, int], int]:
        """Return the row of each clip of `task`; a clip is its path, label and how often both came before."""
        seen: dict[tuple[str, str], int] = {}
        rows: dict[tuple[str, str, int], int] = {}
        for row, (name, path, label) in enumerate(zip(self.tasks, self.paths, self.labels, strict=True)):
            if name != task:
                continue
            count = seen.get((path, label), 0)
            seen[path, label] = count + 1
            rows[path, label, count] = row
        return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A clip on the maps of its task."""

    path: str
    file: Path
    """Where the audio should be: `path`, or `path` under the folder of the embeddings."""
    label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskMap:
    """One task's clips as points, with their place on each encoder's map."""

    task: str
    points: tuple[Point, ...]
    num_clips: int
    """Clips with embeddings, of which `points` may be a sample."""
    places: tuple[np.ndarray | None, ...]
    """Integers [len(points), 2] in 0 .. `FRAME` per encoder; None where the encoder has no embeddings of the task."""


def read_embeddings(file: Path) -> Embeddings:
    """Return the embeddings in an npz file.

    Raises:
        ReportError: The file is missing, not an npz, lacks an array, or its arrays do not fit together.
    """
    try:
        with np.load(file, allow_pickle=False) as arrays:
            missing = [key for key in _KEYS if key not in arrays]
            if missing:
                raise ReportError(f"expected arrays {', '.join(_KEYS)} in {file}, found no {', '.join(missing)}")
            vectors, labels, task, paths = (arrays[key] for key in _KEYS)
    except (
        OSError,
        ValueError,
        EOFError,
        AttributeError,
        TypeError,
    ) as e:  # what numpy raises on a file of another kind
        raise ReportError(f"expected an npz of embeddings without pickled objects at {file}, found: {e}") from e
    if vectors.ndim != 2 or not np.issubdtype(vectors.dtype, np.number) or not np.isfinite(vectors).all():
        raise ReportError(f"expected finite vectors [N, D] in {file}, found {vectors.dtype} {list(vectors.shape)}")
    count = len(vectors)
    tasks = np.full(count, str(task)) if task.ndim == 0 else task
    for key, array in (("labels", labels), ("task", tasks), ("paths", paths)):
        if array.shape != (count,):
            raise ReportError(f"expected {count} {key} in {file}, one per vector, found shape {list(array.shape)}")
    return Embeddings(
        file=file,
        vectors=vectors.astype(np.float32),
        labels=tuple(map(str, labels)),
        tasks=tuple(map(str, tasks)),
        paths=tuple(map(str, paths)),
    )


def project(vectors: np.ndarray) -> np.ndarray:
    """Return a place on the plane for each vector, float64 [N, 2].

    Vectors are brought to length 1 (the kNN score compares directions), reduced to at most 50 principal components,
    then placed by t-SNE; fewer than 12 vectors are placed by their first two principal components.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float64)
    places = np.zeros((len(unit), 2))
    if len(unit) < 2 or np.ptp(unit, axis=0).max() == 0:
        return places
    size = min(_NUM_COMPONENTS, len(unit) - 1, unit.shape[1])
    reduced = PCA(size, svd_solver="full").fit_transform(unit)
    if len(unit) < _MIN_TSNE_CLIPS or size < 2:
        places[:, : min(size, 2)] = reduced[:, :2]
        return places
    perplexity = min(_PERPLEXITY, (len(unit) - 1) / 3)
    # The starting places are scikit-learn's own choice (PCA, scaled to 1e-4), given explicitly to keep them fixed.
    start = reduced[:, :2] / reduced[:, 0].std() * 1e-4
    tsne = TSNE(2, perplexity=perplexity, init=start, random_state=0, max_iter=_MAX_ITERATIONS, n_jobs=1)
    return tsne.fit_transform(reduced).astype(np.float64)


def _turn_onto(places: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Rotate or mirror `places` so that they lie closest to `target` (orthogonal Procrustes): distances stay."""
    centred, aim = places - places.mean(axis=0), target - target.mean(axis=0)
    left, _, right = np.linalg.svd(centred.T @ aim)
    return centred @ (left @ right)


def _framed(places: np.ndarray) -> np.ndarray:
    low, high = places.min(axis=0), places.max(axis=0)
    scale = (FRAME - 2 * _MARGIN) / max(float((high - low).max()), 1e-12)
    return np.rint((places - (low + high) / 2) * scale + FRAME / 2).astype(int)


def _sample(labels: Sequence[str], limit: int) -> list[int]:
    """Return at most `limit` positions, as even over the labels as they allow; the same ones every time."""
    queues: dict[str, list[int]] = {}
    for i in np.random.default_rng(0).permutation(len(labels)).tolist():
        queues.setdefault(str(labels[i]), []).append(i)
    turns = sorted((turn, label, i) for label, queue in queues.items() for turn, i in enumerate(queue))
    return sorted(i for _, _, i in turns[:limit])


def task_maps(encoders: Sequence[Embeddings], *, limit: int = MAX_CLIPS) -> list[TaskMap]:
    """Return a map of every task, in the order in which the embeddings name them.

    Raises:
        ReportError: Two encoders have embeddings of a task but no clip in common.
    """
    return [_task_map(task, encoders, limit) for task in dict.fromkeys(t for e in encoders for t in e.tasks)]


def _task_map(task: str, encoders: Sequence[Embeddings], limit: int) -> TaskMap:
    rows = [encoder.rows_of(task) for encoder in encoders]
    having = [one for one in rows if one]
    clips = [clip for clip in having[0] if all(clip in one for one in having)]
    if not clips:
        files = " and ".join(str(e.file) for e, one in zip(encoders, rows, strict=True) if one)
        raise ReportError(f"expected the same clips of task {task} in {files}, found none in common; embed them again")
    chosen = [clips[i] for i in _sample([label for _, label, _ in clips], limit)]
    places: list[np.ndarray | None] = []
    first: np.ndarray | None = None
    for encoder, one in zip(encoders, rows, strict=True):
        if not one:
            places.append(None)
            continue
        flat = project(encoder.vectors[[one[clip] for clip in chosen]])
        flat = flat if first is None else _turn_onto(flat, first)
        first = flat if first is None else first
        places.append(_framed(flat))
    folder = next(
        e.file for e, one in zip(encoders, rows, strict=True) if one
    ).parent  # absolute paths stay as they are
    points = tuple(Point(path=path, file=folder / path, label=label) for path, label, _ in chosen)
    return TaskMap(task=task, points=points, num_clips=len(clips), places=tuple(places))
