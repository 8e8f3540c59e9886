"""What each of two processes does in `test_optim_sharded`, in a module of its own: they import it, and it should not
take them long."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from uniwhisper.errors import ConfigError
from uniwhisper.model.uniwhisper import UniWhisper
from uniwhisper.train.norms import UpdateWatch
from uniwhisper.train.optim import (
    build_optimizer,
    clip_gradients,
    init_optimizer_state,
    optimizer_tensors,
    restore_optimizer,
    set_learning_rates,
)

from .regression import network, optim_config

CLIP_NORM = 5.0


def odd_network(kind: str) -> UniWhisper:
    """Return a network of which one matrix has a number of rows that two processes cannot share evenly."""
    model = network(optim_config(kind))
    model.adapter.odd = nn.Linear(64, 65)
    torch.manual_seed(2)
    nn.init.normal_(model.adapter.odd.weight)
    nn.init.normal_(model.adapter.odd.bias)
    return model


def set_gradients(model: UniWhisper, step: int) -> None:
    """Give every trained parameter the gradient of `step`, each process its share."""
    generator = torch.Generator().manual_seed(step)
    for parameter in model.parameters():
        if parameter.requires_grad:
            grad = torch.randn(parameter.shape, generator=generator)
            if isinstance(parameter, DTensor):
                grad = distribute_tensor(grad, parameter.device_mesh, parameter.placements, src_data_rank=None)
            parameter.grad = grad


def steps(model: UniWhisper, optimizer: torch.optim.Optimizer, kind: str, numbers: range) -> list[dict[str, float]]:
    """Do the steps `numbers`; return gradient norms and update ratios of each."""
    watch, figures = UpdateWatch(model), []
    for step in numbers:
        set_learning_rates(optimizer, step, optim_config(kind))
        set_gradients(model, step)
        norms = clip_gradients(optimizer, CLIP_NORM)
        watch.before()
        optimizer.step()
        figures.append(norms | {f"update_{part}": ratio for part, ratio in watch.after().items()})
    return figures


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with every process's share (a collective call)."""
    return {n: (t.full_tensor() if isinstance(t, DTensor) else t).detach().clone() for n, t in tensors.items()}


def same(name: str, found: dict[str, Tensor], expected: dict[str, Tensor], *, exact: bool = False) -> None:
    """Compare two states; codes may differ by one where a norm's last bit does."""
    assert found.keys() == expected.keys(), name
    for key, value in found.items():
        tolerance = 0 if exact else 1 if value.dtype == torch.uint8 else 1e-6
        torch.testing.assert_close(
            value.float(), expected[key].float(), rtol=0 if exact else 1e-5, atol=tolerance, msg=f"{name}: {key}"
        )


def work(rank: int, folder: str) -> None:
    """Compare two processes with sharded parameters with one that has all of them."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        for kind in ("adamw", "adamw8bit_ao"):
            compare(kind, Path(folder) / kind)
        refuse()
    finally:
        dist.destroy_process_group()


def sharded(kind: str) -> UniWhisper:
    """Return the network spread over both processes by FSDP2."""
    model, mesh = odd_network(kind), init_device_mesh("cpu", (2,))
    for module in (model.audio, model.adapter, model):
        fully_shard(module, mesh=mesh)
    return model


def compare(kind: str, folder: Path) -> None:
    """Do the same steps on a network and on the same network sharded; exchange their states both ways."""
    config = optim_config(kind)
    alone, shared = odd_network(kind), sharded(kind)
    alone_optimizer, optimizer = build_optimizer(alone, config), build_optimizer(shared, config)
    expected = steps(alone, alone_optimizer, kind, range(3))
    for mine, theirs in zip(steps(shared, optimizer, kind, range(3)), expected, strict=True):
        assert mine.keys() == theirs.keys()
        assert all(abs(mine[name] - theirs[name]) <= 1e-5 * theirs[name] for name in mine), (mine, theirs)
        assert mine["encoder"] > CLIP_NORM
    tensors = optimizer_tensors(optimizer, shared)
    expected_state = whole(optimizer_tensors(alone_optimizer, alone))
    same("state", whole(tensors), expected_state)
    same("weights", whole(dict(shared.state_dict())), dict(alone.state_dict()))
    for name, tensor in tensors.items():
        assert isinstance(tensor, DTensor) == (not name.endswith(("step", "qmap"))), name
        assert not hasattr(cast(DTensor, tensor).to_local() if isinstance(tensor, DTensor) else tensor, "codes"), name
    into_one(kind, folder, tensors)
    into_two(kind, alone, expected_state)


def into_one(kind: str, folder: Path, tensors: dict[str, Tensor]) -> None:
    """What two processes wrote is read by one, in place."""
    dcp.save(dict(tensors), checkpoint_id=folder)
    model = odd_network(kind)
    optimizer = build_optimizer(model, optim_config(kind))
    loaded = optimizer_tensors(optimizer, model)
    dcp.load(dict(loaded), checkpoint_id=folder, no_dist=True)
    restore_optimizer(optimizer, model, loaded)
    same("two to one", optimizer_tensors(optimizer, model), whole(tensors), exact=True)


def into_two(kind: str, alone: UniWhisper, state: dict[str, Tensor]) -> None:
    """What one process had goes on in two; both then take the same step."""
    model = sharded(kind)
    with torch.no_grad():
        for mine, other in zip(model.parameters(), alone.parameters(), strict=True):
            local = cast(DTensor, mine)
            part = distribute_tensor(other.detach(), local.device_mesh, local.placements, src_data_rank=None)
            local.to_local().copy_(part.to_local())
    optimizer = build_optimizer(model, optim_config(kind))
    init_optimizer_state(optimizer)
    restore_optimizer(optimizer, model, state)
    same("one to two", whole(optimizer_tensors(optimizer, model)), state, exact=True)


def refuse() -> None:
    """What cannot work on shards says so before the first step."""
    for kind, changes, words in (("adamw8bit", {}, "adamw8bit_ao"), ("adamw8bit_ao", {"weights": "bf16"}, "fp32")):
        config = optim_config(kind, **changes)
        try:
            build_optimizer(sharded(kind), config)
        except ConfigError as e:
            assert words in str(e)  # noqa: PT017 - pytest is not in this process
            continue
        raise AssertionError(f"{kind} {changes} was not refused")
