"""What lies behind a score, from the stored predictions: which classes are mistaken for which, and misheard words.

Reads results and their predictions, returns plain values for the page. Guarantees: counts are added up over folds and
probe seeds and nothing is smoothed; where only some of it is shown, the choice is fixed and the rest is counted.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.metrics import average_precision_score

from uniwhisper.evaluate.metrics import f1_of_counts
from uniwhisper.evaluate.predictions import Predictions
from uniwhisper.evaluate.predictions.kinds import ClipPredictions, SegmentPredictions, TextPredictions
from uniwhisper.evaluate.results import Results, load_predictions
from uniwhisper.evaluate.transcripts import normalise
from uniwhisper.report.view import METHODS

__all__ = [
    "MAX_MATRIX_CLASSES",
    "ClassScores",
    "Confusion",
    "Details",
    "Pair",
    "Piece",
    "Transcripts",
    "Utterance",
    "read_details",
]

MAX_MATRIX_CLASSES = 60
"""With more classes a matrix cannot be read; the most confused pairs are listed alone."""
_MAX_PAIRS = 15
_MAX_UTTERANCES = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Pair:
    """How often one class was taken for another."""

    truth: int
    guess: int
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Confusion:
    """Which classes one encoder takes for which on one task, judged in one way."""

    task: str
    encoder: int
    method: str
    classes: tuple[str, ...]
    totals: tuple[int, ...]
    """Clips of each class, times seeds."""
    cells: tuple[Pair, ...]
    """Every cell that is not zero, right ones among them; empty with more than `MAX_MATRIX_CLASSES` classes."""
    pairs: tuple[Pair, ...]
    """The most frequent mistakes, the most frequent first."""
    num_seeds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClassScores:
    """Every class's own score on a task with several classes at a time."""

    task: str
    metric: str
    classes: tuple[str, ...]
    values: tuple[tuple[float | None, ...] | None, ...]
    """One row an encoder, mean over seeds; None for a class without a positive, or an encoder without the task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A stretch of words: said and heard alike, or said one way and heard another."""

    said: str
    heard: str

    @property
    def same(self) -> bool:
        """Whether it was heard as it was said."""
        return self.said == self.heard


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A transcript with its errors."""

    id: str
    num_errors: int
    num_words: int
    pieces: tuple[Piece, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Transcripts:
    """One encoder's worst transcripts on one task (first seed)."""

    task: str
    encoder: int
    normaliser: str
    num_clips: int
    num_wrong: int
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Details:
    """All of it, by task and then by encoder."""

    confusions: tuple[Confusion, ...]
    class_scores: tuple[ClassScores, ...]
    transcripts: tuple[Transcripts, ...]


def read_details(results: Sequence[Results], tasks: Sequence[str]) -> Details:
    """Return the details of the named tasks, one entry for each encoder that was judged on them.

    Raises:
        ReportError: Stored predictions are missing or are not those that were scored.
    """
    stored = [load_predictions(one, [task.name for task in one.tasks if task.name in tasks]) for one in results]
    confusions: list[Confusion] = []
    scores: list[ClassScores] = []
    transcripts: list[Transcripts] = []
    for task in tasks:
        rows = [one.get(task) for one in stored]
        scores.extend(_class_scores(task, rows))
        for e, predictions in enumerate(rows):
            if isinstance(predictions, ClipPredictions) and not predictions.multilabel:
                confusions.extend(_confusions(task, e, predictions))
            elif isinstance(predictions, TextPredictions):
                transcripts.append(_transcripts(task, e, predictions))
    return Details(confusions=tuple(confusions), class_scores=tuple(scores), transcripts=tuple(transcripts))


def _confusions(task: str, encoder: int, predictions: ClipPredictions) -> list[Confusion]:
    guesses = {"knn": predictions.knn if predictions.knn is None else predictions.knn[None], "probe": predictions.probe}
    return [
        _confusion(task, encoder, method, predictions, rows)
        for method in METHODS
        if (rows := guesses[method]) is not None
    ]


