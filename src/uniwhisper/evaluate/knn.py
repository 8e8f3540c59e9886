"""Weighted k-nearest-neighbour vote by cosine similarity: exact, in blocks, with every tie decided.

Reads: embeddings and labels. Returns: the classes' votes. No training, no seed, no centring.
Guarantees: the result does not depend on the block size; equally similar neighbours are taken in gallery order; the
lowest class index wins a tied vote.
Source: the vote (k = 10, temperature 0.07) is the weighted kNN of DINO (arXiv 2104.14294, section 3 and appendix),
as X-ARES applies it with the training part as the gallery.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uniwhisper.errors import ConfigError

__all__ = ["GALLERIES", "KnnConfig", "knn_votes", "neighbours"]

GALLERIES = ("train", "train+valid")

_BLOCK_BYTES = 64 * 2**20
_DECIMALS = 9
"""Similarities are compared after rounding: equal vectors get equal similarities whatever the matrix kernel did."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnnConfig:
    """How neighbours vote."""

    k: int = 10
    """Neighbours that vote; all of the gallery where it is smaller."""
    temperature: float = 0.07
    """A neighbour's vote is softmax(similarity / temperature) over the k neighbours."""
    gallery: str = "train"
    """Parts whose clips may be neighbours: `train` (X-ARES's choice) or `train+valid`."""

    def __post_init__(self) -> None:
        if self.k < 1 or not self.temperature > 0 or self.gallery not in GALLERIES:
            raise ConfigError(
                f"expected k >= 1, temperature > 0 and gallery one of {', '.join(GALLERIES)}; found {self}"
            )


def knn_votes(
    gallery: np.ndarray, gallery_targets: np.ndarray, queries: np.ndarray, *, num_classes: int, config: KnnConfig
) -> np.ndarray:
    """Return every class's share of the vote, float64 [Q, C]; `argmax` along the classes decides ties downwards.

    Args:
        gallery: Embeddings of the labelled clips [G, D].
        gallery_targets: Their class indices [G], or a 0/1 matrix [G, C]; a clip votes for each of its labels.
        queries: Embeddings to classify [Q, D].
        num_classes: C.
        config: How neighbours vote.
    """
    indices, similarities = neighbours(gallery, queries, k=config.k)
    weights = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / config.temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    votes = np.zeros((len(queries), num_classes))
    rows = np.arange(len(queries))
    for j in range(indices.shape[1]):
        found = gallery_targets[indices[:, j]]
        if gallery_targets.ndim == 1:
            votes[rows, found] += weights[:, j]
        else:
            votes += weights[:, j, None] * found
    # equal votes may differ in the last bits by the order of summation
    return np.round(votes, 12)


def neighbours(gallery: np.ndarray, queries: np.ndarray, *, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return indices [Q, k] of the k most similar gallery rows, ascending, and their cosine similarities [Q, k].

    Of equally similar rows the earlier ones are taken; k is cut to the gallery's size.
    """
    k = min(k, len(gallery))
    unit_gallery = _normalise(gallery).T
    block = max(1, _BLOCK_BYTES // (8 * len(gallery)))
    indices = np.empty((len(queries), k), dtype=np.int64)
    similarities = np.empty((len(queries), k))
    for start in range(0, len(queries), block):
        rows = slice(start, start + block)
        similarity = np.round(_normalise(queries[rows]) @ unit_gallery, _DECIMALS)
        kth = np.partition(similarity, -k, axis=1)[:, -k, None]
        above, equal = similarity > kth, similarity == kth
        room = k - above.sum(axis=1, keepdims=True)
        taken = above | (equal & (np.cumsum(equal, axis=1) <= room))
        indices[rows] = np.nonzero(taken)[1].reshape(-1, k)
        similarities[rows] = np.take_along_axis(similarity, indices[rows], axis=1)
    return indices, similarities


def _normalise(rows: np.ndarray) -> np.ndarray:
    """Return `rows` in float64 with length 1; a zero row stays zero and is similar to nothing."""
    rows = rows.astype(np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30)
