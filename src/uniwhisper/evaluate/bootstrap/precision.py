"""Average precision of many resamples of the same ranked clips: exact, without repeating a single row.

A resample is a vector of counts: how often every clip is drawn. Clips are ranked once; what a resample needs is, for
every threshold at which a positive is found, how many drawn clips lie at or above it and how many of those are
positive. Both are sums of counts over stretches of the ranking between positives, one sparse product for all resamples
at once, and running totals over the few positives. All of it is whole numbers until the last division.
Guarantees: equals `mean_average_precision` of the repeated rows but for the last bits of the final sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_array

__all__ = ["RankedClips", "count_type", "mean_precision_of_counts", "rank_clips"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _RankedClass:
    """One class: the stretches of the ranking that end at a threshold with positives, K thresholds."""

    seen: np.ndarray
    """Clips from the best one down to the last threshold, in order of rank."""
    seen_ends: np.ndarray
    """Where every threshold's stretch ends in `seen`, with a 0 before, int32 [K + 1]."""
    found: np.ndarray
    """The positive clips, in order of rank."""
    found_ends: np.ndarray
    """Where every threshold's positives end in `found`, with a 0 before, int32 [K + 1]."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class RankedClips:
    """N clips ranked for every class that has a positive."""

    num_clips: int
    classes: tuple[_RankedClass, ...]


def rank_clips(truth: np.ndarray, scores: np.ndarray) -> RankedClips:
    """Return the ranking of the clips for every class with a positive; tied clips share a threshold.

    Args:
        truth: 0/1 matrix [N, C].
        scores: Real matrix [N, C].
    """
    positive = truth.astype(bool)
    classes = [_rank(positive[:, c], scores[:, c]) for c in np.flatnonzero(positive.any(axis=0))]
    return RankedClips(num_clips=len(truth), classes=tuple(classes))


def _rank(positive: np.ndarray, scores: np.ndarray) -> _RankedClass:
    order = np.argsort(-scores, kind="stable").astype(np.int32)
    ranked, hit = scores[order], positive[order]
    last_of_tie = np.append(np.flatnonzero(ranked[1:] != ranked[:-1]), len(ranked) - 1)
    found = np.cumsum(hit)[last_of_tie]
    counts = np.diff(found, prepend=0) > 0  # a threshold without positives adds nothing to the area
    seen_ends = np.concatenate([[0], last_of_tie[counts] + 1]).astype(np.int32)
    return _RankedClass(
        seen=order[: seen_ends[-1]],
        seen_ends=seen_ends,
        found=order[hit],
        found_ends=np.concatenate([[0], found[counts]]).astype(np.int32),
    )


def count_type(counts: np.ndarray) -> type[np.unsignedinteger]:
    """Return the narrowest type that holds the sum of every resample in `counts` [N, B]; speed depends on it."""
    return np.uint16 if counts.sum(axis=0).max(initial=0) < 2**16 else np.uint32


def mean_precision_of_counts(ranked: RankedClips, counts: np.ndarray) -> np.ndarray:
    """Return the mean average precision [B] of B resamples over the classes with a positive in the resample.

    Args:
        ranked: The ranked clips.
        counts: Draws of every clip in every resample, [N, B], of `count_type`.
    """
    num_resamples = counts.shape[1]
    total, num_present = np.zeros(num_resamples), np.zeros(num_resamples)
    ones = np.ones(ranked.num_clips, dtype=counts.dtype)
    for one in ranked.classes:
        shape = (len(one.seen_ends) - 1, ranked.num_clips)
        gains = csr_array((ones[: len(one.found)], one.found, one.found_ends), shape=shape) @ counts
        seen = csr_array((ones[: len(one.seen)], one.seen, one.seen_ends), shape=shape) @ counts
        found = np.add.accumulate(gains, axis=0, dtype=counts.dtype)
        np.add.accumulate(seen, axis=0, dtype=counts.dtype, out=seen)
        np.maximum(seen, 1, out=seen)  # nothing seen: nothing found either, and 0 / 1 is 0
        precision = np.divide(found, seen, dtype=np.float64)
        precision *= gains
        positives = found[-1]
        total += precision.sum(axis=0) / np.maximum(positives, 1)
        num_present += positives > 0
    return total / np.maximum(num_present, 1)
