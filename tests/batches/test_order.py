from __future__ import annotations

import pickle
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniwhisper.batches import BatchConfig, BatchOrder, Draw, for_rank, rank_numbers
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


def windows(plan: BatchOrder, first: int, count: int = 1) -> list[list[Draw]]:
    """Return all batches of `count` windows."""
    size = plan.batches_per_window
    return [plan.batch(number) for number in range(first * size, (first + count) * size)]


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


def test_a_batch_far_away_makes_its_own_window_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = order({"a": 50, "b": 14})
    made: list[int] = []
    make = BatchOrder._make_window
    monkeypatch.setattr(BatchOrder, "_make_window", lambda self, number: made.append(number) or make(self, number))
    plan.batch(10**12)
    plan.drawn(10**12 + 1)
    assert made == [10**12 // plan.batches_per_window]


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 99), count=st.integers(1, 4))
def test_every_clip_comes_once_in_an_epoch(sizes: dict[str, int], seed: int, count: int) -> None:
    draws = flat(windows(order(sizes, seed=seed), 0, count))
    for name, size in sizes.items():
        visits = Counter((draw.epoch, draw.index) for draw in draws if draw.source == name)
        assert all(times == 1 for times in visits.values())
        last = max(epoch for epoch, _ in visits)
        for epoch in range(last):
            assert {index for at, index in visits if at == epoch} == set(range(size))


def test_epochs_and_seeds_and_sources_are_shuffled_differently() -> None:
    def indexes(plan: BatchOrder, source: str, epoch: int) -> list[int]:
        draws = flat(windows(plan, 0, 4))
        return [draw.index for draw in draws if (draw.source, draw.epoch) == (source, epoch)]

    plan, other = (order({"a": 32, "b": 32}, seed=seed) for seed in (0, 1))
    found = [indexes(chosen, source, epoch) for chosen in (plan, other) for source in "ab" for epoch in range(4)]
    assert all(sorted(some) == list(range(32)) for some in found)
    for i, some in enumerate(found):
        for more in found[:i]:
            assert sum(a == b for a, b in zip(some, more, strict=True)) < 8


def test_another_source_leaves_the_shuffles_of_a_source_alone() -> None:
    given_durations = durations({"a": 30, "c": 40})
    config = BatchConfig(window=64)
    alone = BatchOrder({"c": given_durations["c"]}, config=config, seed=0)
    beside = BatchOrder(given_durations, config=config, seed=0)
    in_c = [draw.index for draw in flat(windows(beside, 0, 3)) if draw.source == "c"]
    assert in_c == [draw.index for draw in flat(windows(alone, 0, 3))][: len(in_c)]


@settings(max_examples=40, deadline=None)
@given(
    sizes=SIZES,
    factors=st.dictionaries(st.sampled_from("abcd"), st.floats(0.5, 2.0)),
    temperature=st.floats(0.0, 1.0),
    count=st.integers(1, 9),
)
def test_stated_weights_are_met_at_every_border(
    sizes: dict[str, int], factors: dict[str, float], temperature: float, count: int
) -> None:
    known = {name: factor for name, factor in factors.items() if name in sizes}
    plan = order(sizes, weights=known, temperature=temperature, window=1024)
    drawn = plan.drawn(count * plan.batches_per_window)
    raw = {name: size**temperature * known.get(name, 1.0) for name, size in sizes.items()}
    assert sum(drawn.values()) == count * 1024
    for name, found in drawn.items():
        assert abs(found - count * 1024 * raw[name] / sum(raw.values())) <= 1 + 1e-6


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.dictionaries(st.sampled_from("abcdefghij"), st.integers(1, 2000), min_size=1, max_size=10),
    seed=st.integers(0, 99),
    first=st.integers(0, 10**6),
)
def test_inside_a_window_sources_are_spread_evenly(sizes: dict[str, int], seed: int, first: int) -> None:
    plan = order(sizes, seed=seed)
    counts = Counter(plan.drawn(first * plan.batches_per_window))
    for draw in flat(windows(plan, first, 3)):
        counts[draw.source] += 1
        for name, share in plan.weights.items():
            assert abs(counts[name] - counts.total() * share) < 2 + 2 * share * len(sizes)


