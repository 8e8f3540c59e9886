"""What a rank writes of the tensors of a run, copied, so that the next step may change them.

Plain tensors are equal on all ranks: each is written by one rank, chosen by size from what every rank knows, so that
nobody has to ask. Of a DTensor every rank writes its local piece, once where it is replicated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from uniwhisper.checkpoint.tensor_files import Piece
from uniwhisper.errors import CheckpointError
from uniwhisper.files import content_hash

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["Staged", "stage"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Staged:
    """The copies that this rank writes, and what all ranks agree on."""

    pieces: tuple[Piece, ...]
    total_bytes: int
    """Of all tensors on all ranks."""
    layout: str
    """Hash of all names, shapes and dtypes: equal on all ranks."""


def stage(tensors: Mapping[str, Tensor], *, rank: int, size: int) -> Staged:
    """Return copies on the CPU of what rank `rank` of `size` writes.

    Raises:
        CheckpointError: A tensor is neither plain nor a DTensor, or a DTensor holds sums still to be made.
    """
    from torch.distributed.tensor import DTensor  # half a second; loading an encoder does without

    pieces: list[Piece] = []
    plain: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if isinstance(tensor, DTensor):
            pieces += _local_piece(name, tensor)
        elif type(tensor) in (Tensor, nn.Parameter, nn.Buffer):
            plain[name] = tensor
        else:
            raise _of_another_kind(name, tensor)
    for name in _mine(plain, rank, size):
        tensor = plain[name]
        pieces.append(Piece(name=name, shape=tuple(tensor.shape), offsets=(0,) * tensor.ndim, data=_copied(tensor)))
    if any(tensor.is_cuda for tensor in tensors.values()):
        torch.cuda.synchronize()  # the copies were only begun
    return Staged(
        pieces=tuple(pieces),
        total_bytes=sum(_num_bytes(tensor) for tensor in tensors.values()),
        layout=content_hash([[name, list(t.shape), str(t.dtype)] for name, t in sorted(tensors.items())]),
    )


def _local_piece(name: str, tensor: DTensor) -> list[Piece]:
    """Return the copy of this rank's piece; none where it is empty, or another rank has the same one."""
    from torch.distributed.tensor import Replicate

    if any(placement.is_partial() for placement in tensor.placements):
        raise CheckpointError(f"{name}: expected a DTensor of whole values, found one that is still to be summed")
    coordinate = tensor.device_mesh.get_coordinate()
    if coordinate is None or any(
        isinstance(placement, Replicate) and number
        for placement, number in zip(tensor.placements, coordinate, strict=True)
    ):
        return []
    local = tensor.to_local().detach()
    if type(local) is not Tensor:
        raise _of_another_kind(name, local)
    if not local.numel():
        return []
    (chunk,) = tensor.__create_chunk_list__()  # the protocol by which a DTensor tells where it lies
    return [Piece(name=name, shape=tuple(tensor.shape), offsets=tuple(chunk.offsets), data=_copied(local))]


def _of_another_kind(name: str, tensor: Tensor) -> CheckpointError:
    return CheckpointError(
        f"{name}: expected a plain tensor or a DTensor of one, found {type(tensor).__name__}; store the tensors that "
        "it is made of"
    )


def _mine(plain: Mapping[str, Tensor], rank: int, size: int) -> list[str]:
    """Return the names that `rank` writes: the largest tensor left goes to the rank with the least so far."""
    loads = [0] * size
    mine: list[str] = []
    for name in sorted(plain, key=lambda name: (-_num_bytes(plain[name]), name)):
        writer = loads.index(min(loads))
        loads[writer] += _num_bytes(plain[name])
        if writer == rank:
            mine.append(name)
    return mine


def _num_bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _copied(tensor: Tensor) -> Tensor:
    """Return a contiguous copy on the CPU; from a CUDA device it is begun, into pinned memory."""
    tensor = tensor.detach()
    if tensor.device.type == "cpu":
        return tensor.clone(memory_format=torch.contiguous_format)
    return tensor.contiguous().to("cpu", non_blocking=tensor.is_cuda)
