"""One training batch: what a forward pass needs, and how it travels between processes and to a device.

Reads and writes nothing. A batch holds log-mels, or in their place the samples that they are computed from on the
device (`prefetch.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from uniwhisper.model.turns import Turn
from uniwhisper.types import Example

__all__ = ["Batch", "PackedBatch", "pack", "unpack"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Everything one forward pass needs, and where it came from."""

    mels: list[Tensor]
    """Log-mels `[n_mels, F_i]`; empty where `waves` are given instead."""
    tails: list[Tensor]
    """The two log-mel frames after each clip `[n_mels, 2]`; empty where `waves` are given instead."""
    turns: list[Turn]
    examples: list[Example]
    domains: tuple[str, ...] = ()
    """`Clip.domain` of every clip."""
    audio_s: float
    num_answer_tokens: int
    waves: list[Tensor] = field(default_factory=list)
    """16-bit samples of every clip, `[S_i]` at 16 kHz; empty where `mels` are given."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedBatch:
    """A batch whose tensors lie in one: between processes each tensor would cost an open file of its own."""

    values: Tensor
    shapes: list[torch.Size]
    batch: Batch
    """All but the tensors."""
    is_waves: bool


def pack(batch: Batch) -> PackedBatch:
    """Return the batch with its tensors in one, which is a copy."""
    tensors = batch.waves or [*batch.mels, *batch.tails]
    return PackedBatch(
        values=torch.cat([tensor.reshape(-1) for tensor in tensors]),
        shapes=[tensor.shape for tensor in tensors],
        batch=replace(batch, mels=[], tails=[], waves=[]),
        is_waves=bool(batch.waves),
    )


def unpack(packed: PackedBatch) -> Batch:
    """Return the batch again; its tensors are views of `packed.values`."""
    tensors = _views(packed.values, packed.shapes)
    if packed.is_waves:
        return replace(packed.batch, waves=tensors)
    half = len(tensors) // 2
    return replace(packed.batch, mels=tensors[:half], tails=tensors[half:])


def _views(values: Tensor, shapes: Sequence[torch.Size]) -> list[Tensor]:
    parts = values.split([shape.numel() for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
