from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
import torch

from uniwhisper.errors import ConfigError
from uniwhisper.model.uniwhisper import UniWhisper
from uniwhisper.train.optim import (
    SCHEDULES,
    OptimConfig,
    build_optimizer,
    learning_rate,
    set_learning_rates,
    trainable,
)

from .regression import KINDS, built, network, optim_config, train, weights_of


@pytest.fixture
def model() -> UniWhisper:
    return network(OptimConfig())


def test_rate_warms_up_linearly_and_falls_as_a_cosine() -> None:
    config = OptimConfig(steps=110, warmup_steps=9, min_share=0.1)
    rates = [learning_rate(2.0, step, 10, config) for step in range(110)]
    assert rates[:10] == [0.0] * 10
    assert all(a < b for a, b in pairwise(rates[10:19]))
    assert rates[10] == pytest.approx(2.0 / 10)
    assert rates[60] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))  # half way from its start to the end
    assert all(a > b for a, b in pairwise(rates[20:]))
    assert rates[-1] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * 0.99))))
    assert learning_rate(2.0, 110, 10, config) == pytest.approx(0.2)


def test_constant_rate_stays_at_the_peak_after_the_warm_up() -> None:
    config = OptimConfig(schedule="constant", steps=50, warmup_steps=4, min_share=0.1)
    rates = [learning_rate(2.0, step, 10, config) for step in range(50)]
    assert rates[9:14] == pytest.approx([0.0, 0.4, 0.8, 1.2, 1.6])
    assert rates[14:] == [2.0] * 36


def test_wsd_warms_up_stays_and_decays_over_its_share() -> None:
    config = OptimConfig(schedule="wsd", steps=100, warmup_steps=4, decay_share=0.2, min_share=0.1)
    for start in (0, 30):  # every part decays over the same last steps
        rates = [learning_rate(2.0, step, start, config) for step in range(100)]
        assert rates[:start] == [0.0] * start
        assert rates[start : start + 5] == pytest.approx([0.4, 0.8, 1.2, 1.6, 2.0])
        assert rates[start + 4 : 81] == [2.0] * (77 - start)
        assert rates[90] == pytest.approx(2.0 * (0.1 + 0.9 * 0.5))
        assert all(a > b for a, b in pairwise(rates[80:]))
        assert learning_rate(2.0, 100, start, config) == pytest.approx(0.2)
    assert learning_rate(1.0, 9, 0, OptimConfig(schedule="wsd", steps=10, warmup_steps=0)) == 1.0  # one step of decay


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("kind", KINDS)
def test_encoder_waits_for_the_alignment_phase(kind: str, schedule: str) -> None:
    changes = {"steps": 50, "align_steps": 10, "warmup_steps": 0, "encoder_lr": 1e-3, "adapter_lr": 1e-2}
    run = built(kind, schedule=schedule, **changes)
    first = set_learning_rates(run.optimizer, 9, run.config)
    assert first["encoder"] == 0.0
    assert first["adapter"] > 0.0
    assert set_learning_rates(run.optimizer, 10, run.config)["encoder"] == pytest.approx(1e-3)
    for group in run.optimizer.param_groups:
        assert float(group["lr"]) == pytest.approx(learning_rate(group["peak"], 10, 10, run.config), rel=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_but_the_decoders_is_in_one_group(kind: str) -> None:
    run = built(kind, weight_decay=0.1)
    names = {id(parameter): name for name, parameter in run.model.named_parameters()}
    listed = [names[id(p)] for group in run.optimizer.param_groups for p in group["params"]]
    expected = [n for n in names.values() if not n.startswith("decoder.") and "embed_positions" not in n]
    assert sorted(listed) == sorted(expected)
    for group in run.optimizer.param_groups:
        assert tuple(group["betas"]) == (0.9, 0.98)
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name.startswith("audio." if group["part"] == "encoder" else "adapter.")
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0), name


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_frozen_never_moves(kind: str) -> None:
    run = built(kind, frozen_layers=1)
    before = weights_of(run.model)
    train(run.model, run.optimizer, run.config, 0, 3)
    for name, value in weights_of(run.model).items():
        frozen = name.startswith(("decoder.", "audio.encoder.conv", "audio.encoder.layers.0.")) or "positions" in name
        assert torch.equal(value, before[name]) == frozen, name


@pytest.mark.parametrize("kind", KINDS)
def test_the_encoder_is_still_while_its_rate_is_zero(kind: str) -> None:
    run = built(kind, align_steps=3, weight_decay=0.5)
    before = weights_of(run.model)
    train(run.model, run.optimizer, run.config, 0, 3)
    for name, value in weights_of(run.model).items():
        assert torch.equal(value, before[name]) == (not name.startswith("adapter.")), name


def test_lower_layers_move_less(model: UniWhisper) -> None:
    optimizer = build_optimizer(model, OptimConfig(encoder_lr=1.0, adapter_lr=3.0, layer_decay=0.5))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    peaks = {names[id(p)]: group["peak"] for group in optimizer.param_groups for p in group["params"]}
    assert peaks["audio.subsampler.conv.weight"] == peaks["audio.encoder.layer_norm.weight"] == 1.0
    assert peaks["audio.encoder.layers.1.fc1.weight"] == 1.0
    assert peaks["audio.encoder.layers.0.fc1.weight"] == 0.5
    assert peaks["audio.encoder.conv1.weight"] == 0.25
    assert peaks["adapter.skip.weight"] == 3.0


@pytest.mark.parametrize("count", [0, 1, 2])
def test_frozen_layers_go_from_the_input_up(model: UniWhisper, count: int) -> None:
    config = OptimConfig(frozen_layers=count)
    trainable(model, config)
    learnt = {name for name, parameter in model.audio.named_parameters() if parameter.requires_grad}
    assert any(name.startswith("encoder.conv") for name in learnt) == (count == 0)
    for layer in (0, 1):
        assert any(name.startswith(f"encoder.layers.{layer}.") for name in learnt) == (layer >= count)
    assert {"subsampler.conv.weight", "encoder.layer_norm.weight"} <= learnt
    listed = {id(p) for group in build_optimizer(model, config).param_groups for p in group["params"]}
    assert not any(id(p) in listed for p in model.parameters() if not p.requires_grad)


def test_bf16_weights_are_the_trained_matrices() -> None:
    model = network(optim_config("adamw8bit_ao", weights="bf16", frozen_layers=1))
    for name, parameter in model.named_parameters():
        expected = torch.bfloat16 if parameter.requires_grad and parameter.ndim > 1 else torch.float32
        assert parameter.dtype == expected, name


@pytest.mark.parametrize("kind", ["adamw", "adamw8bit"])
def test_bf16_weights_without_random_rounding_are_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"lose most updates.*weights=fp32.*kind=adamw8bit_ao"):
        OptimConfig(kind=kind, weights="bf16")


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "sgd"},
        {"weights": "fp16"},
        {"schedule": "linear"},
        {"decay_share": 0.0},
        {"decay_share": 1.1},
        {"steps": 0},
        {"align_steps": -1},
        {"warmup_steps": -1},
        {"layer_decay": 0.0},
        {"layer_decay": 1.1},
        {"min_share": 1.5},
        {"clip_norm": 0.0},
    ],
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"optim.*: expected"):
        OptimConfig(**change)
