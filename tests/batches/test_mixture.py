"""Shares and quotas: every source within a clip of its due at every border between windows, whatever its share."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniwhisper.batches.mixture import BatchConfig, Quotas, mixture_weights
from uniwhisper.errors import ConfigError

NAMES = st.sampled_from("abcdefghijklmnopqrstuvw")
SIZES = st.dictionaries(NAMES, st.integers(1, 10**7), min_size=1, max_size=23)


def dues(weights: dict[str, float], window: int, number: int) -> list[Fraction]:
    """Return exactly how many draws each source is due before window `number`."""
    return [number * window * Fraction(share) for share in weights.values()]


@settings(max_examples=300, deadline=None)
@given(sizes=SIZES, temperature=st.floats(0.0, 1.5), window=st.integers(50, 2000), number=st.integers(0, 10**7))
def test_no_source_is_ever_off_by_more_than_one_clip(
    sizes: dict[str, int], temperature: float, window: int, number: int
) -> None:
    weights = mixture_weights(sizes, BatchConfig(temperature=temperature))
    quotas = Quotas(weights, window)
    for at in (number, number + 1):
        counts = quotas.before(at)
        for count, due in zip(counts, dues(weights, window, at), strict=True):
            assert abs(count - due) <= 1
        assert abs(sum(counts) - at * window) <= max(0, quotas.num_rare - 1)
    drawn = [b - a for a, b in zip(quotas.before(number), quotas.before(number + 1), strict=True)]
    assert min(drawn) >= 0
    assert sum(drawn) >= quotas.least_draws


@settings(max_examples=100, deadline=None)
@given(
    rare=st.lists(st.floats(1e-7, 9e-5), min_size=1, max_size=20),
    often=st.lists(st.floats(0.1, 1.0), min_size=1, max_size=3),
    number=st.integers(0, 10**6),
)
def test_many_rare_sources_beside_one_or_two_big_ones(rare: list[float], often: list[float], number: int) -> None:
    sizes = {f"rare{i:02}": share for i, share in enumerate(rare)} | {f"often{i}": w for i, w in enumerate(often)}
    weights = mixture_weights(sizes, BatchConfig())
    quotas = Quotas(weights, 1024)
    assert quotas.num_rare >= 1
    before = quotas.before(number)
    for at in range(number + 1, number + 40):
        counts = quotas.before(at)
        assert all(b >= a for a, b in zip(before, counts, strict=True))
        assert sum(counts) - sum(before) >= quotas.least_draws
        assert max(abs(count - due) for count, due in zip(counts, dues(weights, 1024, at), strict=True)) <= 1
        before = counts


def test_windows_hold_what_they_should_where_nothing_is_rare() -> None:
    weights = mixture_weights({"a": 5, "b": 3, "c": 2.7, "d": 1}, BatchConfig())
    quotas = Quotas(weights, 37)
    assert quotas.num_rare == 0
    assert quotas.least_draws == 37
    assert [sum(quotas.before(number)) for number in range(2000)] == [37 * number for number in range(2000)]


def test_rare_sources_of_equal_share_take_turns() -> None:
    sizes = {"big": 1000.0} | {f"rare{i}": 0.1 for i in range(10)}
    quotas = Quotas(mixture_weights(sizes, BatchConfig()), 100)
    borders = [quotas.before(number) for number in range(1001)]
    added = [sum(after[1:]) - sum(before[1:]) for before, after in pairwise(borders)]
    assert sum(added) == 100
    assert max(added) == 1


def test_shares_are_met_exactly_over_long_runs() -> None:
    sizes = {f"source{i:02}": 4.0**-i for i in range(17)}  # the last one is due every four million windows
    weights = mixture_weights(sizes, BatchConfig())
    assert min(weights.values()) < 2e-10
    draws = 10**9 * 1024
    counts = Quotas(weights, 1024).before(10**9)
    assert max(abs(count - draws * share) for count, share in zip(counts, weights.values(), strict=True)) <= 1.001
    raw = {name: size / sum(sizes.values()) for name, size in sizes.items()}
    assert all(abs(weights[name] - share) <= 17 * 2.0**-36 for name, share in raw.items())


def test_weights_are_size_to_the_temperature_times_the_factor() -> None:
    sizes = {"b": 100, "a": 400, "c": 50}
    assert mixture_weights(sizes, BatchConfig()) == pytest.approx({"a": 400 / 550, "b": 100 / 550, "c": 50 / 550})
    assert mixture_weights(sizes, BatchConfig(temperature=0.5, weights={"c": 0.0})) == pytest.approx(
        {"a": 20 / 30, "b": 10 / 30}
    )
    assert mixture_weights(sizes, BatchConfig(temperature=0.0, weights={"a": 2.0})) == pytest.approx(
        {"a": 0.5, "b": 0.25, "c": 0.25}
    )
    assert list(mixture_weights(sizes, BatchConfig())) == ["a", "b", "c"]


@given(sizes=SIZES, temperature=st.floats(0.0, 1.5))
def test_shares_sum_to_one_to_the_last_bit(sizes: dict[str, int], temperature: float) -> None:
    weights = mixture_weights(sizes, BatchConfig(temperature=temperature))
    assert sum(map(Fraction, weights.values())) == 1
    assert weights.keys() == sizes.keys()


@pytest.mark.parametrize(
    "options",
    [{"tokens": 0}, {"window": 0}, {"buckets": 0}, {"tokens_per_s": 0.0}, {"text_tokens": -1}],
)
def test_impossible_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="batches: expected"):
        BatchConfig(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"a": -1.0}}, r"finite factors >= 0, found \{'a': -1.0\}"),
        ({"weights": {"a": float("nan")}}, r"finite factors >= 0, found \{'a': nan\}"),
        ({"temperature": -0.5}, "finite number >= 0, found -0.5"),
        ({"temperature": float("inf")}, "finite number >= 0, found inf"),
        ({"weigh_by": "files"}, r"expected one of \('clips', 'hours'\), found 'files'"),
    ],
)
def test_impossible_mixtures_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BatchConfig(**options)


def test_mixtures_of_nothing_are_refused() -> None:
    sizes = {"a": 5, "b": 5}
    with pytest.raises(ConfigError, match=r"names \['z'\]; the sources are \['a', 'b'\]"):
        mixture_weights(sizes, BatchConfig(weights={"z": 1.0}))
    with pytest.raises(ConfigError, match="mixture is empty"):
        mixture_weights(sizes, BatchConfig(weights={"a": 0.0, "b": 0.0}))
    with pytest.raises(ConfigError, match="mixture is empty"):
        mixture_weights({}, BatchConfig())
    with pytest.raises(ConfigError, match=r"sources \['b'\] have a share below 1.5e-11"):
        mixture_weights(sizes, BatchConfig(weights={"b": 1e-12}))


def test_windows_too_short_for_the_sources_are_refused() -> None:
    sizes = {"a": 1000, "b": 5, "c": 5}
    weights = mixture_weights(sizes, BatchConfig())
    assert Quotas(weights, 3).num_rare == 2
    assert Quotas(weights, 3).least_draws == 1
    with pytest.raises(ConfigError, match="more than 2, found 2, in which 2 of the 3 sources are due less than once"):
        Quotas(weights, 2)
