from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch

from uniwhisper.errors import ConfigError
from uniwhisper.model.uniwhisper import UniWhisper
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.loop import build_model
from uniwhisper.train.optim import (
    OptimConfig,
    build_optimizer,
    clip_gradients,
    learning_rate,
    set_learning_rates,
    trainable,
)


@pytest.fixture
def model(config: Callable[..., TrainConfig]) -> UniWhisper:
    return build_model(config())


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


def test_encoder_waits_for_the_alignment_phase(model: UniWhisper) -> None:
    config = OptimConfig(steps=50, align_steps=10, warmup_steps=0, encoder_lr=1e-3, adapter_lr=1e-2)
    optimizer = build_optimizer(model, config)
    first = set_learning_rates(optimizer, 9, config)
    assert first["encoder"] == 0.0
    assert first["adapter"] > 0.0
    assert set_learning_rates(optimizer, 10, config)["encoder"] == pytest.approx(1e-3)
    for group in optimizer.param_groups:
        assert group["lr"] > 0


def test_every_parameter_but_the_decoders_is_in_one_group(model: UniWhisper) -> None:
    config = OptimConfig(weight_decay=0.1)
    optimizer = build_optimizer(model, config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    listed = [names[id(p)] for group in optimizer.param_groups for p in group["params"]]
    expected = [n for n in names.values() if not n.startswith("decoder.") and "embed_positions" not in n]
    assert sorted(listed) == sorted(expected)
    for group in optimizer.param_groups:
        kind = "encoder" if group["part"] == "encoder" else "adapter"
        for parameter in group["params"]:
            name = names[id(parameter)]
            assert name.startswith("audio." if kind == "encoder" else "adapter.")
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0), name


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


def test_encoder_and_adapter_are_clipped_apart(model: UniWhisper) -> None:
    optimizer = build_optimizer(model, OptimConfig())
    for parameter in model.audio.parameters():
        parameter.grad = torch.full_like(parameter, 1e-4) if parameter.requires_grad else None
    for parameter in model.adapter.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)
    before = {name: p.grad.clone() for name, p in model.audio.named_parameters() if p.grad is not None}
    norms = clip_gradients(optimizer, 1.0)
    assert norms["adapter"] == pytest.approx(10 * math.sqrt(sum(p.numel() for p in model.adapter.parameters())))
    grads = [p.grad for p in model.adapter.parameters() if p.grad is not None]
    assert float(torch.cat([g.flatten() for g in grads]).norm()) == pytest.approx(1.0, abs=1e-4)
    assert norms["encoder"] < 1.0
    for name, parameter in model.audio.named_parameters():
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, before[name])  # a noisy adapter takes nothing from the encoder


def test_parts_without_gradient_have_norm_zero(model: UniWhisper) -> None:
    assert clip_gradients(build_optimizer(model, OptimConfig()), 1.0) == {"encoder": 0.0, "adapter": 0.0}


@pytest.mark.parametrize(
    "change",
    [
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
    with pytest.raises(ConfigError, match="optim: expected"):
        OptimConfig(**change)