def _confusion(task: str, encoder: int, method: str, predictions: ClipPredictions, guesses: np.ndarray) -> Confusion:
    count = len(predictions.classes)
    truth = np.broadcast_to(predictions.truth, guesses.shape)
    cells, numbers = np.unique(truth.astype(np.int64) * count + guesses, return_counts=True)
    found = [
        Pair(truth=int(c) // count, guess=int(c) % count, count=int(n)) for c, n in zip(cells, numbers, strict=True)
    ]
    wrong = sorted((pair for pair in found if pair.truth != pair.guess), key=lambda p: (-p.count, p.truth, p.guess))
    totals = np.bincount(predictions.truth, minlength=count) * len(guesses)
    return Confusion(
        task=task,
        encoder=encoder,
        method=method,
        classes=tuple(predictions.classes.tolist()),
        totals=tuple(totals.tolist()),
        cells=tuple(found) if count <= MAX_MATRIX_CLASSES else (),
        pairs=tuple(wrong[:_MAX_PAIRS]),
        num_seeds=len(guesses),
    )


def _class_scores(task: str, rows: Sequence[Predictions | None]) -> list[ClassScores]:
    several = next((one for one in rows if isinstance(one, SegmentPredictions)), None)
    several = several or next((one for one in rows if isinstance(one, ClipPredictions) and one.multilabel), None)
    if several is None:
        return []
    metric = "F1 of segments" if isinstance(several, SegmentPredictions) else "average precision"
    values = tuple(None if one is None else _values(one) for one in rows)
    return [ClassScores(task=task, metric=metric, classes=tuple(several.classes.tolist()), values=values)]


def _values(predictions: Predictions) -> tuple[float | None, ...] | None:
    if isinstance(predictions, SegmentPredictions):
        counts = predictions.counts().sum(axis=1)  # [S, C, 3]: over all test clips
        present = np.asarray(predictions.truth.any(axis=0))
        scores = f1_of_counts(counts[:, :, None, :]).mean(axis=0)
    elif isinstance(predictions, ClipPredictions) and predictions.multilabel:
        present = np.asarray(predictions.truth.any(axis=0))
        scores = np.zeros(len(present))
        for c in np.flatnonzero(present):
            truth = predictions.truth[:, c]
            scores[c] = np.mean([average_precision_score(truth, seed[:, c]) for seed in predictions.probe])
    else:
        return None
    return tuple(float(score) if there else None for score, there in zip(scores, present, strict=True))


def _transcripts(task: str, encoder: int, predictions: TextPredictions) -> Transcripts:
    errors, words = predictions.word_errors("iwer")
    first = errors[0]
    worst = sorted(np.flatnonzero(first).tolist(), key=lambda i: (-int(first[i]), i))[:_MAX_UTTERANCES]
    return Transcripts(
        task=task,
        encoder=encoder,
        normaliser=predictions.normaliser,
        num_clips=len(predictions.ids),
        num_wrong=int(np.count_nonzero(first)),
        utterances=tuple(
            Utterance(
                id=str(predictions.ids[i]),
                num_errors=int(first[i]),
                num_words=int(words[i]),
                pieces=_pieces(str(predictions.reference[i]), str(predictions.probe[0, i]), predictions.normaliser),
            )
            for i in worst
        ),
    )


def _pieces(said: str, heard: str, normaliser: str) -> tuple[Piece, ...]:
    """Return both texts in aligned stretches; the alignment is for reading, the errors are counted elsewhere."""
    a, b = normalise(said, normaliser).split(), normalise(heard, normaliser).split()
    blocks = difflib.SequenceMatcher(a=a, b=b, autojunk=False).get_opcodes()
    return tuple(Piece(said=" ".join(a[i:j]), heard=" ".join(b[k:m])) for _, i, j, k, m in blocks)