def test_a_source_that_comes_once_in_many_windows_comes_on_time() -> None:
    seconds = {"big": np.full(100_000, 2.0), "middle": np.full(300, 2.0), "tiny": np.full(3, 2.0)}
    plan = BatchOrder(seconds, config=BatchConfig(window=64, tokens=600), seed=0)
    share = plan.weights["tiny"]
    assert share * 64 < 0.01
    last = 0
    for window in range(0, 120_000, 97):
        found = plan.drawn(window * plan.batches_per_window)["tiny"]
        assert abs(found - window * 64 * share) <= 1
        assert found >= last
        last = found
    assert last > 200
    # And those are real draws, every clip once an epoch.
    starts = [w for w in range(6000) if plan._quotas.before(w)[2] < plan._quotas.before(w + 1)[2]]
    draws = [draw for w in starts for draw in flat(windows(plan, w)) if draw.source == "tiny"]
    assert [draw.epoch for draw in draws[:9]] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sorted(draw.index for draw in draws[:3]) == [0, 1, 2]


@settings(max_examples=30, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 99), num_batches=st.integers(0, 60), buckets=st.integers(1, 3))
def test_drawn_is_what_counting_gives(sizes: dict[str, int], seed: int, num_batches: int, buckets: int) -> None:
    plan = order(sizes, seed=seed, buckets=buckets)
    counted = Counter(draw.source for draw in flat([plan.batch(number) for number in range(num_batches)]))
    assert plan.drawn(num_batches) == {name: counted[name] for name in sorted(sizes)}
    assert plan.epochs(num_batches) == {name: counted[name] / sizes[name] for name in sorted(sizes)}


@settings(max_examples=40, deadline=None)
@given(sizes=SIZES, seed=st.integers(0, 99), tokens=st.integers(200, 3000), buckets=st.integers(1, 4))
def test_batches_hold_the_same_number_of_tokens(sizes: dict[str, int], seed: int, tokens: int, buckets: int) -> None:
    plan = order(sizes, seed=seed, tokens=tokens, buckets=buckets)
    window = windows(plan, 0)
    costs = [sum(float(plan.costs(draw.source, [draw.index])[0]) for draw in batch) for batch in window]
    largest = max(float(plan.costs(name, range(size)).max()) for name, size in sizes.items())
    assert all(window)
    assert max(abs(cost - np.mean(costs)) for cost in costs) <= largest  # never further off than one clip
    assert abs(np.mean(costs) - tokens) <= 0.5 * tokens


def test_costs_count_audio_and_text() -> None:
    config = BatchConfig(tokens_per_s=12.5, text_tokens=30, window=4)
    plan = BatchOrder({"a": [2.0, 4.0]}, config=config, seed=0)
    assert plan.costs("a", [1, 0, 1]).tolist() == [80.0, 55.0, 80.0]


def test_batches_never_cross_a_window() -> None:
    plan = order({"a": 50, "b": 14})
    for window in range(5):
        draws = flat(windows(plan, window))
        assert len(draws) == 64
        assert Counter(draw.source for draw in draws) == {"a": 50, "b": 14}


def test_buckets_put_clips_of_similar_length_together() -> None:
    def spread(buckets: int) -> float:
        plan = order({"a": 64}, buckets=buckets, tokens=500)
        return float(np.mean([np.std(plan.costs("a", [d.index for d in batch])) for batch in windows(plan, 0)]))

    assert spread(8) < 0.5 * spread(1)


def test_buckets_do_not_come_in_order_of_length() -> None:
    plan = order({"a": 64}, buckets=8, tokens=500)
    correlations = []
    for window in range(6):
        means = [np.mean(plan.costs("a", [draw.index for draw in batch])) for batch in windows(plan, window)]
        correlations.append(abs(float(np.corrcoef(means, np.arange(len(means)))[0, 1])))
    assert np.mean(correlations) < 0.5


def test_sources_are_mixed_anew_in_every_window() -> None:
    equal = {"a": [1.0] * 32, "b": [1.0] * 32}
    plan = BatchOrder(equal, config=BatchConfig(window=64, tokens=500), seed=0)
    patterns = ["".join(draw.source for draw in flat(windows(plan, window))) for window in range(3)]
    assert len(set(patterns)) == 3
    for pattern in patterns:
        assert pattern.count("ab") > 8  # and not one source after the other


