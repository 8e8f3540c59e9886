"""Batches of a run foretold from durations, with data and without."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from uniwhisper.batches import BatchConfig, BatchOrder
from uniwhisper.errors import ConfigError
from uniwhisper.recipes import make_config
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.workload import published_durations, run_workload

BATCHES = BatchConfig(tokens=500, tokens_per_s=25, text_tokens=40, window=64)
CONFIG = TrainConfig(batches=BATCHES, accumulation=3)


def test_batches_are_those_of_the_run() -> None:
    durations = {"a": np.linspace(0.5, 5, 200), "b": np.full(50, 40.0)}
    order = BatchOrder(durations, config=BATCHES, seed=CONFIG.seed)
    found = run_workload(CONFIG, durations)
    draws = order.batch(0)
    assert len(found.batches) == 64
    assert len(found.batches[0].frames) == len(draws)
    seconds = [min(float(durations[draw.source][draw.index]), 30.0) for draw in draws]
    assert list(found.batches[0].frames) == [int(np.ceil(s * 50)) for s in seconds]
    assert max(count for batch in found.batches for count in batch.frames) == 1500


def test_figures_of_a_step() -> None:
    found = run_workload(CONFIG, {"a": np.full(100, 4.0)})
    clips = np.mean([len(batch.frames) for batch in found.batches]) * 3
    assert found.clips_per_step == pytest.approx(clips)
    assert found.audio_s_per_step == pytest.approx(4 * clips)
    assert found.frames_per_step == pytest.approx(200 * clips)
    assert found.text_tokens_per_step == pytest.approx(40 * clips)
    assert found.answer_tokens_per_step == pytest.approx(20 * clips)


def test_padding_changes_frames_alone() -> None:
    batch = run_workload(CONFIG, {"a": np.full(100, 4.0)}).batches[0]
    padded = batch.padded(1500)
    assert set(padded.frames) == {1500}
    assert replace(padded, frames=batch.frames) == batch


def test_a_short_run_is_looked_at_once() -> None:
    config = replace(CONFIG, accumulation=1, parallel=1, optim=replace(CONFIG.optim, steps=5))
    assert len(run_workload(config, {"a": np.full(100, 4.0)}).batches) == 5


def test_the_papers_corpora_without_data() -> None:
    config = make_config("uniwhisper_large_v3")
    durations = published_durations(config)
    assert len(durations) == 23
    hours = sum(float(values[0]) * len(values) / 3600 for values in durations.values())
    assert hours == pytest.approx(38_357, rel=0.02)  # the sum of the paper's table 1
    assert all(0 < values[0] <= 30 and values.strides == (0,) for values in durations.values())
    work = run_workload(config, durations)
    assert 230 < work.clips_per_step < 280
    assert 13 < work.audio_s_per_step / work.clips_per_step < 16


def test_corpora_that_the_mixture_names() -> None:
    config = replace(CONFIG, batches=replace(BATCHES, weights={"librispeech": 1.0, "maestro": 2.0, "fma_small": 0.0}))
    found = published_durations(config)
    assert list(found) == ["librispeech", "maestro"]
    assert found["maestro"][0] == pytest.approx(560.6 / 19, rel=0.01)
    assert len(found["maestro"]) == 1276 * 19


def test_corpora_without_a_published_size_need_data() -> None:
    config = replace(CONFIG, batches=replace(BATCHES, weights={"my_calls": 1.0}))
    with pytest.raises(ConfigError, match=r"names 'my_calls', of which no published size is known: give --data"):
        published_durations(config)
