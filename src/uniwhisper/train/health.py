"""Signs that the embeddings collapse, from the mean frames of the clips that the run has just seen.

Two figures over a rolling window of clips: how many directions the embeddings use, and how alike two clips are. Both
are of the embeddings as they are, not centred: that is what a user compares, and a large common part is itself the
first sign. Reads nothing, writes nothing; costs a decomposition of a window of 256 vectors.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from uniwhisper.errors import ConfigError

__all__ = ["EmbeddingWatch", "effective_rank", "mean_cosine"]

_MIN_CLIPS = 16
"""Fewer say nothing about either figure."""
_LOW_RANK = 3.0
_HIGH_COSINE = 0.99
"""A warning needs this much: stock Whisper's mean frames are far from both on any mixture of sounds."""


def effective_rank(vectors: Float[Tensor, "N D"]) -> float:
    """Return exp of the entropy of the normalised singular values: 1 where all vectors are parallel, at most min(N, D).

    Not centred. The value 0 stands for vectors that are all zero.

    Source: RankMe, arXiv 2210.02885, equation 2.
    """
    rows = vectors.to(torch.float64)
    # singular values from the smaller Gram matrix: ten times faster than a decomposition of the vectors
    gram = rows @ rows.T if len(rows) <= rows.shape[1] else rows.T @ rows
    values = torch.linalg.eigvalsh(gram).clamp(min=0).sqrt()
    total = float(values.sum())
    if not total:
        return 0.0
    shares = values / total
    return math.exp(float(torch.special.entr(shares).sum()))


def mean_cosine(vectors: Float[Tensor, "N D"]) -> float:
    """Return the mean cosine similarity over all pairs of different rows, without making the pairs.

    With unit vectors u, |sum u|^2 = N + 2 * (sum over pairs of their cosine). A zero vector has cosine 0 to all.
    """
    rows = vectors.to(torch.float64)
    units = torch.nn.functional.normalize(rows, dim=1)
    num, norms = len(units), float((units * units).sum())
    return (float(units.sum(dim=0).square().sum()) - norms) / (num * (num - 1))


class EmbeddingWatch:
    """The last clips' mean frames, and what they say."""

    def __init__(self, size: int = 256) -> None:
        """Make an empty window.

        Args:
            size: Clips that it holds; the effective rank is at most this.

        Raises:
            ConfigError: The window is too small to say anything.
        """
        if size < _MIN_CLIPS:
            raise ConfigError(f"expected a window of at least {_MIN_CLIPS} clips, found {size}")
        self._size = size
        self._rows: Tensor | None = None

    def add(self, means: Float[Tensor, "N D"]) -> None:
        """Take in the mean frames of a step's clips, of any device and type; the oldest leave."""
        rows = means.detach().to("cpu", torch.float32, copy=True)
        self._rows = (rows if self._rows is None else torch.cat([self._rows, rows]))[-self._size :]

    def figures(self) -> dict[str, Any]:
        """Return `embedding_rank`, `mean_cosine` and, where they tell of a collapse, a `warning`.

        Empty while the window holds fewer than 16 clips.
        """
        rows = self._rows
        if rows is None or len(rows) < _MIN_CLIPS:
            return {}
        if not bool(torch.isfinite(rows).all()):
            return {"warning": "embeddings are not finite: look at the loss and the gradient norms of the last steps"}
        rank, cosine = effective_rank(rows), mean_cosine(rows)
        figures: dict[str, Any] = {"embedding_rank": rank, "mean_cosine": cosine}
        if rank < _LOW_RANK or cosine > _HIGH_COSINE:
            figures["warning"] = (
                f"embeddings collapse: the last {len(rows)} clips use {rank:.1f} directions and have a mean cosine of "
                f"{cosine:.3f}; a lower encoder learning rate or a longer alignment may save the run"
            )
        return figures