def test_a_manifest_sorted_by_label_reaches_the_model_unsorted() -> None:
    """NeMo's fine-tuning guide names sorted manifests behind a short shuffle buffer as what makes models collapse."""
    plan = BatchOrder({"a": np.full(50_000, 1.0)}, config=BatchConfig(window=512, tokens=1000), seed=0)
    draws = flat(windows(plan, 0, 50_000 // 512))
    labels = np.array([draw.index for draw in draws]) // 500  # 100 labels, one after the other
    assert np.mean(labels[1:] == labels[:-1]) == pytest.approx(0.01, abs=0.003)
    sizes = [len({draw.index // 500 for draw in batch}) / len(batch) for batch in windows(plan, 7)]
    assert np.mean(sizes) > 0.85  # 15 clips of 100 labels have 14 on average


def test_weights_by_hours_and_by_clips() -> None:
    seconds = {"long": [30.0] * 10, "short": [3.0] * 90}
    by_clips = BatchOrder(seconds, config=BatchConfig(window=100), seed=0)
    by_hours = BatchOrder(seconds, config=BatchConfig(window=100, weigh_by="hours"), seed=0)
    assert by_clips.weights == pytest.approx({"long": 0.1, "short": 0.9})
    assert by_hours.weights == pytest.approx({"long": 300 / 570, "short": 270 / 570})
    assert by_hours.drawn(by_hours.batches_per_window) == {"long": 53, "short": 47}
    half = BatchOrder(seconds, config=BatchConfig(window=100, weigh_by="hours", temperature=0.5), seed=0)
    assert half.weights["long"] / half.weights["short"] == pytest.approx((300 / 270) ** 0.5)


def test_a_source_of_weight_zero_or_without_clips_is_left_out() -> None:
    plan = BatchOrder({"a": [1.0] * 9, "b": [1.0] * 9, "c": []}, config=BatchConfig(weights={"b": 0}, window=8), seed=0)
    assert plan.weights == {"a": 1.0}
    assert plan.drawn(3 * plan.batches_per_window) == {"a": 24}
    with pytest.raises(ConfigError, match="mixture is empty"):
        BatchOrder({"a": []}, config=BatchConfig(), seed=0)


def test_order_of_the_sources_given_does_not_matter() -> None:
    given_durations = durations({"a": 20, "b": 30})
    config = BatchConfig(window=32, tokens=400)
    forward = BatchOrder(given_durations, config=config, seed=3)
    backward = BatchOrder(dict(reversed(given_durations.items())), config=config, seed=3)
    assert [forward.batch(n) for n in range(9)] == [backward.batch(n) for n in range(9)]


def test_clips_above_the_token_budget_come_one_a_batch() -> None:
    plan = BatchOrder({"a": [30.0] * 16}, config=BatchConfig(tokens=100, window=16), seed=0)
    assert [len(batch) for batch in windows(plan, 0)] == [1] * 16


def test_no_batch_is_empty_where_windows_differ_in_length() -> None:
    seconds = {"big": [30.0] * 1000} | {f"rare{i}": [30.0] * (i + 1) for i in range(9)}
    plan = BatchOrder(seconds, config=BatchConfig(tokens=100, window=24), seed=0)
    assert plan._quotas.num_rare == 9
    assert {len(flat(windows(plan, window))) for window in range(200)} != {24}
    assert all(all(windows(plan, window)) for window in range(200))


def test_one_huge_clip_leaves_no_batch_empty() -> None:
    plan = BatchOrder({"a": [0.5] * 31 + [600.0]}, config=BatchConfig(tokens=800, window=32), seed=0)
    batches = windows(plan, 0)
    assert plan.batches_per_window > 4
    assert all(batches)
    assert sorted(draw.index for draw in flat(batches)) == list(range(32))


def test_mapped_durations_are_read_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {name: np.array(values, dtype=np.float32) for name, values in durations({"a": 40, "b": 24}).items()}
    for name, values in seconds.items():
        values.tofile(tmp_path / name)
    mapped = {name: np.memmap(tmp_path / name, dtype=np.float32, mode="r") for name in seconds}
    monkeypatch.setattr("uniwhisper.batches.order._BLOCK", 7)  # sums over several blocks
    plan = BatchOrder(mapped, config=BatchConfig(window=32, tokens=400), seed=5)
    assert all(np.shares_memory(mapped[name], kept) for name, kept in zip("ab", plan._durations, strict=True))
    listed = BatchOrder({name: values.tolist() for name, values in seconds.items()}, config=plan.config, seed=plan.seed)
    assert [plan.batch(n) for n in range(9)] == [listed.batch(n) for n in range(9)]


def test_an_order_can_be_sent_to_another_process() -> None:
    plan = order({"a": 20, "b": 30}, seed=3)
    batches = [plan.batch(number) for number in range(5)]
    sent = pickle.loads(pickle.dumps(plan))
    assert [sent.batch(number) for number in range(5)] == batches


@pytest.mark.parametrize("bad", [-0.5, float("nan"), float("inf")])
def test_impossible_durations_are_refused(bad: float) -> None:
    with pytest.raises(ConfigError, match=rf"source a: expected finite seconds >= 0, found {bad} for clip 3"):
        BatchOrder({"a": [1.0, 1.0, 1.0, bad, 1.0]}, config=BatchConfig(), seed=0)


def test_numbers_below_zero_are_refused() -> None:
    with pytest.raises(ConfigError, match="0 or above, found -1"):
        order({"a": 20}).batch(-1)


@pytest.mark.parametrize("world_size", [1, 2, 3, 6])
@pytest.mark.parametrize("step", [0, 41])
def test_ranks_share_the_batches_of_a_step(step: int, world_size: int) -> None:
    shares = [for_rank(step, rank=rank, world_size=world_size, accumulation=6) for rank in range(world_size)]
    assert sorted(number for share in shares for number in share) == list(range(step * 6, step * 6 + 6))
    assert {len(share) for share in shares} == {6 // world_size}
    for rank, share in enumerate(shares):
        assert [number % 6 % world_size for number in share] == [rank] * len(share)


def test_the_first_ranks_compute_one_batch_more_where_shares_are_uneven() -> None:
    shares = [for_rank(3, rank=rank, world_size=3, accumulation=8) for rank in range(3)]
    assert [list(share) for share in shares] == [[24, 27, 30], [25, 28, 31], [26, 29]]


def test_impossible_ranks_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one batch a step for each of 3 processes, found 2"):
        for_rank(0, rank=0, world_size=3, accumulation=2)
    for rank in (-1, 3):
        with pytest.raises(ConfigError, match=f"a rank from 0 to 2 among 3 processes, found {rank}"):
            for_rank(0, rank=rank, world_size=3, accumulation=3)


def test_the_order_is_the_same_on_every_machine() -> None:
    plan = BatchOrder(
        {"a": [1.0 + i / 8 for i in range(20)], "b": [2.0] * 9, "c": [0.5]},
        config=BatchConfig(window=16, tokens=400, temperature=0.5),
        seed=2024,
    )
    near, far = ([(draw.source, draw.index, draw.epoch) for draw in plan.batch(number)] for number in (1, 10**9))
    assert near == [("b", 2, 0), ("a", 12, 0), ("a", 5, 0), ("b", 6, 0)]
    assert far == [("a", 6, 105572809), ("b", 4, 157378651), ("a", 14, 105572809)]


@pytest.mark.parametrize("accumulation", [3, 4, 7])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_numbers_of_a_rank_are_those_of_its_steps(size: int, accumulation: int) -> None:
    for rank in range(size):
        found = rank_numbers(5, 9, rank=rank, size=size, accumulation=accumulation)
        steps = [for_rank(step, rank=rank, world_size=size, accumulation=accumulation) for step in range(5, 9)]
        expected = [number for step in steps for number in step]
        assert list(found) == expected
        assert len(found) == len(expected)
        assert list(found[1:-1]) == expected[1:-1]
        assert found[-1] == expected[-1]
        with pytest.raises(IndexError):
            found[len(expected)]


def test_the_numbers_of_a_long_run_take_no_memory() -> None:
    found = rank_numbers(0, 10**12, rank=1, size=2, accumulation=3)
    assert len(found) == 10**12
    assert found[10**12 - 1] == 3 * 10**12 - 2
    assert len(pickle.dumps(found)) < 300
    assert list(rank_numbers(7, 7, rank=0, size=1, accumulation=1)) == []
    with pytest.raises(ConfigError, match="at least one batch a step"):
        rank_numbers(0, 4, rank=0, size=3, accumulation=2)
