"""The vote and the search against brute force, every tie, both backends, and X-ARES's scaling against its equations."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from uniwhisper.encoders import load_encoder
from uniwhisper.errors import ConfigError, EncoderError
from uniwhisper.evaluate.embeddings import embed_clips
from uniwhisper.evaluate.knn import KnnConfig, knn_votes, neighbours
from uniwhisper.evaluate.knn import search as knn_search
from uniwhisper.evaluate.tables import read_table


def brute_force(gallery, queries, k):
    """Return neighbours by the definition: one pair at a time, in float64, sorted by similarity and then by row."""
    gallery, queries = gallery.astype(np.float64), queries.astype(np.float64)
    lengths = np.maximum(np.sqrt((gallery**2).sum(axis=1)), 1e-30)
    indices, similarities = [], []
    for query in queries:
        unit = query / max(math.sqrt((query**2).sum()), 1e-30)
        found = [round(float((unit * row / length).sum()), 9) for row, length in zip(gallery, lengths, strict=True)]
        best = sorted(sorted(range(len(found)), key=lambda g: (-found[g], g))[:k])
        indices.append(best)
        similarities.append([found[g] for g in best])
    return np.array(indices), np.array(similarities)


def make(kind, num_rows, dim, seed):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(num_rows, dim))
    if kind == "like embeddings":  # far from the origin: all similarities are high, as those of real encoders
        values = 0.05 * values * rng.pareto(2.0, dim) + rng.normal(size=dim)
    elif kind == "few values":
        values = rng.integers(-1, 2, (num_rows, dim))
    elif kind == "duplicates":
        values = values[rng.integers(0, max(1, num_rows // 4), num_rows)]
    elif kind == "scaled":
        values = values[rng.integers(0, max(1, num_rows // 4), num_rows)] * rng.integers(1, 5, (num_rows, 1))
    elif kind == "one point":
        values = np.ones((num_rows, dim))
    elif kind == "nearly one point":
        values = 1 + 1e-6 * values
    return values.astype(np.float32)


KINDS = ("random", "like embeddings", "few values", "duplicates", "scaled", "one point", "nearly one point")


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(knn_search, "_BLOCK_BYTES", 1000)
    monkeypatch.setattr(knn_search, "_QUERIES", 7)
    monkeypatch.setattr(knn_search, "_DENSE", 3)


@pytest.mark.usefixtures("small_blocks")
@given(
    kind=st.sampled_from(KINDS),
    num_rows=st.integers(1, 70),
    num_queries=st.integers(1, 20),
    dim=st.integers(1, 9),
    k=st.integers(1, 12),
    seed=st.integers(0, 2**16),
)
def test_equals_brute_force(kind, num_rows, num_queries, dim, k, seed):
    gallery = make(kind, num_rows, dim, seed)
    queries = np.concatenate([make(kind, num_queries, dim, seed + 1), gallery[: num_queries // 2]])
    indices, similarities = neighbours(gallery, queries, k=k)
    expected_indices, expected_similarities = brute_force(gallery, queries, k)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(similarities, expected_similarities, atol=1.1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_equals_brute_force_at_real_widths(kind):
    gallery, queries = make(kind, 900, 384, 0), make(kind, 6, 384, 1)
    indices, similarities = neighbours(gallery, queries, k=10)
    expected_indices, expected_similarities = brute_force(gallery, queries, 10)
    np.testing.assert_array_equal(indices, expected_indices)
    np.testing.assert_allclose(similarities, expected_similarities, atol=1.1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_neither_blocks_nor_threads_nor_types_matter(kind, monkeypatch):
    gallery, queries = make(kind, 300, 24, 2), make(kind, 50, 24, 3)
    whole = neighbours(gallery, queries, k=10, threads=1)
    monkeypatch.setattr(knn_search, "_BLOCK_BYTES", 8 * 24 * 37)
    monkeypatch.setattr(knn_search, "_QUERIES", 11)
    wide = neighbours(np.asfortranarray(gallery, dtype=np.float64), queries.astype(np.float64), k=10, threads=2)
    for a, b in zip(whole, wide, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scaling", ["clip", "dimension"])
def test_faiss_finds_the_same(kind, scaling):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of its generated bindings
        pytest.importorskip("faiss")
    gallery, queries = make(kind, 400, 24, 4), make(kind, 40, 24, 5)
    ours = neighbours(gallery, queries, k=10, scaling=scaling)
    for a, b in zip(ours, neighbours(gallery, queries, k=10, scaling=scaling, backend="faiss"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_scaling_by_dimension_is_what_xares_computes():
    rng = np.random.default_rng(6)
    gallery, queries = rng.normal(size=(80, 12)) * rng.random(12), rng.normal(size=(30, 12))
    targets = rng.integers(0, 5, 80)
    # X-ARES 0.1.3: the gallery is transposed before it is normalised along axis 1
    columns = torch.nn.functional.normalize(torch.tensor(gallery).T, dim=1)
    products = torch.nn.functional.normalize(torch.tensor(queries), dim=1) @ columns
    top = products.topk(10)
    weights = torch.softmax(top.values / 0.07, dim=1)[:, :, None]
    expected = (torch.nn.functional.one_hot(torch.tensor(targets)[top.indices], 5) * weights).sum(dim=1)
    got = knn_votes(gallery, targets, queries, num_classes=5, config=KnnConfig(scaling="dimension"))
    np.testing.assert_allclose(got, expected.numpy(), atol=1e-7)
    cosine = knn_votes(gallery, targets, queries, num_classes=5, config=KnnConfig())
    assert np.abs(cosine - got).max() > 0.1


@pytest.mark.parametrize("config", [KnnConfig(), KnnConfig(k=1), KnnConfig(k=3, temperature=1.0)])
@pytest.mark.parametrize("multilabel", [False, True])
def test_votes_by_the_definition(config, multilabel):
    rng = np.random.default_rng(0)
    gallery, queries = make("duplicates", 60, 5, 0), make("random", 25, 5, 1)
    targets = (rng.random((60, 4)) < 0.4).astype(np.uint8) if multilabel else rng.integers(0, 4, 60)
    expected = np.zeros((25, 4))
    for q, (near, similarity) in enumerate(zip(*brute_force(gallery, queries, config.k), strict=True)):
        weights = [math.exp(value / config.temperature) for value in similarity]
        for weight, g in zip(weights, near, strict=True):
            expected[q] += weight / sum(weights) * (targets[g] if multilabel else np.eye(4)[targets[g]])
    got = knn_votes(gallery, targets, queries, num_classes=4, config=config)
    np.testing.assert_allclose(got, expected, atol=1e-7)


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


def test_small_gallery_and_zero_vectors():
    votes = knn_votes(np.zeros((3, 2)), np.array([0, 1, 1]), np.ones((1, 2)), num_classes=2, config=KnnConfig())
    np.testing.assert_allclose(votes, [[1 / 3, 2 / 3]])


def test_a_collapsed_encoder_is_searched_without_comparing_every_pair(monkeypatch):
    compared = []
    exact = knn_search._exact
    monkeypatch.setattr(knn_search, "_exact", lambda *pairs: compared.append(len(pairs[1])) or exact(*pairs))
    indices, similarities = neighbours(np.ones((3000, 8)), np.ones((500, 8)), k=10)
    np.testing.assert_array_equal(indices, np.tile(np.arange(10), (500, 1)))
    assert (similarities == 1).all()
    assert sum(compared) == 500 * 10


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("scaling", ["clip", "dimension"])
def test_broken_embeddings_are_refused(bad, scaling):
    gallery = np.ones((4, 3))
    gallery[2, 1] = bad
    with pytest.raises(EncoderError, match="expected finite embeddings"):
        neighbours(gallery, np.ones((1, 3)), k=2, scaling=scaling)
    with pytest.raises(EncoderError, match="expected finite embeddings"):
        neighbours(np.ones((4, 3)), gallery, k=2, scaling=scaling)


@pytest.mark.parametrize("change", [{"k": 0}, {"temperature": 0.0}, {"gallery": "test"}, {"scaling": "none"}])
def test_bad_parameters(change):
    with pytest.raises(ConfigError, match="expected k >= 1"):
        KnnConfig(**change)


def test_bad_arguments():
    with pytest.raises(ConfigError, match="numpy or faiss"):
        neighbours(np.ones((2, 2)), np.ones((2, 2)), k=1, backend="annoy")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="at least one clip"):
        neighbours(np.ones((0, 2)), np.ones((2, 2)), k=1)


@pytest.mark.shared
def test_equals_brute_force_on_embeddings_of_real_audio():
    table = Path(__file__).parents[3] / "shared" / "data" / "eval_fsdd.csv"
    if not table.is_file():
        pytest.skip("needs the reference pack at ../shared")
    clips = read_table(table).limited(80).clips
    vectors = embed_clips(load_encoder("log-mel"), clips, cache=None)
    assert len(vectors) == 240
    for k in (1, 10):
        found, expected = neighbours(vectors[:160], vectors[160:], k=k), brute_force(vectors[:160], vectors[160:], k)
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_allclose(found[1], expected[1], atol=2e-9)
