from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniwhisper.batches import BatchConfig, BatchOrder, Draw, mixture_weights
from uniwhisper.errors import ConfigError

SIZES = st.dictionaries(st.sampled_from("abcd"), st.integers(8, 60), min_size=1, max_size=4)


def durations(sizes: dict[str, int], *, low_s: float = 0.5, high_s: float = 6.0) -> dict[str, list[float]]:
    """Return clip durations that differ, the same in every run."""
    rng = np.random.default_rng(sum(sizes.values()))
    return {name: rng.uniform(low_s, high_s, size).tolist() for name, size in sizes.items()}


def order(sizes: dict[str, int], *, seed: int = 0, **options: Any) -> BatchOrder:
    defaults: dict[str, Any] = {"tokens": 600, "window": 64}
    config = BatchConfig(**(defaults | options))
    return BatchOrder(durations(sizes), config=config, seed=seed)


def flat(batches: list[list[Draw]]) -> list[Draw]:
    return [draw for batch in batches for draw in batch]


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 2**40), numbers=st.permutations(range(25)), buckets=st.integers(1, 4))
def test_any_batch_can_be_asked_for_directly(
    sizes: dict[str, int], seed: int, numbers: list[int], buckets: int
) -> None:
    sequential = order(sizes, seed=seed, buckets=buckets)
    batches = [sequential.batch(number) for number in range(25)]
    other = order(sizes, seed=seed, buckets=buckets)
    assert {number: other.batch(number) for number in numbers} == dict(enumerate(batches))
    assert order(sizes, seed=seed, buckets=buckets).batch(numbers[0]) == batches[numbers[0]]  # with nothing before it


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 99), windows=st.integers(1, 4))
def test_every_clip_comes_once_in_an_epoch(sizes: dict[str, int], seed: int, windows: int) -> None:
    plan = order(sizes, seed=seed)
    draws = flat([plan.batch(number) for number in range(windows * plan.batches_per_window)])
    for name, size in sizes.items():
        visits = Counter((draw.epoch, draw.index) for draw in draws if draw.source == name)
        assert all(count == 1 for count in visits.values())
        last = max(epoch for epoch, _ in visits)
        for epoch in range(last):
            assert {index for at, index in visits if at == epoch} == set(range(size))


def test_epochs_and_seeds_and_windows_are_shuffled_differently() -> None:
    plan = order({"a": 32}, window=32)
    epochs = [
        [d.index for d in flat([plan.batch(w * plan.batches_per_window + n) for n in range(plan.batches_per_window)])]
        for w in (0, 1)
    ]
    other = order({"a": 32}, window=32, seed=1)
    assert epochs[0] != epochs[1]
    assert epochs[0] != sorted(epochs[0])
    assert [d.index for d in flat([other.batch(n) for n in range(other.batches_per_window)])] != epochs[0]


@settings(max_examples=40, deadline=None)
@given(
    sizes=SIZES,
    factors=st.dictionaries(st.sampled_from("abcd"), st.floats(0.5, 2.0)),
    temperature=st.floats(0.0, 1.0),
    windows=st.integers(1, 9),
)
def test_quotas_are_met_within_one_clip(
    sizes: dict[str, int], factors: dict[str, float], temperature: float, windows: int
) -> None:
    weights = {name: factor for name, factor in factors.items() if name in sizes}
    plan = order(sizes, window=1024, weights=weights, temperature=temperature, tokens=5000)
    raw = {name: size**temperature * weights.get(name, 1.0) for name, size in sizes.items()}
    drawn = plan.drawn(windows * plan.batches_per_window)
    assert sum(drawn.values()) == windows * 1024
    for name, count in drawn.items():
        assert abs(count - windows * 1024 * raw[name] / sum(raw.values())) <= 1 + 1e-6


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 99), num_batches=st.integers(0, 60))
def test_drawn_is_what_counting_gives(sizes: dict[str, int], seed: int, num_batches: int) -> None:
    plan = order(sizes, seed=seed)
    counted = Counter(draw.source for draw in flat([plan.batch(number) for number in range(num_batches)]))
    assert plan.drawn(num_batches) == {name: counted[name] for name in sorted(sizes)}


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 99), tokens=st.integers(200, 3000), buckets=st.integers(1, 4))
def test_batches_hold_the_same_number_of_tokens(sizes: dict[str, int], seed: int, tokens: int, buckets: int) -> None:
    plan = order(sizes, seed=seed, tokens=tokens, buckets=buckets)
    window = [plan.batch(number) for number in range(plan.batches_per_window)]
    costs = [sum(float(plan.costs[draw.source][draw.index]) for draw in batch) for batch in window]
    largest = max(float(values.max()) for values in plan.costs.values())
    assert all(window)
    assert max(abs(cost - np.mean(costs)) for cost in costs) <= largest  # never further off than one clip
    assert abs(np.mean(costs) - tokens) <= 0.5 * tokens


