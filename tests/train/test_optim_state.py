from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from uniwhisper.errors import CheckpointError
from uniwhisper.train.optim import build_optimizer, init_optimizer_state, optimizer_tensors, restore_optimizer

from .regression import KINDS, built, train, weights_of

RUNS = [*((kind, {}) for kind in KINDS), ("adamw8bit_ao", {"weights": "bf16"})]


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in tensors.items()}


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(("kind", "changes"), RUNS)
def test_going_on_after_a_restore_is_never_having_stopped(kind: str, changes: dict[str, Any], in_place: bool) -> None:
    changes = changes | {"align_steps": 2}
    whole = built(kind, **changes)
    train(whole.model, whole.optimizer, whole.config, 0, 8)

    first = built(kind, **changes)
    train(first.model, first.optimizer, first.config, 0, 5)
    saved, weights = copied(optimizer_tensors(first.optimizer, first.model)), weights_of(first.model)

    second = built(kind, **changes)
    second.model.load_state_dict(weights)
    if in_place:  # as torch.distributed.checkpoint does: into the tensors that the optimiser gives out
        init_optimizer_state(second.optimizer)
        into = optimizer_tensors(second.optimizer, second.model)
        for name, tensor in into.items():
            tensor.copy_(saved[name])
        saved = into
    restore_optimizer(second.optimizer, second.model, saved)
    train(second.model, second.optimizer, second.config, 5, 8)

    expected = weights_of(whole.model)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(second.model).items())
    state = optimizer_tensors(whole.optimizer, whole.model)
    assert all(torch.equal(value, state[n]) for n, value in optimizer_tensors(second.optimizer, second.model).items())


@pytest.mark.parametrize("kind", KINDS)
def test_stopping_in_the_alignment_phase_changes_nothing_later(kind: str) -> None:
    whole, first, second = (built(kind, align_steps=4) for _ in range(3))
    for run in (whole, first, second):
        run.model.audio.requires_grad_(False)  # no gradient: optimisers of others allocate nothing for the encoder
    train(whole.model, whole.optimizer, whole.config, 0, 3)
    train(first.model, first.optimizer, first.config, 0, 3)
    saved = copied(optimizer_tensors(first.optimizer, first.model))
    assert any(name.startswith("audio.") for name in saved)
    second.model.load_state_dict(weights_of(first.model))
    restore_optimizer(second.optimizer, second.model, saved)
    for run in (whole, second):
        for group in run.optimizer.param_groups:
            for parameter in group["params"]:
                parameter.requires_grad_(True)
        train(run.model, run.optimizer, run.config, 3, 8)
    expected = weights_of(whole.model)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(second.model).items())


@pytest.mark.parametrize(("kind", "changes"), RUNS)
def test_allocating_changes_no_weight_and_no_state(kind: str, changes: dict[str, Any]) -> None:
    run = built(kind, weight_decay=0.5, **changes)
    before = weights_of(run.model)
    init_optimizer_state(run.optimizer)
    assert all(torch.equal(value, before[name]) for name, value in weights_of(run.model).items())
    assert all(parameter.grad is None for parameter in run.model.parameters())
    listed = [p for group in run.optimizer.param_groups for p in group["params"]]
    assert all(run.optimizer.state[parameter] for parameter in listed)
    train(run.model, run.optimizer, run.config, 0, 2)
    state = copied(optimizer_tensors(run.optimizer, run.model))
    init_optimizer_state(run.optimizer)  # what is there stays
    assert all(torch.equal(value, state[n]) for n, value in optimizer_tensors(run.optimizer, run.model).items())


@pytest.mark.parametrize(("kind", "changes"), RUNS)
def test_an_allocated_state_is_that_of_a_first_step(kind: str, changes: dict[str, Any]) -> None:
    lazy, early = built(kind, **changes), built(kind, **changes)
    init_optimizer_state(early.optimizer)
    for run in (lazy, early):
        train(run.model, run.optimizer, run.config, 0, 3)
    expected = weights_of(lazy.model)
    assert all(torch.equal(value, expected[name]) for name, value in weights_of(early.model).items())
    state = optimizer_tensors(lazy.optimizer, lazy.model)
    assert state.keys() == optimizer_tensors(early.optimizer, early.model).keys()
    assert all(torch.equal(value, state[n]) for n, value in optimizer_tensors(early.optimizer, early.model).items())


