"""Intervals from stored predictions: a bootstrap over probe seeds and test clips that needs no model.

Reads: predictions. Returns: replicate scores, and 2.5 and 97.5 percentiles of them.
Guarantees: a pure function of the predictions (its random numbers are seeded by their digest), so two readers get the
same bounds; scores of two encoders are resampled with the same draws, so their difference has its own interval.

A replicate draws, inside every fold, as many resampling units (groups where the task has enough of them, else clips)
as the test part holds, with replacement, and draws as many probe seeds as were trained. All seeds are scored on the
same drawn clips: every seed saw the same test part, and drawing clips anew for each seed would average the sampling
of clips away and make the interval too narrow by up to the square root of the number of seeds. The kNN has no seed.

Accuracy needs no loop over clips: units with equal size and equal numbers of hits are interchangeable, so a replicate
is one multinomial draw over the distinct kinds of units. That is exact, not an approximation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.metrics import weighted_mean_average_precision
from uniwhisper.evaluate.predictions import Predictions

__all__ = ["NUM_REPLICATES", "Interval", "Replicates", "interval", "replicate", "replicate_pair", "resampling_units"]

NUM_REPLICATES = 2000
PERCENTILES = (2.5, 97.5)

MIN_GROUPS = 10
"""With fewer groups in all test parts together, resampling them says more about their number than about the encoder."""
_MIN_GROUPS_PER_FOLD = 2
_CHUNK = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A score and the 95 % interval around it."""

    score: float
    low: float
    high: float


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Replicates:
    """Scores of one task's replicates, float64 [num_replicates] each."""

    knn: np.ndarray
    probe: np.ndarray


def interval(score: float, replicates: np.ndarray) -> Interval:
    """Return `score` with the 2.5 and 97.5 percentiles of its replicates."""
    low, high = np.percentile(replicates, PERCENTILES)
    return Interval(score=score, low=float(low), high=float(high))


def resampling_units(groups: Sequence[str] | None, fold: np.ndarray) -> tuple[np.ndarray, str]:
    """Return the unit of every test clip [N] and what a unit is: `group` or `clip`.

    Groups serve where the test parts hold at least `MIN_GROUPS` of them in all and two in each; else clips do.
    """
    if groups is not None:
        names, unit = np.unique(np.array(groups), return_inverse=True)
        per_fold = [len(np.unique(unit[fold == f])) for f in np.unique(fold)]
        if len(names) >= MIN_GROUPS and min(per_fold) >= _MIN_GROUPS_PER_FOLD:
            return unit.reshape(-1).astype(np.int64), "group"
    return np.arange(len(fold), dtype=np.int64), "clip"


def replicate(predictions: Predictions, *, num_replicates: int = NUM_REPLICATES) -> Replicates:
    """Return the replicate scores of one encoder on one task."""
    return _replicate([predictions], num_replicates)[0]


def replicate_pair(
    a: Predictions, b: Predictions, *, num_replicates: int = NUM_REPLICATES
) -> tuple[Replicates, Replicates]:
    """Return the replicate scores of two encoders on one task, drawn together; swapping them swaps the result.

    Raises:
        ReportError: They are not predictions for the same clips, labels, folds and units.
    """
    for name in ("ids", "classes", "truth", "fold", "unit"):
        if not np.array_equal(getattr(a, name), getattr(b, name)):
            raise ReportError(
                f"expected two encoders judged on the same test clips, found different {name!r}. "
                "Evaluate both on the same table with the same options"
            )
    first, second = _replicate([a, b], num_replicates)
    return first, second


def _replicate(encoders: list[Predictions], num_replicates: int) -> list[Replicates]:
    """Return the replicates of every encoder, in the order given; the draws do not depend on that order."""
    digests = [encoder.digest() for encoder in encoders]
    order = sorted(range(len(encoders)), key=digests.__getitem__)
    rng = np.random.default_rng(_seed("".join(digests[i] for i in order)))
    guesses = [guess for i in order for guess in (encoders[i].knn, *encoders[i].probe)]
    scores = _resampled_scores(encoders[0], guesses, num_replicates, rng)
    seed_rng = rng.integers(2**63)
    results: dict[int, Replicates] = {}
    start = 0
    for i in order:
        num_seeds = encoders[i].num_seeds
        columns = scores[:, start : start + 1 + num_seeds]
        start += 1 + num_seeds
        # the same start for both encoders: with equally many seeds, seed k is drawn equally often for both
        even = np.full(num_seeds, 1 / num_seeds)
        draws = np.random.default_rng(seed_rng).multinomial(num_seeds, even, size=num_replicates)
        results[i] = Replicates(knn=columns[:, 0], probe=(draws * columns[:, 1:]).sum(axis=1) / num_seeds)
    return [results[i] for i in range(len(encoders))]


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")


def _resampled_scores(
    task: Predictions, guesses: list[np.ndarray], num_replicates: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the score [num_replicates, len(guesses)] of every guess: the mean over folds."""
    total = np.zeros((num_replicates, len(guesses)))
    folds = np.unique(task.fold)
    for f in folds:
        part = task.fold == f
        parts = [guess[part] for guess in guesses]
        resample = _resampled_precision if task.multilabel else _resampled_accuracy
        total += resample(task.truth[part], task.unit[part], parts, num_replicates, rng)
    return total / len(folds)


def _resampled_accuracy(
    truth: np.ndarray, unit: np.ndarray, guesses: list[np.ndarray], num_replicates: int, rng: np.random.Generator
) -> np.ndarray:
    _, unit = np.unique(unit, return_inverse=True)
    rows = np.stack([np.ones(len(truth), dtype=np.int64)] + [(guess == truth).astype(np.int64) for guess in guesses])
    sums = np.stack([np.bincount(unit.reshape(-1), weights=row) for row in rows], axis=1)
    kinds, counts = np.unique(sums, axis=0, return_counts=True)
    draws = rng.multinomial(counts.sum(), counts / counts.sum(), size=num_replicates)
    totals = draws @ kinds
    return totals[:, 1:] / totals[:, :1]


def _resampled_precision(
    truth: np.ndarray, unit: np.ndarray, guesses: list[np.ndarray], num_replicates: int, rng: np.random.Generator
) -> np.ndarray:
    names, unit = np.unique(unit, return_inverse=True)
    scores = np.empty((num_replicates, len(guesses)))
    for start in range(0, num_replicates, _CHUNK):
        size = min(_CHUNK, num_replicates - start)
        draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=size)
        counts = draws[:, unit.reshape(-1)]
        for g, guess in enumerate(guesses):
            scores[start : start + size, g] = weighted_mean_average_precision(truth, guess, counts)
    return scores
