"""Embeddings, targets and folds where probes train: statistics of the training parts, batches, and endless shuffles.

Reads: embeddings [N, D], targets and folds. Guarantees: a fold's statistics and known classes come from its training
part alone; nothing holds a second copy of all embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.splits import Fold

__all__ = ["ClipData", "Moments", "Shuffle", "blocks"]

BLOCK_VALUES = 1 << 22
"""Values of the largest temporary array: 16 MB of float32, which stays near the processor."""


def blocks(rows: np.ndarray, values_per_row: int) -> Iterator[np.ndarray]:
    """Yield `rows` in pieces of at most `BLOCK_VALUES` values, at least one row each."""
    size = max(1, BLOCK_VALUES // max(1, values_per_row))
    for i in range(0, len(rows), size):
        yield rows[i : i + size]


class Moments:
    """Mean and spread of every column, from blocks of rows in float64 without a second pass.

    Source: Chan, Golub and LeVeque 1979, "Updating Formulae and a Pairwise Algorithm for Computing Sample Variances".
    """

    def __init__(self, width: int) -> None:
        self._count = 0
        self._mean = np.zeros(width)
        self._squares = np.zeros(width)

    @classmethod
    def of(cls, rows: np.ndarray) -> Moments:
        """Return the moments of rows [M, D]."""
        moments = cls(rows.shape[1])
        if len(rows):
            values = rows.astype(np.float64)
            moments._count, moments._mean = len(rows), values.mean(axis=0)
            values -= moments._mean
            moments._squares = np.einsum("md,md->d", values, values)
        return moments

    def merge(self, other: Moments) -> None:
        """Take in the rows that `other` has seen."""
        total = self._count + other._count
        if not other._count:
            return
        shift = other._mean - self._mean
        self._squares += other._squares + shift**2 * (self._count * other._count / total)
        self._mean += shift * (other._count / total)
        self._count = total

    def finish(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and standard deviation, float32 [D]; a constant column's deviation is 1."""
        scale = np.sqrt(self._squares / max(1, self._count))
        scale[scale < 1e-8] = 1.0  # a constant feature carries nothing; dividing by its rounding noise would
        return self._mean.astype(np.float32), scale.astype(np.float32)


class ClipData:
    """Embeddings, targets and folds on the device; `known` [F, C] says which classes a fold trains on."""

    def __init__(
        self,
        features: np.ndarray,
        targets: np.ndarray,
        folds: Sequence[Fold],
        num_classes: int,
        device: str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.folds = tuple(folds)
        self.truth = targets
        self.multilabel = targets.ndim == 2
        self.num_classes = num_classes
        self.width = features.shape[1]
        self.device = device
        self.dtype = dtype
        for rows in blocks(np.arange(len(features)), self.width):
            faulty = rows[~np.isfinite(features[rows]).all(axis=1)]
            if len(faulty):
                raise TaskError(
                    f"expected finite embeddings, found NaN or infinity in row {faulty[0]}. `uniwhisper doctor` says "
                    "what an encoder does wrong"
                )
        self.features = torch.as_tensor(features, dtype=dtype, device=device)
        self.targets = torch.as_tensor(targets, dtype=dtype if self.multilabel else torch.int64, device=device)
        known = np.stack([_known_classes(targets[fold.train], num_classes) for fold in folds])
        self.known = torch.as_tensor(known, device=device)

    def index(self, rows: np.ndarray) -> Tensor:
        """Return row indices as a tensor on the device."""
        return torch.as_tensor(rows, device=self.device)

    def statistics(self, fold: int) -> tuple[Tensor, Tensor]:
        """Return mean and deviation [D] of the fold's training part."""
        moments = Moments(self.width)
        for rows in blocks(self.folds[fold].train, self.width):
            moments.merge(Moments.of(self.features[self.index(rows)].cpu().numpy()))
        mean, scale = moments.finish()
        return torch.as_tensor(mean, device=self.device), torch.as_tensor(scale, device=self.device)


def _known_classes(targets: np.ndarray, num_classes: int) -> np.ndarray:
    if targets.ndim == 2:
        return targets.max(axis=0) > 0
    return np.bincount(targets, minlength=num_classes) > 0


class Shuffle:
    """Endless shuffles of one run's training rows, keyed by its seed alone, so that no other run changes them."""

    def __init__(self, rows: np.ndarray, seed: int) -> None:
        self._rows = rows
        self._random = np.random.default_rng(seed)
        self._queue = np.array([], dtype=np.int64)

    def take(self, count: int) -> np.ndarray:
        """Return the next `count` rows; every row comes once before any comes again."""
        while len(self._queue) < count:
            self._queue = np.concatenate([self._queue, self._random.permutation(self._rows)])
        taken, self._queue = self._queue[:count], self._queue[count:]
        return taken

    def epoch(self) -> np.ndarray:
        """Return all rows in the next order; not to be mixed with `take`."""
        return self._random.permutation(self._rows)