@pytest.mark.parametrize("kind", KINDS)
def test_tensors_are_plain_named_by_parameter_and_share_memory(kind: str) -> None:
    run = built(kind)
    train(run.model, run.optimizer, run.config, 0, 1)
    tensors = optimizer_tensors(run.optimizer, run.model)
    names = [n for n, p in run.model.named_parameters() if p.requires_grad]
    assert {next(n for n in names if key.startswith(f"{n}.")) for key in tensors} == set(names)
    assert not any(key.startswith("decoder.") for key in tensors)
    again = optimizer_tensors(run.optimizer, run.model)
    for key, tensor in tensors.items():
        assert type(tensor) is Tensor, key  # safetensors and torch.distributed.checkpoint take nothing else
        assert tensor.is_contiguous(), key
        if not (kind == "adamw8bit" and key.endswith(".step")):
            assert tensor.data_ptr() == again[key].data_ptr(), key


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_parameters_is_free(kind: str) -> None:
    # A norm is a sum in the order of the parameters; what is never clipped does not depend on it.
    first, second = built(kind, clip_norm=1e9), built(kind, clip_norm=1e9)
    train(first.model, first.optimizer, first.config, 0, 4)
    second.model.load_state_dict(weights_of(first.model))
    for group in second.optimizer.param_groups:
        group["params"].reverse()
    second.optimizer.param_groups.reverse()
    restore_optimizer(second.optimizer, second.model, optimizer_tensors(first.optimizer, first.model))
    for run in (first, second):
        train(run.model, run.optimizer, run.config, 4, 6)
    expected = optimizer_tensors(first.optimizer, first.model)
    assert all(torch.equal(v, expected[n]) for n, v in optimizer_tensors(second.optimizer, second.model).items())
    weights = weights_of(first.model)
    assert all(torch.equal(value, weights[name]) for name, value in weights_of(second.model).items())


def test_a_restored_copy_is_not_an_alias() -> None:
    first, second = built("adamw"), built("adamw")
    train(first.model, first.optimizer, first.config, 0, 2)
    saved = optimizer_tensors(first.optimizer, first.model)
    restore_optimizer(second.optimizer, second.model, saved)
    kept = copied(saved)
    train(second.model, second.optimizer, second.config, 2, 3)
    assert all(torch.equal(value, kept[name]) for name, value in saved.items())


def test_the_state_of_another_optimiser_is_refused() -> None:
    torch_run, other = built("adamw"), built("adamw8bit_ao")
    tensors = optimizer_tensors(torch_run.optimizer, torch_run.model)
    with pytest.raises(CheckpointError, match=r"expected the state of RowBlockAdamW8bit.*codes.*optim settings"):
        restore_optimizer(other.optimizer, other.model, tensors)


def test_the_state_of_another_network_is_refused() -> None:
    run = built("adamw")
    tensors = dict(optimizer_tensors(run.optimizer, run.model))
    name = "adapter.skip.weight.exp_avg"
    with pytest.raises(CheckpointError, match=rf"{name}: expected torch.float32 of shape \[64, 64\], found .*\[3\]"):
        restore_optimizer(run.optimizer, run.model, tensors | {name: torch.zeros(3)})
    del tensors[name]
    with pytest.raises(CheckpointError, match=rf"missing are \['{name}'\]"):
        restore_optimizer(run.optimizer, run.model, tensors)


def test_rates_come_from_the_configuration_not_from_the_state() -> None:
    run = built("adamw8bit_ao")
    train(run.model, run.optimizer, run.config, 0, 2)
    fresh = build_optimizer(run.model, run.config)
    restore_optimizer(fresh, run.model, optimizer_tensors(run.optimizer, run.model))
    assert all(float(group["lr"]) == 0.0 for group in fresh.param_groups)
