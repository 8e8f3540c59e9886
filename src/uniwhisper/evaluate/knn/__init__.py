"""Weighted k-nearest-neighbour vote by cosine similarity: exact, in blocks, with every tie decided.

Reads: embeddings and labels. Returns: the classes' votes. No training, no seed, no centring.
Guarantees: the result depends on neither block sizes, nor threads, nor the matrix kernel; equally similar neighbours
are taken in gallery order; the lowest class index wins a tied vote. Beside the embeddings, memory holds blocks alone.
Source: the vote (k = 10, temperature 0.07) is the weighted kNN of DINO (arXiv 2104.14294, section 3 and appendix),
as X-ARES applies it with the training part as the gallery.

The search itself is in search.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate.knn.search import Nearest, Scaled, search_blocks, search_faiss

__all__ = [
    "BACKENDS",
    "GALLERIES",
    "SCALINGS",
    "Backend",
    "KnnConfig",
    "Scaling",
    "knn_votes",
    "neighbours",
    "votes_of",
]

GALLERIES = ("train", "train+valid")

Scaling = Literal["clip", "dimension"]
SCALINGS: tuple[Scaling, ...] = get_args(Scaling)
"""What is brought to length 1 in the gallery: every clip's embedding, which makes products cosines, or every dimension.

`dimension` is what X-ARES 0.1.3's code does, against its documentation; queries are brought to length 1 clip by clip.
Source: https://github.com/jimbozhang/xares v0.1.3, src/xares/trainer.py, class KNN: normalize(train_features.T, dim=1).
"""

Backend = Literal["numpy", "faiss"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)
"""What proposes neighbours; what is returned is the same."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnnConfig:
    """How neighbours vote."""

    k: int = 10
    """Neighbours that vote; all of the gallery where it is smaller."""
    temperature: float = 0.07
    """A neighbour's vote is softmax(similarity / temperature) over the k neighbours."""
    gallery: str = "train"
    """Parts whose clips may be neighbours: `train` (X-ARES's choice) or `train+valid`."""
    scaling: Scaling = "clip"
    """`clip` for cosine similarity; `dimension` for scores that compare with X-ARES 0.1.3's."""

    def __post_init__(self) -> None:
        if self.k < 1 or not self.temperature > 0 or self.gallery not in GALLERIES or self.scaling not in SCALINGS:
            raise ConfigError(
                f"expected k >= 1, temperature > 0, gallery one of {', '.join(GALLERIES)} and scaling one of "
                f"{', '.join(SCALINGS)}; found {self}"
            )


def knn_votes(
    gallery: np.ndarray,
    gallery_targets: np.ndarray,
    queries: np.ndarray,
    *,
    num_classes: int,
    config: KnnConfig,
    backend: Backend = "numpy",
) -> np.ndarray:
    """Return every class's share of the vote, float64 [Q, C]; `argmax` along the classes decides ties downwards.

    Args:
        gallery: Embeddings of the labelled clips [G, D].
        gallery_targets: Their class indices [G], or a 0/1 matrix [G, C]; a clip votes for each of its labels.
        queries: Embeddings to classify [Q, D].
        num_classes: C.
        config: How neighbours vote.
        backend: What searches.

    Raises:
        EncoderError: An embedding holds NaN or infinity.
    """
    indices, similarities = neighbours(gallery, queries, k=config.k, scaling=config.scaling, backend=backend)
    return votes_of(indices, similarities, gallery_targets, num_classes=num_classes, config=config)


def votes_of(
    indices: np.ndarray, similarities: np.ndarray, gallery_targets: np.ndarray, *, num_classes: int, config: KnnConfig
) -> np.ndarray:
    """Return every class's share of the vote of neighbours found before, float64 [Q, C], as `knn_votes` does."""
    weights = np.exp((similarities - similarities.max(axis=1, keepdims=True)) / config.temperature)
    weights /= weights.sum(axis=1, keepdims=True)
    votes = np.zeros((len(indices), num_classes))
    rows = np.arange(len(indices))
    for j in range(indices.shape[1]):
        found = gallery_targets[indices[:, j]]
        if gallery_targets.ndim == 1:
            votes[rows, found] += weights[:, j]
        else:
            votes += weights[:, j, None] * found
    # equal votes may differ in the last bits by the order of summation
    return np.round(votes, 12)


def neighbours(
    gallery: np.ndarray,
    queries: np.ndarray,
    *,
    k: int,
    scaling: Scaling = "clip",
    backend: Backend = "numpy",
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return indices [Q, k] of the k most similar gallery rows, ascending, and their similarities, float64 [Q, k].

    Of equally similar rows (to 9 decimals) the earlier ones are taken; k is cut to the gallery's size. A zero vector
    has similarity 0 to everything.

    Args:
        gallery: Embeddings [G, D] of any number type, in memory or mapped into it.
        queries: Embeddings [Q, D].
        k: Neighbours.
        scaling: What is brought to length 1 in the gallery.
        backend: What searches: `faiss` needs that package, and a float32 copy of the gallery.
        threads: Query blocks that are searched side by side; by default `num_threads()`.

    Raises:
        EncoderError: An embedding holds NaN or infinity.
        ConfigError: There is no such backend or scaling, or its package is missing.
    """
    if scaling not in SCALINGS or backend not in BACKENDS:
        raise ConfigError(
            f"expected scaling {' or '.join(SCALINGS)} and backend {' or '.join(BACKENDS)}; "
            f"found {scaling!r} and {backend!r}"
        )
    if not len(gallery):
        raise ConfigError("expected a gallery of at least one clip, found none")
    nearest = Nearest.none(len(queries), min(k, len(gallery)))
    search = search_blocks if backend == "numpy" else search_faiss
    search(Scaled.of(gallery, by_dimension=scaling == "dimension"), Scaled.of(queries), nearest, threads)
    order = np.argsort(nearest.indices, axis=1)
    return np.take_along_axis(nearest.indices, order, axis=1), np.take_along_axis(nearest.similarities, order, axis=1)
