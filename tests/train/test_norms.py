from __future__ import annotations

import math

import pytest
import torch

from uniwhisper.train.norms import UpdateWatch, clip_gradients, parts_of

from .regression import built, loss_of, network, optim_config


def test_parts_are_encoder_and_adapter_without_what_is_frozen() -> None:
    model = network(optim_config(frozen_layers=1))
    parts = parts_of(model)
    assert set(parts) == {"encoder", "adapter"}
    names = [name for named in parts.values() for name, _ in named]
    assert sorted(names) == sorted(name for name, p in model.named_parameters() if p.requires_grad)
    assert all(name.startswith("audio.") for name, _ in parts["encoder"])
    assert all(name.startswith("adapter.") for name, _ in parts["adapter"])


def test_encoder_and_adapter_are_clipped_apart() -> None:
    run = built("adamw")
    for parameter in run.model.audio.parameters():
        parameter.grad = torch.full_like(parameter, 1e-4) if parameter.requires_grad else None
    for parameter in run.model.adapter.parameters():
        parameter.grad = torch.full_like(parameter, 10.0)
    before = {name: p.grad.clone() for name, p in run.model.audio.named_parameters() if p.grad is not None}
    norms = clip_gradients(run.optimizer, 1.0)
    assert norms["adapter"] == pytest.approx(10 * math.sqrt(sum(p.numel() for p in run.model.adapter.parameters())))
    grads = [p.grad for p in run.model.adapter.parameters() if p.grad is not None]
    assert float(torch.cat([g.flatten() for g in grads]).norm()) == pytest.approx(1.0, abs=1e-4)
    assert norms["encoder"] < 1.0
    for name, parameter in run.model.audio.named_parameters():
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, before[name])  # a noisy adapter takes nothing from the encoder


def test_clipping_is_torchs_on_each_part() -> None:
    ours, theirs = built("adamw"), built("adamw")
    for run in (ours, theirs):
        loss_of(run.model).backward()
    norms = clip_gradients(ours.optimizer, 0.1)
    for part, module in (("encoder", theirs.model.audio), ("adapter", theirs.model.adapter)):
        parameters = [p for p in module.parameters() if p.grad is not None]
        assert norms[part] == pytest.approx(float(torch.nn.utils.clip_grad_norm_(parameters, 0.1)), rel=1e-6)
        assert norms[part] > 0.1
    for mine, other in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        if mine.grad is not None:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-6, atol=0)


def test_parts_without_gradient_have_norm_zero() -> None:
    run = built("adamw")
    assert clip_gradients(run.optimizer, 1.0) == {"encoder": 0.0, "adapter": 0.0}
    for parameter in run.model.adapter.parameters():
        parameter.grad = torch.ones_like(parameter)
    norms = clip_gradients(run.optimizer, 1.0)  # the alignment phase
    assert norms["encoder"] == 0.0
    assert norms["adapter"] > 1.0


def test_the_ratio_of_an_update_is_that_of_its_norm_to_the_weights() -> None:
    model = network(optim_config())
    watch = UpdateWatch(model)
    for _ in range(2):  # the second time in the buffers of the first
        watch.before()
        with torch.no_grad():
            for _, parameter in parts_of(model)["encoder"]:
                parameter.mul_(1.01)
        ratios = watch.after()
        assert ratios["encoder"] == pytest.approx(0.01, rel=1e-3)
        assert ratios["adapter"] == 0.0


def test_the_watch_holds_nothing_between_looks_and_leaves_the_weights() -> None:
    run = built("adamw")
    watch = UpdateWatch(run.model)
    kept = [p.detach().clone() for p in run.model.parameters()]
    watch.before()
    assert watch._copies
    watch.after()
    assert not watch._copies
    watch.before()
    assert watch.after() == {"encoder": 0.0, "adapter": 0.0}
    for before, now in zip(kept, run.model.parameters(), strict=True):
        assert torch.equal(before, now)


def test_weights_of_zero_have_a_finite_ratio() -> None:
    model = network(optim_config())
    watch = UpdateWatch(model)
    with torch.no_grad():
        for parameter in model.adapter.parameters():
            parameter.zero_()
    watch.before()
    assert math.isfinite(watch.after()["adapter"])
