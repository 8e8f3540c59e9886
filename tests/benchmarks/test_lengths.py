"""Lengths of the benchmark's clips: means, spread, and that the large recipe's numbers follow from them."""

from __future__ import annotations

import numpy as np
import pytest

import lengths  # type: ignore[import-not-found]
from uniwhisper.batches import BatchOrder
from uniwhisper.recipes import make_config
from uniwhisper.recipes.uniwhisper_large_v3 import CLIPS_A_STEP, MEAN_CLIP_S
from uniwhisper.sources import get_source, list_sources


@pytest.fixture(scope="module")
def pools() -> dict[str, tuple[np.ndarray, float]]:
    return lengths.lengths_by_corpus()


@pytest.mark.parametrize("mean_s", [9.3, 14.3, 18.0, 25.0])
def test_mean_is_the_one_asked_for(mean_s: float) -> None:
    many = lengths.mixture_lengths(mean_s, 20_000)
    assert many.mean() == pytest.approx(mean_s, rel=0.005)
    assert lengths.mixture_lengths(mean_s, 64).mean() == pytest.approx(mean_s, rel=0.03)
    assert many.min() > 0
    assert many.max() <= 30


def test_lengths_vary_as_the_corpora_do() -> None:
    """A second moment of 1.35 times the squared mean at 18 s; few distinct lengths would have about 1."""
    lengths_s = lengths.mixture_lengths(18.0, 20_000)
    assert (lengths_s**2).mean() / lengths_s.mean() ** 2 == pytest.approx(1.35, abs=0.05)
    assert np.corrcoef(lengths_s[:-1], lengths_s[1:])[0, 1] == pytest.approx(0, abs=0.03)


def test_windows_and_repeatability() -> None:
    assert (lengths.mixture_lengths(30.0, 5) == 30).all()
    assert (lengths.mixture_lengths(12.0, 50, seed=3) == lengths.mixture_lengths(12.0, 50, seed=3)).all()
    assert (lengths.mixture_lengths(12.0, 50, seed=3) != lengths.mixture_lengths(12.0, 50, seed=4)).any()


@pytest.mark.parametrize("mean_s", [0.0, 4.0, 29.9, 31.0])
def test_mean_that_no_mixture_has(mean_s: float) -> None:
    with pytest.raises(ValueError, match=r"expected a mean of 4\.3 to 29\.3 s, or 30"):
        lengths.mixture_lengths(mean_s, 10)


def test_no_clips() -> None:
    with pytest.raises(ValueError, match="at least 1 clip, found 0"):
        lengths.mixture_lengths(10.0, 0)


def test_pools_have_the_sizes_that_the_sources_declare(pools: dict[str, tuple[np.ndarray, float]]) -> None:
    training = {name for name in list_sources() if "training" in get_source(name).SPEC.uses}
    assert set(lengths.corpora()) == training
    for name in training:
        own = [pool for key, pool in pools.items() if key.partition("/")[0] == name]
        hours = sum(seconds.sum() * weight for seconds, weight in own) / 3600
        assert hours == pytest.approx(get_source(name).SPEC.hours, rel=0.01), name
    assert lengths.natural_mean_s() == pytest.approx(9.1, abs=0.2)


def test_large_recipe_draws_its_clips_a_step(pools: dict[str, tuple[np.ndarray, float]]) -> None:
    """The recipe's token budget rests on a mean length; drawn from corpora of these hours, a step has 256 clips."""
    config = make_config("uniwhisper_large_v3")
    durations: dict[str, np.ndarray] = {}
    rng = np.random.default_rng(0)
    for key, (seconds, weight) in pools.items():
        count = max(20, round(len(seconds) * weight / 50))
        name = key.partition("/")[0]
        durations[name] = np.concatenate([durations.get(name, np.zeros(0)), rng.choice(seconds, count)])
    order = BatchOrder(durations, config=config.batches, seed=0)
    steps = 60
    drawn = order.drawn(steps * config.accumulation)
    assert sum(drawn.values()) / steps == pytest.approx(CLIPS_A_STEP, rel=0.02)
    heard_s = sum(count * durations[name].mean() for name, count in drawn.items())
    assert heard_s / sum(drawn.values()) == pytest.approx(MEAN_CLIP_S, rel=0.02)
