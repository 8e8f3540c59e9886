"""Keep what the kNN got wrong and whose neighbours misled it, so that a report can play them side by side.

Writes and reads: `neighbours.jsonl`, one task a line: `task`, `num_clips`, `num_wrong` and `errors`, each with the
clip, its right labels, the class that won the vote, and the nearest clips of the gallery with their similarity. A clip
is its place on disk (`path`, `start_s`, `duration_s`, `offset_bytes`, `num_bytes`), so that any reader finds the audio.
Guarantees: which errors are kept is spread over the right classes and depends on the task and on what was wrong alone,
so two encoders that fail on a clip both show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uniwhisper.errors import ManifestError, ReportError
from uniwhisper.evaluate.task import Task
from uniwhisper.files import read_jsonl, write_jsonl
from uniwhisper.types import Annotation, Clip

__all__ = [
    "FILE_NAME",
    "MAX_ERRORS",
    "NUM_NEIGHBOURS",
    "Errors",
    "Neighbour",
    "Recording",
    "WrongClip",
    "read_errors",
    "sample_errors",
    "write_errors",
]

FILE_NAME = "neighbours.jsonl"
MAX_ERRORS = 40
"""Errors kept a task."""
NUM_NEIGHBOURS = 3
"""Neighbours kept an error."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """Where a clip's audio lies; two clips of one span of one file are equal."""

    path: str
    """Absolute, or relative to the folder of whoever wrote it down."""
    start_s: float = 0.0
    duration_s: float = 0.0
    """0: to the end of the file."""
    offset_bytes: int = 0
    num_bytes: int = 0
    """0: `path` is the audio file itself."""

    @classmethod
    def of(cls, clip: Clip) -> Recording:
        """Return where a clip's audio lies."""
        return cls(
            path=clip.path,
            start_s=clip.start_s,
            duration_s=clip.duration_s,
            offset_bytes=clip.offset_bytes,
            num_bytes=clip.num_bytes,
        )

    def clip(self) -> Clip:
        """Return a clip that `clips.read_clip` reads; only its place is meant."""
        return Clip(id=self.path, source="", split="test", domain="sound", annotation=Annotation(), **asdict(self))


@dataclass(frozen=True, kw_only=True, slots=True)
class Neighbour:
    """A clip of the gallery."""

    id: str
    recording: Recording
    labels: tuple[str, ...]
    similarity: float
    """Cosine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WrongClip:
    """A test clip whose vote was won by a class that it does not have."""

    id: str
    recording: Recording
    labels: tuple[str, ...]
    """The right ones."""
    guess: str
    neighbours: tuple[Neighbour, ...]
    """The nearest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Errors:
    """One task's kept errors."""

    task: str
    num_clips: int
    """Test clips that were judged."""
    num_wrong: int
    """Of them wrong; `errors` holds a sample."""
    errors: tuple[WrongClip, ...]


def sample_errors(
    task: Task,
    rows: np.ndarray,
    truth: np.ndarray,
    guesses: np.ndarray,
    neighbour_rows: np.ndarray,
    similarities: np.ndarray,
    *,
    limit: int = MAX_ERRORS,
) -> Errors:
    """Return up to `limit` of the test clips that the kNN got wrong, with their nearest clips.

    Args:
        task: The task; every row index refers to its clips.
        rows: Row of every test clip [N]; the folds of a k-fold task one after the other.
        truth: Right class index [N], or a 0/1 matrix [N, C].
        guesses: Class index that won the vote [N], or the votes [N, C]; of these the highest counts.
        neighbour_rows: Rows of the gallery's clips [N, K], in any order, K >= 1.
        similarities: Their cosine similarities [N, K].
        limit: Most errors to keep.

    Raises:
        ReportError: The arrays do not have a row for every test clip.
    """
    lengths = {len(array) for array in (rows, truth, guesses, neighbour_rows, similarities)}
    if len(lengths) != 1:
        raise ReportError(f"{task.where}: expected a guess and neighbours for each test clip, found {sorted(lengths)}")
    winners = guesses if guesses.ndim == 1 else guesses.argmax(axis=1)
    right = winners == truth if truth.ndim == 1 else np.take_along_axis(truth, winners[:, None], axis=1)[:, 0] > 0
    wrong = np.flatnonzero(~right)
    nearest = np.argsort(-similarities, axis=1, kind="stable")[:, :NUM_NEIGHBOURS]
    kept = []
    for i in _spread(task, rows, wrong, limit):
        clip = task.clips[rows[i]]
        near = [(int(neighbour_rows[i, k]), float(similarities[i, k])) for k in nearest[i]]
        kept.append(
            WrongClip(
                id=clip.id,
                recording=Recording.of(clip),
                labels=task.labels[rows[i]],
                guess=task.classes[winners[i]],
                neighbours=tuple(_neighbour(task, row, similarity) for row, similarity in near),
            )
        )
    return Errors(task=task.name, num_clips=len(rows), num_wrong=len(wrong), errors=tuple(kept))


def _spread(task: Task, rows: np.ndarray, wrong: np.ndarray, limit: int) -> list[int]:
    """Return positions of errors: one a right class first, then a second, in an order that the task alone decides."""
    rank = np.random.default_rng(0).permutation(len(task.clips))
    turns: dict[tuple[str, ...], int] = {}
    queue = []
    for i in sorted(wrong.tolist(), key=lambda i: int(rank[rows[i]])):
        labels = task.labels[rows[i]]
        queue.append((turns.setdefault(labels, 0), int(rank[rows[i]]), i))
        turns[labels] += 1
    return [i for _, _, i in sorted(queue)[:limit]]


def _neighbour(task: Task, row: int, similarity: float) -> Neighbour:
    clip = task.clips[row]
    # six decimals are more than anyone reads, and fewer than the order of summation can change
    return Neighbour(id=clip.id, recording=Recording.of(clip), labels=task.labels[row], similarity=round(similarity, 6))


def write_errors(folder: Path, tasks: Sequence[Errors]) -> None:
    """Write the kept errors of all tasks to `neighbours.jsonl` in `folder`; without tasks, remove the file."""
    path = folder / FILE_NAME
    if not tasks:
        path.unlink(missing_ok=True)
        return
    write_jsonl(path, (asdict(one) for one in tasks))


def read_errors(folder: Path) -> tuple[Errors, ...]:
    """Return the kept errors in `folder`, by task; none where there is no file.

    Raises:
        ReportError: The file is damaged or of another form.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        return ()
    try:
        return tuple(_errors(line) for line in read_jsonl(path))
    except (ManifestError, KeyError, TypeError, AttributeError) as e:
        raise ReportError(f"{path}: expected one task's errors a line, found: {e}. Evaluate again to get them") from e


def _errors(line: dict[str, Any]) -> Errors:
    return Errors(
        task=line["task"],
        num_clips=line["num_clips"],
        num_wrong=line["num_wrong"],
        errors=tuple(
            WrongClip(
                id=one["id"],
                recording=Recording(**one["recording"]),
                labels=tuple(one["labels"]),
                guess=one["guess"],
                neighbours=tuple(_neighbours(one["neighbours"])),
            )
            for one in line["errors"]
        ),
    )


def _neighbours(values: Sequence[dict[str, Any]]) -> Iterable[Neighbour]:
    for value in values:
        nested = {"recording": Recording(**value["recording"]), "labels": tuple(value["labels"])}
        yield Neighbour(**{**value, **nested})
