"""What a run costs, for the paper's recipe and for small ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from uniwhisper.errors import WeightsError
from uniwhisper.model.flops import encoder_flops
from uniwhisper.recipes import make_config
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.estimate import GPU_SHARE, estimate
from uniwhisper.train.hardware import gpu

A800 = gpu("A800").bf16_flops


def papers(seconds: np.ndarray) -> TrainConfig:
    """Return the paper's recipe with batches of 256 clips of these lengths, 90 tokens of text each."""
    config = make_config("uniwhisper_large_v3")
    tokens = round(16 * (float(seconds.mean()) * 25 + 90))
    return replace(
        config,
        batches=replace(config.batches, tokens=tokens, text_tokens=90),
        optim=replace(config.optim, align_steps=0),
        accumulation=16,
    )


@pytest.mark.parametrize(
    ("seconds", "exa", "hours", "tolerance"),
    [
        (np.full(1000, 30.0), 66.2, 7.36, 0.01),  # 30 s windows, answer-only logits
        (np.linspace(18 - 18.4, 18 + 18.4, 1000).clip(0.1, 36), 39.1, 4.36, 0.05),  # 18 s, mean square 1.35 mean^2
    ],
)
def test_the_papers_run(seconds: np.ndarray, exa: float, hours: float, tolerance: float) -> None:
    """Figures worked out apart from this code: 30,000 steps of 256 clips on eight A800 at the full rate."""
    found = estimate(papers(seconds), {"a": seconds.clip(0, 30)})
    steps = 256 / found.workload.clips_per_step
    assert found.run_flops * steps / 1e18 == pytest.approx(exa, rel=tolerance)
    assert found.hours(A800, share=1, devices=8) * steps == pytest.approx(hours, rel=tolerance)
    assert found.hours(A800, share=GPU_SHARE, devices=8) == pytest.approx(
        found.hours(A800, share=1, devices=8) / GPU_SHARE
    )


def test_padding_costs_what_windows_cost() -> None:
    seconds = np.full(1000, 30.0)
    full = estimate(papers(seconds), {"a": seconds})
    assert full.padded_run_flops == pytest.approx(full.run_flops)
    short = estimate(papers(seconds), {"a": np.full(1000, 10.0)})
    assert short.padded_step_flops > 2.5 * short.step_flops


def test_alignment_steps_cost_less(config: Callable[..., TrainConfig]) -> None:
    durations = {"a": np.full(50, 1.0)}
    none = estimate(config(optim={"align_steps": 0}, start={"clips": 0}), durations)
    some = estimate(config(optim={"align_steps": 5}, start={"clips": 0}), durations)
    saved = 5 * (none.step_flops - none.alignment_step_flops)
    assert 0 < none.alignment_step_flops < none.step_flops
    assert none.run_flops - some.run_flops == pytest.approx(saved)
    assert none.run_flops == pytest.approx(20 * none.step_flops)


def test_closed_forms_are_forward_passes(config: Callable[..., TrainConfig]) -> None:
    durations = {"a": np.full(50, 1.0)}
    none = estimate(config(start={"clips": 0}), durations)
    both = estimate(config(start={"clips": 30}, finish={"clips": 10, "calibration": "whiten"}), durations)
    assert both.run_flops - none.run_flops == pytest.approx(40 * encoder_flops(none.encoder, [50], frozen=True))


def test_sizes_come_from_the_folders(config: Callable[..., TrainConfig]) -> None:
    found = estimate(config(), {"a": np.full(50, 1.0)})
    assert (found.encoder.n_audio_state, found.lm.width) == (32, 32)
    assert found.parameters.trained < found.parameters.encoder + found.parameters.subsampler + found.parameters.adapter


def test_frozen_layers_cost_less(config: Callable[..., TrainConfig]) -> None:
    durations = {"a": np.full(50, 1.0)}
    all_of_them, some = (estimate(config(optim={"frozen_layers": n}), durations) for n in (0, 1))
    assert some.step_flops < all_of_them.step_flops
    assert some.parameters.trained < all_of_them.parameters.trained
    assert some.memory("cpu").optimizer < all_of_them.memory("cpu").optimizer


def test_seconds_of_a_step(config: Callable[..., TrainConfig]) -> None:
    found = estimate(config(), {"a": np.full(50, 1.0)})
    assert found.step_s(1e9, share=0.5, devices=2) == pytest.approx(found.step_flops / 1e9)


def test_memory_is_that_of_the_largest_batch(config: Callable[..., TrainConfig]) -> None:
    short = estimate(config(), {"a": np.full(50, 0.2)})
    mixed = estimate(config(), {"a": np.full(50, 0.2), "b": np.full(3, 2.0)})
    assert mixed.memory("cpu").peak() > short.memory("cpu").peak()


def test_a_process_takes_more_than_its_tensors(config: Callable[..., TrainConfig]) -> None:
    found = estimate(config(), {"a": np.full(50, 1.0)})
    assert found.process_bytes - found.memory("cpu").peak() == pytest.approx(0.3e9 + 2.6 * found.parameters.decoder)


def test_unknown_networks_are_said_to_be_unknown(config: Callable[..., TrainConfig]) -> None:
    with pytest.raises(WeightsError, match="someone/else"):
        estimate(config(decoder="someone/else"), {"a": np.full(50, 1.0)})
