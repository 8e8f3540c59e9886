"""Scores of predictions: accuracy, macro F1, mean average precision; all in [0, 1], higher is better.

Plain functions of arrays. The weighted form of average precision serves the bootstrap: a resample is a vector of
counts, so the order of the scores is found once for all replicates.
"""

from __future__ import annotations

import numpy as np

__all__ = ["accuracy", "macro_f1", "mean_average_precision", "weighted_mean_average_precision"]


def accuracy(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return the share of `predicted` class indices [N] that equal `truth` [N]."""
    return float(np.mean(truth == predicted))


def macro_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return F1 averaged over the classes that occur in `truth` or `predicted`, as scikit-learn's macro F1 does."""
    size = int(max(truth.max(), predicted.max())) + 1
    hits = np.bincount(truth[truth == predicted], minlength=size)
    sizes = np.bincount(truth, minlength=size) + np.bincount(predicted, minlength=size)
    present = sizes > 0
    return float(np.mean(2 * hits[present] / sizes[present]))


def mean_average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Return average precision (step-wise, ties share a threshold), averaged over the classes with a positive clip.

    Args:
        truth: 0/1 matrix [N, C].
        scores: Real matrix [N, C]; only the order within a column matters.
    """
    return float(weighted_mean_average_precision(truth, scores, np.ones((1, len(truth))))[0])


def weighted_mean_average_precision(truth: np.ndarray, scores: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return `mean_average_precision` [B] of B resamples, each given by how often it draws every clip.

    Args:
        truth: 0/1 matrix [N, C].
        scores: Real matrix [N, C].
        counts: Draws of every clip in every resample, [B, N].
    """
    total = np.zeros(len(counts))
    num_present = np.zeros(len(counts))
    for c in range(truth.shape[1]):
        if not truth[:, c].any():
            continue
        order = np.argsort(-scores[:, c], kind="stable")
        ranked = scores[order, c]
        last = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
        drawn = counts[:, order].astype(np.float64)
        seen = np.cumsum(drawn, axis=1)[:, last]
        hits = np.cumsum(drawn * truth[order, c], axis=1)[:, last]
        positives = hits[:, -1]
        gains = np.diff(hits, axis=1, prepend=0.0)
        precision = np.divide(hits, seen, out=np.zeros_like(hits), where=seen > 0)
        present = positives > 0
        total[present] += (gains * precision).sum(axis=1)[present] / positives[present]
        num_present += present
    return np.divide(total, num_present, out=np.zeros_like(total), where=num_present > 0)
