"""The gradient of one step: that of the mean loss over the answer tokens of all batches of all ranks.

However the step's examples are spread over pieces, batches, threads and ranks, the gradient is the same to rounding;
and it is the same bits for every run that spreads them the same way, because gradients are added in one order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uniwhisper.audio import HOP_LENGTH
from uniwhisper.errors import ConfigError
from uniwhisper.model.packing import on_device
from uniwhisper.threads import map_threads, one_thread_each
from uniwhisper.train.batch import Batch

if TYPE_CHECKING:
    from uniwhisper.train.parallel import Network
    from uniwhisper.train.world import World

__all__ = ["StepLosses", "accumulate_gradients", "is_out_of_memory", "split_batch"]

_CPU_OUT_OF_MEMORY = ("DefaultCPUAllocator", "CUBLAS_STATUS_ALLOC_FAILED", "std::bad_alloc")
"""In the text of a RuntimeError. Source: c10/core/impl/alloc_cpu.cpp ("DefaultCPUAllocator: can't allocate memory" and
"not enough memory"); cuBLAS's handles are allocated outside of torch's allocator."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepLosses:
    """What a step's forward passes found on this rank, examples in the order of the batches; on the batches' device."""

    per_example: Float[Tensor, " E"]
    """Mean loss of the answer tokens of every example."""
    means: Float[Tensor, "E D"]
    """Mean 40 ms frame of every clip."""


def accumulate_gradients(
    network: Network, group: Sequence[Batch], *, world: World, total: int, parallel: int = 1, pieces: int = 1
) -> StepLosses:
    """Set every trainable parameter's `.grad` to the gradient of (sum of all ranks' token losses) / `total`.

    What `.grad` held before is dropped. Where this raises, every `.grad` is None, so that the step can be done again;
    `is_out_of_memory` says whether more `pieces` would help.

    Args:
        network: The network as `parallelise` made it.
        group: The batches of the step that this rank computes, at least one.
        world: The ranks.
        total: Answer tokens of the step, on all ranks together.
        parallel: Batches computed at once, one CPU thread each; the bits depend on it only through how many threads
            compute one operation.
        pieces: Parts of about equal cost that each batch is computed in, one after the other.
    """
    if not group:
        raise ConfigError("expected at least one batch a rank and step, found none; see check_split")
    parameters = [p for p in network.model.parameters() if p.requires_grad]
    _clear(parameters)
    parts = _parts(network, group, world, pieces)
    try:
        if parallel == 1:
            return _one_by_one(network, parts, world.size / total)
        return _side_by_side(network, parts, parameters, world, total, parallel)
    except BaseException:
        _clear(parameters)
        raise


def split_batch(batch: Batch, pieces: int) -> list[Batch]:
    """Return the batch as `pieces` batches of about equal cost, its clips whole and in order.

    The cost of a clip is its encoder frames and the tokens of its text. There are fewer pieces where there are fewer
    clips.
    """
    pieces = min(pieces, len(batch.turns))
    if pieces <= 1:
        return [batch]
    frames = _frames(batch)
    texts = [len(turn.prompt) + len(turn.answer) for turn in batch.turns]
    cuts = _cuts([length / 2 + text for length, text in zip(frames, texts, strict=True)], pieces)
    # Whatever a batch holds one of for each clip is a list or a tuple.
    lists = {f.name: getattr(batch, f.name) for f in fields(batch) if isinstance(getattr(batch, f.name), list | tuple)}
    return [
        replace(
            batch,
            **{name: values[start:stop] for name, values in lists.items()},
            audio_s=batch.audio_s * sum(frames[start:stop]) / sum(frames),
            num_answer_tokens=sum(len(turn.answer) for turn in batch.turns[start:stop]),
        )
        for start, stop in pairwise(cuts)
    ]


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that memory, of a GPU or of the machine, did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _CPU_OUT_OF_MEMORY)


