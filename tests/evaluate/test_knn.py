"""The vote against a brute-force loop, and every tie."""

from __future__ import annotations

import math

import numpy as np
import pytest

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate import knn
from uniwhisper.evaluate.knn import KnnConfig, knn_votes, neighbours


def brute_force(gallery, targets, queries, num_classes, config):
    """Return votes by the definition, one pair at a time."""
    votes = np.zeros((len(queries), num_classes))
    for q, query in enumerate(queries.astype(float)):
        found = []
        for g, row in enumerate(gallery.astype(float)):
            similarity = sum(query * row) / math.sqrt(sum(query**2)) / math.sqrt(sum(row**2))
            found.append((-round(similarity, 9), g))
        best = sorted(found)[: config.k]
        weights = [math.exp(-negative / config.temperature) for negative, _ in best]
        for weight, (_, g) in zip(weights, best, strict=True):
            votes[q] += weight / sum(weights) * (targets[g] if targets.ndim == 2 else np.eye(num_classes)[targets[g]])
    return votes


@pytest.mark.parametrize("config", [KnnConfig(), KnnConfig(k=1), KnnConfig(k=3, temperature=1.0)])
@pytest.mark.parametrize("multilabel", [False, True])
def test_equals_brute_force(config, multilabel):
    rng = np.random.default_rng(0)
    gallery, queries = rng.normal(size=(60, 5)).astype(np.float32), rng.normal(size=(25, 5)).astype(np.float32)
    gallery[30:45] = gallery[:15]  # exact duplicates: ties at the k-th place
    targets = (rng.random((60, 4)) < 0.4).astype(np.uint8) if multilabel else rng.integers(0, 4, 60)
    got = knn_votes(gallery, targets, queries, num_classes=4, config=config)
    expected = brute_force(gallery, targets, queries, 4, config)
    np.testing.assert_allclose(got, expected, atol=1e-7)
    np.testing.assert_array_equal(got.argmax(axis=1), np.round(expected, 7).argmax(axis=1))


def test_equal_similarities_take_the_earlier_row():
    gallery = np.array([[1, 0], [2, 0], [0, 1], [3, 0]], dtype=np.float32)
    indices, similarities = neighbours(gallery, np.array([[5.0, 0.0]]), k=2)
    assert indices.tolist() == [[0, 1]]
    assert similarities.tolist() == [[1.0, 1.0]]


def test_equal_votes_give_the_lowest_class():
    gallery = np.array([[1, 0], [1, 0]], dtype=np.float32)
    votes = knn_votes(gallery, np.array([2, 1]), gallery[:1], num_classes=3, config=KnnConfig())
    assert votes.tolist() == [[0.0, 0.5, 0.5]]
    assert votes.argmax(axis=1).tolist() == [1]


def test_blocks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(1)
    gallery, queries = rng.normal(size=(50, 8)), rng.normal(size=(33, 8))
    whole = neighbours(gallery, queries, k=10)
    monkeypatch.setattr(knn, "_BLOCK_BYTES", 8 * 50 * 4)
    for a, b in zip(whole, neighbours(gallery, queries, k=10), strict=True):
        np.testing.assert_array_equal(a, b)


def test_small_gallery_and_zero_vectors():
    votes = knn_votes(np.zeros((3, 2)), np.array([0, 1, 1]), np.ones((1, 2)), num_classes=2, config=KnnConfig())
    np.testing.assert_allclose(votes, [[1 / 3, 2 / 3]])


@pytest.mark.parametrize("change", [{"k": 0}, {"temperature": 0.0}, {"gallery": "test"}])
def test_bad_parameters(change):
    with pytest.raises(ConfigError, match="expected k >= 1"):
        KnnConfig(**change)
