"""The mechanics of the bootstrap: scores of many resamples of a task's test clips, without looking at a clip twice.

A replicate draws, inside every fold, as many resampling units as there are, with replacement; its score is the mean
over folds. Two forms cover every metric, both exact:
- `Sums`: the score is a function of sums over clips (hits, word errors, hits and misses by class). Units with equal
  sums are interchangeable, so a replicate is a draw over the distinct kinds of units.
- `Rankings`: average precision, from how often every clip is drawn (precision.py).
Guarantees: a function of its arguments and the seed, on any number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from uniwhisper.evaluate.bootstrap.precision import count_type, mean_precision_of_counts, rank_clips
from uniwhisper.threads import map_threads

__all__ = ["Rankings", "Sums", "random_numbers", "resampled_scores"]

_CHUNK = 64
"""Replicates that are computed together: their counts of 10,000 clips fit into a processor's second cache."""
_FEW_KINDS = 64
"""Up to here a multinomial draw over kinds is faster than one draw for every unit."""
_DRAWS_AT_ONCE = 2**22


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Sums:
    """Answers whose scores follow from sums over clips."""

    statistics: np.ndarray
    """Whole numbers of every clip, [N, K]."""
    score: Callable[[np.ndarray], np.ndarray]
    """From sums [B, K] to scores [B, answers]."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Rankings:
    """Answers that rank clips, scored by mean average precision."""

    truth: np.ndarray
    """0/1 [N, C]."""
    answers: tuple[np.ndarray, ...]
    """Real numbers [N, C] each."""


def random_numbers(seed: int, *key: int) -> np.random.Generator:
    """Return random numbers for the purpose `key`, so that it does not matter which thread asks first."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def resampled_scores(
    judged: Sums | Rankings,
    fold: np.ndarray,
    unit: np.ndarray,
    *,
    num_replicates: int,
    seed: int,
    threads: int | None = None,
) -> np.ndarray:
    """Return the score of every replicate and answer, float64 [num_replicates, answers]: the mean over folds.

    Args:
        judged: What is scored, and how.
        fold: Index of every clip's fold [N].
        unit: Index of every clip's resampling unit [N].
        num_replicates: Replicates.
        seed: Seeds the draws.
        threads: How many work side by side.
    """
    parts = [np.flatnonzero(fold == f) for f in np.unique(fold)]
    total: np.ndarray | float = 0.0
    for f, rows in enumerate(parts):
        _, units = np.unique(unit[rows], return_inverse=True)
        units = units.reshape(-1)
        if isinstance(judged, Sums):
            starts = np.concatenate([[0], np.cumsum(np.bincount(units))[:-1]])
            by_unit = judged.statistics[rows[np.argsort(units, kind="stable")]]
            sums = np.add.reduceat(by_unit, starts, axis=0, dtype=np.float64)
            scores = judged.score(_resampled_sums(sums, num_replicates, random_numbers(seed, f)))
        else:
            scores = _resampled_precision(judged, rows, units, num_replicates, (seed, f), threads)
        total = total + scores
    return np.asarray(total) / len(parts)


def _resampled_sums(sums: np.ndarray, num_replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Return column sums [num_replicates, K] of the U rows of `sums` [U, K] that every replicate draws."""
    kinds, kind, counts = np.unique(sums, axis=0, return_inverse=True, return_counts=True)
    if len(kinds) <= _FEW_KINDS:
        return rng.multinomial(len(sums), counts / len(sums), size=num_replicates) @ kinds
    kind = kind.reshape(-1)
    step = max(1, _DRAWS_AT_ONCE // len(sums))
    parts = []
    for start in range(0, num_replicates, step):
        drawn = _draw(len(sums), min(step, num_replicates - start), rng)
        parts.append(_count(kind[drawn], len(kinds)) @ kinds)
    return np.concatenate(parts)


def _resampled_precision(
    judged: Rankings,
    rows: np.ndarray,
    units: np.ndarray,
    num_replicates: int,
    seed: tuple[int, int],
    threads: int | None,
) -> np.ndarray:
    num_units = int(units.max()) + 1
    truth = judged.truth[rows]
    ranked = tuple(map_threads(lambda answer: rank_clips(truth, answer[rows]), judged.answers, threads=threads))

    def score(chunk: tuple[int, int]) -> np.ndarray:
        index, size = chunk
        drawn = _draw(num_units, size, random_numbers(*seed, index))
        counts = _count(drawn, num_units)[:, units].T
        counts = np.ascontiguousarray(counts, dtype=count_type(counts))
        return np.stack([mean_precision_of_counts(answer, counts) for answer in ranked], axis=1)

    return np.concatenate(list(map_threads(score, _chunks(num_replicates), threads=threads)))


def _chunks(num_replicates: int) -> Iterator[tuple[int, int]]:
    for start in range(0, num_replicates, _CHUNK):
        yield start // _CHUNK, min(_CHUNK, num_replicates - start)


def _draw(num_units: int, num_replicates: int, rng: np.random.Generator) -> np.ndarray:
    """Return the units that every replicate draws, int64 [num_replicates, num_units]."""
    return rng.integers(0, num_units, size=(num_replicates, num_units))


def _count(drawn: np.ndarray, size: int) -> np.ndarray:
    """Return how often every row of `drawn` [B, U] holds each number below `size`, int64 [B, size]."""
    offsets = np.arange(len(drawn))[:, None] * size
    return np.bincount((drawn + offsets).ravel(), minlength=len(drawn) * size).reshape(len(drawn), size)
