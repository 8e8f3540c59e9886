"""Norms by part of the network: gradients are clipped, and the size of a step compared with that of the weights.

Works on whole tensors and on the shards of FSDP2 alike: every rank adds up the squares of what it holds, one reduction
makes them the whole network's, and one copy to the host brings the figures of all parts.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from uniwhisper.train.sharded import as_sharded, local_part

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["UpdateWatch", "clip_gradients", "parts_of"]

_PARTS = {"audio": "encoder", "adapter": "adapter"}
"""Module of the network -> what its part is called in logs and parameter groups."""


def parts_of(model: nn.Module) -> dict[str, list[tuple[str, nn.Parameter]]]:
    """Return name and parameter of all that is trained, by part; frozen parameters and the decoder are in none."""
    parts: dict[str, list[tuple[str, nn.Parameter]]] = {part: [] for part in _PARTS.values()}
    for name, parameter in model.named_parameters():
        part = _PARTS.get(name.partition(".")[0])
        if part is not None and parameter.requires_grad:
            parts[part].append((name, parameter))
    return parts


def clip_gradients(optimizer: torch.optim.Optimizer, clip_norm: float) -> dict[str, float]:
    """Clip the gradients of encoder and adapter separately and return the norms found (0 without gradients)."""
    parts: dict[str, list[nn.Parameter]] = {}
    for group in optimizer.param_groups:
        parts.setdefault(group["part"], []).extend(p for p in group["params"] if p.grad is not None)
    norms = _norms([[p.grad for p in parameters if p.grad is not None] for parameters in parts.values()])
    for parameters, norm in zip(parts.values(), norms, strict=True):
        clip_grads_with_norm_(parameters, clip_norm, norm)
    return dict(zip(parts, norms.tolist(), strict=True))


class UpdateWatch:
    """Measures how far one optimiser step moves each part: norm of the update / norm of the weights before it.

    Holds a second copy of the trained weights between `before` and `after`, when no activations are held; meant for one
    step in many. With sharded weights both calls are collective.
    """

    def __init__(self, model: nn.Module) -> None:
        self._weights = {part: [p for _, p in named] for part, named in parts_of(model).items() if named}
        self._copies: dict[str, list[Tensor]] = {}

    @torch.no_grad()
    def before(self) -> None:
        """Keep the weights as they are; call right before the optimiser's step."""
        self._copies = {part: [w.detach().clone() for w in weights] for part, weights in self._weights.items()}

    @torch.no_grad()
    def after(self) -> dict[str, float]:
        """Return the ratio of each part since `before`, once; a part that is not trained at all has none."""
        copies, self._copies = self._copies, {}
        sizes = _norms(list(copies.values()))
        for part, weights in self._weights.items():
            for copy, weight in zip(copies[part], weights, strict=True):
                local_part(copy).sub_(local_part(weight))  # the copy turns into the update, so no third one is needed
        updates = _norms(list(copies.values()))
        ratios = updates / sizes.clamp(min=torch.finfo(sizes.dtype).tiny)
        return dict(zip(copies, ratios.tolist(), strict=True))


def _norms(lists: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the norm of each list of tensors, taken as one vector, in float32 and on their device."""
    every = [tensor for tensors in lists for tensor in tensors]
    if not every:
        return torch.zeros(len(lists))
    device = local_part(every[0]).device
    whole = torch.stack([_square((t for t in tensors if not _sharded(t)), device) for tensors in lists])
    sharded = next((shard for tensor in every if (shard := as_sharded(tensor)) is not None and _sharded(tensor)), None)
    if sharded is None:
        return whole.sqrt()
    shards = torch.stack([_square((t for t in tensors if _sharded(t)), device) for tensors in lists])
    return (whole + _summed(shards, sharded)).sqrt()


def _square(tensors: Iterable[Tensor], device: torch.device) -> Tensor:
    """Return the square of the norm of what this rank holds of `tensors`."""
    return get_total_norm([local_part(tensor) for tensor in tensors]).to(device, torch.float32).square()


def _sharded(tensor: Tensor) -> bool:
    """Return whether ranks hold different parts of `tensor`."""
    shared = as_sharded(tensor)
    return shared is not None and not all(placement.is_replicate() for placement in shared.placements)


def _summed(value: Tensor, like: DTensor) -> Tensor:
    """Return the sum of `value` over the ranks that hold shards of `like`; copies of a shard count once."""
    from torch.distributed.tensor import DTensor, Partial, Replicate

    placements = [Replicate() if placement.is_replicate() else Partial() for placement in like.placements]
    return DTensor.from_local(value, like.device_mesh, placements, run_check=False).full_tensor()
