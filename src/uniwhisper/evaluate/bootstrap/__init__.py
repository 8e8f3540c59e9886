"""Intervals from stored predictions: a bootstrap over probe seeds and test clips that needs no model.

Reads: predictions. Returns: replicate scores, and 2.5 and 97.5 percentiles of them.
Guarantees: a pure function of the predictions (its random numbers are seeded by their digest), so two readers get the
same bounds, on any number of threads; scores of two encoders are resampled with the same draws, so their difference
has its own interval.

A replicate draws, inside every fold, as many resampling units (groups where the task has enough of them, else clips)
as the test part holds, with replacement, and draws as many probe seeds as were trained. All seeds are scored on the
same drawn clips: every seed saw the same test part, and drawing clips anew for each seed would average the sampling
of clips away and make the interval too narrow by up to the square root of the number of seeds. The kNN has no seed.

No replicate looks at a clip: accuracy, F1 and word errors are functions of sums over clips, which are drawn from the
distinct kinds of units; average precision is computed from counts (resampling.py). That is exact, no approximation.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.bootstrap.resampling import Rankings, Sums, random_numbers, resampled_scores
from uniwhisper.evaluate.metrics import f1_of_counts, inverse_wer
from uniwhisper.evaluate.predictions import ClipPredictions, Predictions, SegmentPredictions, TextPredictions

__all__ = [
    "METRICS",
    "NUM_REPLICATES",
    "PERCENTILES",
    "Interval",
    "Replicates",
    "interval",
    "replicate",
    "replicate_pair",
    "resampling_units",
]

NUM_REPLICATES = 2000
PERCENTILES = (2.5, 97.5)

METRICS = ("accuracy", "map", "segment_f1", "segment_f1_micro", "iwer")
"""Metrics that can be resampled; `iwer` stands for `iwer:<normaliser>` too."""

MIN_GROUPS = 10
"""With fewer groups in all test parts together, resampling them says more about their number than about the encoder."""
_MIN_GROUPS_PER_FOLD = 2
_SEEDS_KEY = 2**31
"""Sets the draws of probe seeds apart from those of clips, whose keys are the numbers of folds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Interval:
    """A score and the 95 % interval around it."""

    score: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        """The larger distance of a bound from the score: what `score +- half_width` says in one number."""
        return max(abs(self.score - self.low), abs(self.high - self.score))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Replicates:
    """Scores of one task's replicates, float64 [num_replicates] each."""

    knn: np.ndarray | None
    """None where the task has no kNN score."""
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


def replicate(
    predictions: Predictions,
    *,
    metric: str | None = None,
    num_replicates: int = NUM_REPLICATES,
    threads: int | None = None,
) -> Replicates:
    """Return the replicate scores of one encoder on one task.

    Args:
        predictions: What was predicted.
        metric: The metric that counts; by default the predictions' usual one.
        num_replicates: Replicates.
        threads: How many work side by side; by default `num_threads()`; the result is the same.

    Raises:
        ReportError: The metric cannot be computed from these predictions, or cannot be resampled.
    """
    return _replicate([predictions], metric, num_replicates, threads)[0]


def replicate_pair(
    a: Predictions,
    b: Predictions,
    *,
    metric: str | None = None,
    num_replicates: int = NUM_REPLICATES,
    threads: int | None = None,
) -> tuple[Replicates, Replicates]:
    """Return the replicate scores of two encoders on one task, drawn together; swapping them swaps the result.

    Segments may be true of other times for each encoder, where they are counted in the encoder's frames.

    Raises:
        ReportError: They are not predictions for the same clips, labels, folds and units, or as in `replicate`.
    """
    for name in ("kind", "ids", "classes", "fold", "unit", "reference", "normaliser"):
        if not np.array_equal(getattr(a, name, ""), getattr(b, name, "")):
            raise _unequal(name)
    if isinstance(a, ClipPredictions) and isinstance(b, ClipPredictions) and not np.array_equal(a.truth, b.truth):
        raise _unequal("truth")
    first, second = _replicate([a, b], metric, num_replicates, threads)
    return first, second