def _one_by_one(network: Network, parts: Sequence[Batch], scale: float) -> StepLosses:
    """Compute the parts in turn; DDP and FSDP2 divide by the number of ranks, which `scale` makes up for."""
    found: list[StepLosses] = []
    for number, part in enumerate(parts):
        with network.passing(last=number == len(parts) - 1):
            losses = network.losses(part)
            (losses.tokens.sum() * scale).backward()
        found.append(_figures(part, losses))
    return _joined(found)


def _side_by_side(
    network: Network, parts: Sequence[Batch], parameters: Sequence[nn.Parameter], world: World, total: int, threads: int
) -> StepLosses:
    """Compute several parts at once on the bare network, then add up over the ranks."""

    def compute(part: Batch) -> tuple[StepLosses, tuple[Tensor | None, ...]]:
        losses = network.model(part.mels, part.tails, part.turns)
        grads = torch.autograd.grad(losses.tokens.sum() / total, parameters, allow_unused=True)
        return _figures(part, losses), grads

    found: list[StepLosses] = []
    with one_thread_each():
        for figures, grads in map_threads(compute, parts, threads=threads):
            found.append(figures)
            for parameter, grad in zip(parameters, grads, strict=True):
                if grad is not None:
                    held = parameter.grad
                    parameter.grad = _laid_out(grad, parameter) if held is None else held.add_(grad)
    if world.size > 1:
        _sum_over_ranks([p.grad for p in parameters if p.grad is not None], world)
    return _joined(found)


def _laid_out(grad: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return `grad` in the memory order of `parameter`, as a backward would leave it.

    Fused and 8-bit optimisers pair weights and gradients by their place in memory, and `torch.autograd.grad` promises
    no order. Source: torch/csrc/autograd/utils/grad_layout_contract.h.
    """
    return grad if grad.stride() == parameter.stride() else torch.empty_like(parameter).copy_(grad)


def _sum_over_ranks(grads: Sequence[Tensor], world: World) -> None:
    """Replace gradients by their sums over all ranks, in one message."""
    flat = world.sum(torch.cat([grad.float().reshape(-1) for grad in grads]))
    for grad, part in zip(grads, flat.split([grad.numel() for grad in grads]), strict=True):
        grad.copy_(part.view_as(grad))


def _parts(network: Network, group: Sequence[Batch], world: World, pieces: int) -> list[Batch]:
    """Return the group's batches in pieces; as many on every rank where each forward is a collective."""
    counts = [min(pieces, len(batch.turns)) for batch in group]
    if network.sharding == "fsdp" and pieces > 1:
        counts = world.least(torch.tensor(counts)).tolist()
    return [part for batch, count in zip(group, counts, strict=True) for part in split_batch(batch, count)]


def _figures(part: Batch, losses: Any) -> StepLosses:
    counts = on_device(torch.tensor([len(turn.answer) for turn in part.turns]), losses.tokens.device)
    # `unsafe` leaves out a check that would make the host wait for a GPU; the lengths are those the loss was made with.
    means = torch.segment_reduce(losses.tokens.detach(), "mean", lengths=counts, unsafe=True)
    return StepLosses(per_example=means, means=losses.means.detach())


def _joined(found: Sequence[StepLosses]) -> StepLosses:
    return StepLosses(
        per_example=torch.cat([one.per_example for one in found]), means=torch.cat([one.means for one in found])
    )


def _frames(batch: Batch) -> list[float]:
    """Return how long every clip is, in whatever unit the batch has it."""
    if batch.mels:
        return [float(mel.shape[1]) for mel in batch.mels]
    return [len(wave) / HOP_LENGTH for wave in batch.waves]


def _cuts(costs: Sequence[float], pieces: int) -> list[int]:
    """Return where the clips are cut: `pieces + 1` positions, none twice."""
    ends = list(accumulate(costs))
    cuts = [0]
    for number in range(1, pieces):
        goal = ends[-1] * number / pieces
        nearest = min(range(len(ends)), key=lambda i: abs(ends[i] - goal)) + 1
        cuts.append(min(max(nearest, cuts[-1] + 1), len(costs) - pieces + number))
    return [*cuts, len(costs)]


def _clear(parameters: Sequence[nn.Parameter]) -> None:
    for parameter in parameters:
        parameter.grad = None
