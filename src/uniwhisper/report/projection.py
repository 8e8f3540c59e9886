"""Embeddings on a plane: what lies near what, for one encoder beside another.

Reads one npz per encoder (`vectors` [N, D], `labels` [N], `task` [N] or one name, `paths` [N], absolute or relative to
the npz; where clips are spans of files or members of tars also `start_s`, `duration_s`, `offset_bytes`, `num_bytes`,
and `ids` to call them by) and places each task's clips with t-SNE after PCA. All encoders show the same clips, and
each map is rotated onto the first, so that a clip is easy to find again. Deterministic. t-SNE keeps neighbourhoods and
not distances; the page says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.neighbours import Recording

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
_SPANS = ("start_s", "duration_s", "offset_bytes", "num_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class Embeddings:
    """One encoder's clip embeddings of all tasks; row i of every field is one clip."""

    file: Path
    vectors: np.ndarray
    labels: tuple[str, ...]
    tasks: tuple[str, ...]
    paths: tuple[str, ...]
    names: tuple[str, ...]
    """What to call each clip: its id, or its path."""
    spans: tuple[tuple[float, float, int, int], ...] = ()
    """Start, duration, first byte and bytes of each clip; empty where every path is a whole file."""

    def recording(self, row: int) -> Recording:
        """Return where a clip's audio lies."""
        path = str(self.file.parent / self.paths[row])  # absolute paths stay as they are
        if not self.spans:
            return Recording(path=path)
        start_s, duration_s, offset_bytes, num_bytes = self.spans[row]
        return Recording(
            path=path, start_s=start_s, duration_s=duration_s, offset_bytes=offset_bytes, num_bytes=num_bytes
        )

    def rows_of(self, task: str) -> dict[tuple[str, str, int], int]:
        """Return the row of each clip of `task`; a clip is its name, label and how often both came before."""
        seen: dict[tuple[str, str], int] = {}
        rows: dict[tuple[str, str, int], int] = {}
        for row, (of, name, label) in enumerate(zip(self.tasks, self.names, self.labels, strict=True)):
            if of != task:
                continue
            count = seen.get((name, label), 0)
            seen[name, label] = count + 1
            rows[name, label, count] = row
        return rows


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """A clip on the maps of its task."""

    name: str
    """Its id or its path."""
    recording: Recording
    """Where the audio should be."""
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
            names = arrays.get("ids", paths)
            spans = [arrays[key] for key in _SPANS if key in arrays]
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
    if spans and len(spans) != len(_SPANS):
        raise ReportError(f"expected all of {', '.join(_SPANS)} in {file} or none, found {len(spans)} of them")
    columns = [("labels", labels), ("task", tasks), ("paths", paths), ("ids", names)]
    for key, array in (*columns, *zip(_SPANS, spans, strict=False)):
        if array.shape != (count,):
            raise ReportError(f"expected {count} {key} in {file}, one per vector, found shape {list(array.shape)}")
    return Embeddings(
        file=file,
        vectors=vectors.astype(np.float32),
        labels=tuple(map(str, labels)),
        tasks=tuple(map(str, tasks)),
        paths=tuple(map(str, paths)),
        names=tuple(map(str, names)),
        spans=tuple(
            (float(start_s), float(duration_s), int(offset_bytes), int(num_bytes))
            for start_s, duration_s, offset_bytes, num_bytes in zip(*spans, strict=True)
        ),
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
    source, of = next((encoder, one) for encoder, one in zip(encoders, rows, strict=True) if one)
    points = tuple(Point(name=clip[0], recording=source.recording(of[clip]), label=clip[1]) for clip in chosen)
    return TaskMap(task=task, points=points, num_clips=len(clips), places=tuple(places))
