"""Scores of predictions, and how they are brought to [0, 1] with 1 the best.

Plain functions of arrays. Guarantees: equal to scikit-learn's wherever scikit-learn has the metric, and mostly
computed by it.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from sklearn.metrics import average_precision_score, f1_score, roc_curve

from uniwhisper.errors import ReportError

__all__ = [
    "accuracy",
    "classes_without_positives",
    "equal_error_rate",
    "f1_of_counts",
    "inverse_wer",
    "macro_f1",
    "mean_average_precision",
    "normalise_score",
]

_RANGES: Mapping[str, tuple[float, float]] = {
    "accuracy": (0.0, 1.0),
    "macro_f1": (0.0, 1.0),
    "map": (0.0, 1.0),
    "segment_f1": (0.0, 1.0),
    "segment_f1_micro": (0.0, 1.0),
    "wer": (1.0, 0.0),
    "eer": (1.0, 0.0),
}
"""Worst and best value of every metric."""


def normalise_score(metric: str, value: float) -> float:
    """Return `value` on the scale from worst (0) to best (1): (value - worst) / (best - worst), not below 0.

    The word error rate can exceed its worst value, 1; it then counts 0.

    Source: UniWhisper's min-max normalisation, with iWER = max(1 - WER, 0).

    Raises:
        ReportError: There is no such metric.
    """
    if metric not in _RANGES:
        raise ReportError(f"expected a metric out of {', '.join(_RANGES)}; found {metric!r}")
    worst, best = _RANGES[metric]
    return max((value - worst) / (best - worst), 0.0)


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of `predicted` class indices [N] that equal `truth` [N]."""
    return float(np.mean(truth == predicted))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return F1 averaged over the classes that occur in `truth` [N] or `predicted` [N]."""
    return float(f1_score(truth, predicted, average="macro"))


def mean_average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return average precision (step-wise, ties share a threshold), averaged over the classes with a positive clip.

    Classes without a positive have no average precision; `classes_without_positives` names them. 0 where no class has
    one.

    Args:
        truth: 0/1 matrix [N, C].
        scores: Real matrix [N, C]; only the order within a column matters.
    """
    present = truth.any(axis=0)
    if not present.any():
        return 0.0
    return float(average_precision_score(truth[:, present], scores[:, present], average="macro"))


def classes_without_positives(truth: np.ndarray) -> np.ndarray:
    """Return the indices of the classes that no row of the 0/1 matrix `truth` [N, C] has."""
    return np.flatnonzero(~truth.any(axis=0))


def f1_of_counts(counts: np.ndarray, *, average: str = "macro") -> np.ndarray:
    """Return F1 scores [...] from true positives, false positives and misses, [..., C, 3].

    `macro` averages over all C classes, one that neither occurs nor is predicted counting 0, as scikit-learn's
    `f1_score(average="macro", zero_division=0)` does; `micro` adds the classes up first.
    """
    counts = np.asarray(counts, dtype=np.float64)
    if average == "micro":
        counts = counts.sum(axis=-2, keepdims=True)
    hits = 2 * counts[..., 0]
    sizes = hits + counts[..., 1] + counts[..., 2]
    return np.divide(hits, sizes, out=np.zeros_like(hits), where=sizes > 0).mean(axis=-1)


def inverse_wer(errors: np.ndarray, words: np.ndarray) -> np.ndarray:
    """Return max(1 - errors / words, 0); without a word said, 1 where none was heard and 0 otherwise."""
    errors, words = np.asarray(errors, dtype=np.float64), np.asarray(words, dtype=np.float64)
    rate = np.where(words > 0, errors / np.maximum(words, 1), errors > 0)
    return np.maximum(1 - rate, 0.0)


def equal_error_rate(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return the rate at which as many positives are missed as negatives are taken for positives.

    Between two thresholds of the ROC curve the rates are interpolated linearly.

    Args:
        truth: 0/1 vector [N]; both must occur.
        scores: How much a clip looks like a positive [N].

    Raises:
        ReportError: All clips are of one class.
    """
    if truth.min() == truth.max():
        raise ReportError("expected positives and negatives for an equal error rate, found clips of one class")
    false_alarms, hits, _ = roc_curve(truth, scores, drop_intermediate=False)
    gap = (1 - hits) - false_alarms  # falls from 1 to -1 along the curve
    i = int(np.argmax(gap <= 0))
    if gap[i] == 0:
        return float(false_alarms[i])
    share = gap[i - 1] / (gap[i - 1] - gap[i])
    return float(false_alarms[i - 1] + share * (false_alarms[i] - false_alarms[i - 1]))
