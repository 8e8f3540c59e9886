"""A shuffle computed element by element: a bijection for every size and key, and as random as a shuffle must be.

Thresholds on p-values are far out (1e-4), and the keys are fixed: these tests do not fail by chance.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from uniwhisper.batches.shuffling import hashed, make_key, permuted, uniform

KEYS = st.integers(0, 2**64 - 1)


def shuffles(size: int, count: int, positions: list[int] | None = None, *, seed: int = 7) -> np.ndarray:
    """Return where `count` shuffles by different keys put the positions, [count, positions]."""
    wanted = np.arange(size) if positions is None else np.array(positions)
    keys = hashed(make_key("test", seed), np.arange(count))
    return permuted(np.tile(wanted, count), size, np.repeat(keys, len(wanted))).reshape(count, len(wanted))


def test_every_size_up_to_5000_is_a_bijection() -> None:
    for size in [*range(1, 300), *range(300, 5000, 61), *(n * n + d for n in (31, 64, 70) for d in (-1, 0, 1))]:
        assert np.array_equal(np.sort(permuted(np.arange(size), size, make_key(size))), np.arange(size)), size


@settings(max_examples=60, deadline=None)
@given(size=st.integers(1, 5000), key=KEYS)
def test_any_size_and_key_is_a_bijection(size: int, key: int) -> None:
    assert np.array_equal(np.sort(permuted(np.arange(size), size, key)), np.arange(size))


@settings(max_examples=10, deadline=None)
@given(size=st.integers(100_000, 400_000), key=KEYS)
def test_big_sizes_are_bijections(size: int, key: int) -> None:
    assert np.bincount(permuted(np.arange(size), size, key), minlength=size).tolist() == [1] * size


@settings(max_examples=20, deadline=None)
@given(size=st.integers(10**9, 2**52), key=KEYS)
def test_huge_sizes_stay_inside_and_apart(size: int, key: int) -> None:
    positions = np.unique(np.linspace(0, size - 1, 2000).astype(np.int64))
    found = permuted(positions, size, key)
    assert found.min() >= 0
    assert found.max() < size
    assert len(np.unique(found)) == len(positions)


@settings(max_examples=30, deadline=None)
@given(elements=st.lists(st.tuples(st.integers(1, 10**7), KEYS, st.floats(0, 1, exclude_max=True)), max_size=40))
def test_elements_of_many_shuffles_at_once_are_those_of_each_alone(elements: list[tuple[int, int, float]]) -> None:
    sizes = np.array([size for size, _, _ in elements], dtype=np.int64)
    keys = np.array([key for _, key, _ in elements], dtype=np.uint64)
    positions = np.array([int(at * size) for size, _, at in elements], dtype=np.int64)
    together = permuted(positions, sizes, keys)
    alone = [int(permuted(positions[i : i + 1], int(sizes[i]), int(keys[i]))[0]) for i in range(len(elements))]
    assert together.tolist() == alone


@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_all_permutations_of_a_few_elements_are_equally_likely(size: int) -> None:
    orders = math.factorial(size)
    found = shuffles(size, 60 * orders)
    counts = np.zeros(orders)
    seen = np.unique(found @ size ** np.arange(size), return_counts=True)[1]
    counts[: len(seen)] = seen
    assert stats.chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("size", [7, 16, 25, 37])
def test_positions_and_pairs_are_uniform_over_keys(size: int) -> None:
    for first, second in ((0, 1), (size // 2, size // 2 + 1), (0, size - 1)):
        found = shuffles(size, 20_000, [first, second])
        counts = np.zeros((size, size))
        np.add.at(counts, (found[:, 0], found[:, 1]), 1)
        assert stats.chisquare(counts.sum(axis=1)).pvalue > 1e-4
        assert stats.chisquare(counts[~np.eye(size, dtype=bool)]).pvalue > 1e-4


@pytest.mark.parametrize("size", [1000, 99_999, 8_275_001])
def test_neighbours_in_a_shuffle_have_nothing_in_common(size: int) -> None:
    count = min(size, 100_000)
    found = permuted(np.arange(count), size, make_key("neighbours", size)) / size
    side = math.isqrt(size)
    for lag in (1, 2, 3, side - 1, side, side + 1, side + 2):
        correlation = np.corrcoef(found[:-lag], found[lag:])[0, 1]
        assert abs(correlation) * math.sqrt(count - lag) < 4
    assert abs(np.mean(np.abs(np.diff(found))) - 1 / 3) * math.sqrt(18 * count) < 4 * math.sqrt(1.5)
    assert abs(np.mean(np.diff(found) > 0) - 0.5) * math.sqrt(12 * count) < 4  # as many steps up as down


def test_keys_that_differ_by_one_give_shuffles_that_have_nothing_in_common() -> None:
    size = 20_000
    first, second = (permuted(np.arange(size), size, key) for key in (41, 42))
    assert abs(np.corrcoef(first, second)[0, 1]) * math.sqrt(size) < 4
    assert np.sum(first == second) < 8  # one is expected


def test_uniform_numbers_are_uniform_and_apart() -> None:
    values = uniform(make_key("uniform"), np.arange(50_000))
    assert values.min() >= 0
    assert values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-4
    assert len(np.unique(values)) == len(values)


def test_numbers_are_the_same_on_every_machine() -> None:
    # The first outputs of SplitMix64 from seed 0, of the reference implementation; its first state is one step on.
    assert hashed(0, np.arange(1, 4)).tolist() == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    assert make_key(1, "source", "talk") == 12446352904968085758
    assert permuted(np.arange(12), 12, 2024).tolist() == [1, 11, 5, 7, 10, 9, 2, 0, 8, 3, 6, 4]