def _unequal(name: str) -> ReportError:
    return ReportError(
        f"expected two encoders judged on the same test clips, found different {name!r}. "
        "Evaluate both on the same tasks with the same options"
    )


def _replicate(
    encoders: list[Predictions], metric: str | None, num_replicates: int, threads: int | None
) -> list[Replicates]:
    """Return the replicates of every encoder, in the order given; the draws do not depend on that order."""
    digests = [encoder.digest() for encoder in encoders]
    order = sorted(range(len(encoders)), key=digests.__getitem__)
    seed = int.from_bytes(hashlib.sha256("".join(digests[i] for i in order).encode()).digest()[:16], "big")
    ranked = [encoders[i] for i in order]
    judged, has_knn = _judged(ranked, ranked[0].primary(metric or ranked[0].metrics[0]))
    scores = resampled_scores(
        judged, ranked[0].fold, ranked[0].unit, num_replicates=num_replicates, seed=seed, threads=threads
    )
    results: dict[int, Replicates] = {}
    start = 0
    for i, knn in zip(order, has_knn, strict=True):
        num_seeds = encoders[i].num_seeds
        columns = scores[:, start : start + knn + num_seeds]
        start += knn + num_seeds
        # the same start for both encoders: with equally many seeds, seed k is drawn equally often for both
        even = np.full(num_seeds, 1 / num_seeds)
        draws = random_numbers(seed, _SEEDS_KEY).multinomial(num_seeds, even, size=num_replicates)
        probe = (draws * columns[:, int(knn) :]).sum(axis=1) / num_seeds
        results[i] = Replicates(knn=columns[:, 0] if knn else None, probe=probe)
    return [results[i] for i in range(len(encoders))]


def _judged(encoders: list[Predictions], metric: str) -> tuple[Sums | Rankings, list[bool]]:
    """Return all answers (of every encoder its kNN's, where it has one, then its seeds') and who has a kNN's."""
    segments = [encoder for encoder in encoders if isinstance(encoder, SegmentPredictions)]
    if segments:
        return _judged_segments(segments, metric), [False] * len(encoders)
    texts = [encoder for encoder in encoders if isinstance(encoder, TextPredictions)]
    if texts:
        return _judged_texts(texts, metric), [False] * len(encoders)
    clips = [encoder for encoder in encoders if isinstance(encoder, ClipPredictions)]
    answers, has_knn = [], []
    for encoder in clips:
        knn, probe = encoder.answers(metric)
        answers += ([] if knn is None else [knn]) + list(probe)
        has_knn.append(knn is not None)
    if metric == "map":
        return Rankings(truth=clips[0].positives(), answers=tuple(answers)), has_knn
    if metric != "accuracy":
        raise ReportError(f"expected a metric out of {', '.join(METRICS)} for an interval, found {metric!r}")
    ones = np.ones(len(clips[0].ids), dtype=bool)
    statistics = np.stack([ones] + [answer == clips[0].truth for answer in answers], axis=1)
    return Sums(statistics=statistics, score=lambda sums: sums[:, 1:] / sums[:, :1]), has_knn


def _judged_segments(encoders: Sequence[SegmentPredictions], metric: str) -> Sums:
    counts = np.concatenate([encoder.counts() for encoder in encoders])  # [answers, N, C, 3]
    shape, average = (len(counts), *counts.shape[2:]), encoders[0].average(metric)
    return Sums(
        statistics=counts.transpose(1, 0, 2, 3).reshape(counts.shape[1], -1),
        score=lambda sums: f1_of_counts(sums.reshape(len(sums), *shape), average=average),
    )


def _judged_texts(encoders: Sequence[TextPredictions], metric: str) -> Sums:
    counted = [encoder.word_errors(metric) for encoder in encoders]
    rows = [counted[0][1]] + [row for errors, _ in counted for row in errors]
    return Sums(statistics=np.stack(rows, axis=1), score=lambda sums: inverse_wer(sums[:, 1:], sums[:, :1]))
