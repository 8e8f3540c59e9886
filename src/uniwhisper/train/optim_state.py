"""The optimiser's state as plain tensors by name, for checkpoints: `<parameter name>.<state name>`.

Every kind of optimiser is taken apart into tensors that share its memory, and put back to the same bits, so that a run
that was stopped continues as if it had not been. Names, not numbers: order and size of the groups may change, and so
may the number of processes, because states of sharded parameters are sharded tensors (DTensor) themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from uniwhisper.errors import CheckpointError
from uniwhisper.train.eight_bit import packed_tensors
from uniwhisper.train.sharded import as_sharded, local_part

__all__ = ["init_optimizer_state", "optimizer_tensors", "restore_optimizer"]


@torch.no_grad()
def init_optimizer_state(optimizer: torch.optim.Optimizer) -> None:
    """Allocate every state that the optimiser will have, as it is before a first step; no weight changes.

    Parameters that have state keep it. Optimisers allocate at a parameter's first gradient otherwise: the encoder's
    state would be missing from a checkpoint of the alignment phase.

    Source of torch's states: torch/optim/adam.py, `_init_group`.
    """
    for group_number, group in enumerate(optimizer.param_groups):
        for number, parameter in enumerate(group["params"]):
            if optimizer.state.get(parameter):
                continue
            if isinstance(optimizer, torch.optim.AdamW):
                optimizer.state[parameter] = {
                    "step": torch.zeros((), dtype=torch.float32, device=local_part(parameter).device),
                    "exp_avg": torch.zeros_like(parameter),
                    "exp_avg_sq": torch.zeros_like(parameter),
                }
            else:  # bitsandbytes, and torchao as `eight_bit` makes it
                cast(Any, optimizer).init_state(group, parameter, group_number, number)


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """Return the state of all parameters under `<parameter name>.<state name>`; what is missing is allocated first.

    The tensors share the optimiser's memory and may be written (`torch.distributed.checkpoint` loads in place), but for
    counters that are plain numbers: call `restore_optimizer` with the same tensors afterwards.
    """
    init_optimizer_state(optimizer)
    tensors: dict[str, Tensor] = {}
    for name, parameter in _named(optimizer, model):
        for key, value in optimizer.state[parameter].items():
            packed = packed_tensors(value) if isinstance(value, Tensor) else None
            if packed is not None:
                tensors |= {f"{name}.{key}.{part}": tensor for part, tensor in packed.items()}
            else:
                tensors[f"{name}.{key}"] = value if isinstance(value, Tensor) else torch.tensor(value)
    return tensors


@torch.no_grad()
def restore_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of `optimizer_tensors` back; rates and groups stay as the configuration made them.

    Raises:
        CheckpointError: The tensors are of another kind of optimiser or of another network.
    """
    own = optimizer_tensors(optimizer, model)
    missing, unknown = sorted(own.keys() - tensors.keys()), sorted(tensors.keys() - own.keys())
    if missing or unknown:
        raise CheckpointError(
            f"expected the state of {type(optimizer).__name__} for this network in the checkpoint; "
            f"missing are {missing[:3]}, unknown are {unknown[:3]}. Resume with the optim settings of the run"
        )
    for name, value in own.items():
        given = tensors[name]
        if value.shape != given.shape or value.dtype != given.dtype:
            raise CheckpointError(
                f"optimiser state {name}: expected {value.dtype} of shape {list(value.shape)}, found {given.dtype} of "
                f"{list(given.shape)} in the checkpoint. Resume with the optim settings of the run"
            )
        _copy(value, given)
    for name, parameter in _named(optimizer, model):
        state = optimizer.state[parameter]
        numbers = {
            key: tensors[f"{name}.{key}"].item() for key, value in state.items() if not isinstance(value, Tensor)
        }
        state.update(numbers)


def _named(optimizer: torch.optim.Optimizer, model: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Yield every parameter of the optimiser with its name in the network."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            yield names[id(parameter)], parameter


def _copy(own: Tensor, given: Tensor) -> None:
    sharded = as_sharded(own)
    if sharded is not None and as_sharded(given) is None:
        from torch.distributed.tensor import distribute_tensor

        given = distribute_tensor(given.to(own.device), sharded.device_mesh, sharded.placements, src_data_rank=None)
    own.copy_(given)