def test_costs_count_audio_and_text() -> None:
    config = BatchConfig(tokens_per_s=12.5, text_tokens=30, window=4)
    plan = BatchOrder({"a": [2.0, 4.0]}, config=config, seed=0)
    assert plan.costs["a"].tolist() == [55.0, 80.0]


def test_batches_never_cross_a_window() -> None:
    plan = order({"a": 50, "b": 14})
    for window in range(5):
        first = window * plan.batches_per_window
        draws = flat([plan.batch(first + number) for number in range(plan.batches_per_window)])
        assert len(draws) == 64
        assert Counter(draw.source for draw in draws) == {"a": 50, "b": 14}


def test_buckets_put_clips_of_similar_length_together() -> None:
    def spread(buckets: int) -> float:
        plan = order({"a": 64}, buckets=buckets, tokens=500)
        batches = [plan.batch(number) for number in range(plan.batches_per_window)]
        return float(np.mean([np.std([plan.costs["a"][draw.index] for draw in batch]) for batch in batches]))

    assert spread(8) < 0.5 * spread(1)


def test_buckets_do_not_come_in_order_of_length() -> None:
    plan = order({"a": 64}, buckets=8, tokens=500)
    correlations = []
    for window in range(6):
        numbers = range(window * plan.batches_per_window, (window + 1) * plan.batches_per_window)
        means = [np.mean([plan.costs["a"][draw.index] for draw in plan.batch(number)]) for number in numbers]
        correlations.append(abs(float(np.corrcoef(means, np.arange(len(means)))[0, 1])))
    assert np.mean(correlations) < 0.5


def test_sources_are_mixed_anew_in_every_window() -> None:
    equal = {"a": [1.0] * 32, "b": [1.0] * 32}
    plan = BatchOrder(equal, config=BatchConfig(window=64, tokens=500), seed=0)
    size = plan.batches_per_window
    windows = [flat([plan.batch(window * size + n) for n in range(size)]) for window in range(3)]
    patterns = ["".join(draw.source for draw in window) for window in windows]
    assert len(set(patterns)) == 3
    for pattern in patterns:
        assert pattern.count("ab") > 8  # and not one source after the other


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


def test_a_source_of_weight_zero_or_without_clips_is_left_out() -> None:
    plan = BatchOrder({"a": [1.0] * 9, "b": [1.0] * 9, "c": []}, config=BatchConfig(weights={"b": 0}, window=8), seed=0)
    assert plan.weights == {"a": 1.0}
    assert plan.drawn(3 * plan.batches_per_window) == {"a": 24}


def test_order_of_the_sources_given_does_not_matter() -> None:
    given_durations = durations({"a": 20, "b": 30})
    config = BatchConfig(window=32, tokens=400)
    forward = BatchOrder(given_durations, config=config, seed=3)
    backward = BatchOrder(dict(reversed(given_durations.items())), config=config, seed=3)
    assert [forward.batch(n) for n in range(9)] == [backward.batch(n) for n in range(9)]


def test_clips_above_the_token_budget_come_one_a_batch() -> None:
    plan = BatchOrder({"a": [30.0] * 16}, config=BatchConfig(tokens=100, window=16), seed=0)
    batches = [plan.batch(number) for number in range(plan.batches_per_window)]
    assert [len(batch) for batch in batches] == [1] * 16


def test_one_huge_clip_leaves_no_batch_empty() -> None:
    plan = BatchOrder({"a": [0.5] * 31 + [600.0]}, config=BatchConfig(tokens=800, window=32), seed=0)
    batches = [plan.batch(number) for number in range(plan.batches_per_window)]
    assert plan.batches_per_window > 4
    assert all(batches)
    assert sorted(draw.index for draw in flat(batches)) == list(range(32))


@pytest.mark.parametrize(
    "options",
    [{"tokens": 0}, {"window": 0}, {"buckets": 0}, {"tokens_per_s": 0.0}, {"text_tokens": -1}],
)
def test_impossible_settings_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="batches: expected"):
        BatchConfig(**options)


def test_impossible_mixtures_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"factors >= 0, found \{'a': -1.0\}"):
        BatchConfig(weights={"a": -1.0})
    with pytest.raises(ConfigError, match=r"names \['z'\]; the sources are \['a', 'b'\]"):
        order({"a": 5, "b": 5}, weights={"z": 1.0})
    with pytest.raises(ConfigError, match="mixture is empty"):
        order({"a": 5}, weights={"a": 0.0})
    with pytest.raises(ConfigError, match="mixture is empty"):
        BatchOrder({"a": []}, config=BatchConfig(), seed=0)
    with pytest.raises(ConfigError, match=r"sources \['b'\] are drawn less than twice in a window of 64"):
        order({"a": 1000, "b": 5})
