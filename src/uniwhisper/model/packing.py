"""Packed sequences: clips of different lengths laid end to end in one matrix, so that no padding is ever computed.

What a forward pass needs to know about lengths is made once on the host and copied to the device without waiting for
it (`Segments`, `on_device`): no layer asks the device for a number.

Shape letters: `N` sequences, `T` rows of all sequences together, `S` rows of a padded sequence, `D` width, `H` heads of
queries, `K` heads of keys, `d` head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from uniwhisper.model.attention import PACKED_KERNELS, attend, attend_packed, kernel_for

__all__ = [
    "Packed",
    "Segments",
    "group_positions",
    "on_device",
    "place_rows",
    "positions_within",
    "segment_attention",
    "segment_means",
    "take_rows",
]


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """Rows of several sequences, one after the other."""

    values: Float[Tensor, "T D"]
    lengths: tuple[int, ...]
    """Number of rows of each sequence; they add up to `T`."""

    def split(self) -> list[Tensor]:
        """Return one `[T_i, D]` view a sequence."""
        return list(self.values.split(list(self.lengths)))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Segments:
    """Which rows belong together, as every layer of a forward pass needs it."""

    lengths: tuple[int, ...]
    """Rows of each sequence, padding included."""
    kernel: str = "auto"
    """Attention kernel that was asked for (`attention.kernel_for`)."""
    bounds: Int[Tensor, " N+1"] | None = None
    """Where each sequence starts and the last ends, on the device; absent where no kernel there reads it."""
    mask: Bool[Tensor, "N 1 1 S"] | None = None
    """True at rows that are no padding; absent where sequences have their own lengths."""

    @classmethod
    def packed(cls, lengths: Sequence[int], *, device: torch.device, kernel: str = "auto") -> Segments:
        """Return the segments of sequences end to end."""
        bounds = None
        if device.type == "cuda" or kernel in PACKED_KERNELS:
            bounds = on_device(torch.tensor([0, *accumulate(lengths)], dtype=torch.int32), device)
        return cls(lengths=tuple(lengths), kernel=kernel, bounds=bounds)

    @classmethod
    def padded(cls, lengths: Sequence[int], size: int, *, device: torch.device, kernel: str = "auto") -> Segments:
        """Return the segments of sequences that are each followed by padding up to `size` rows."""
        mask = torch.arange(size) < torch.tensor(lengths)[:, None]
        return cls(lengths=(size,) * len(lengths), kernel=kernel, mask=on_device(mask[:, None, None], device))

    def kernel_for(self, dtype: torch.dtype, device: torch.device, head_width: int) -> str:
        """Return the kernel that attention over these segments runs.

        Raises:
            ConfigError: The kernel that was asked for cannot run.
        """
        packed = self.mask is None
        return kernel_for(self.kernel, device=device, dtype=dtype, head_width=head_width, packed=packed)


def on_device(values: Tensor, device: torch.device) -> Tensor:
    """Return host `values` on `device`; a GPU gets them from pinned memory, so the host does not wait for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)


def positions_within(lengths: Sequence[int]) -> Int[Tensor, " T"]:
    """Return each row's number within its sequence, on the host."""
    counts = torch.tensor(lengths)
    return torch.arange(int(counts.sum())) - (counts.cumsum(0) - counts).repeat_interleave(counts)


def segment_attention(
    query: Float[Tensor, "T H d"],
    key: Float[Tensor, "T K d"],
    value: Float[Tensor, "T K d"],
    segments: Segments,
    *,
    causal: bool,
    scale: float | None = None,
) -> Float[Tensor, "T H d"]:
    """Return attention within each sequence; rows of different sequences never meet, nor padding any row.

    `K` may divide `H` (grouped queries). A pack is one call on a GPU; elsewhere a loop over sequences computes no
    padding at all, where one call with a block mask would compute every pair of sequences and lose the flash kernel.

    Raises:
        ConfigError: The kernel that `segments` ask for cannot run here.
    """
    lengths = list(segments.lengths)
    if segments.mask is not None:
        shape = (len(lengths), lengths[0])
        batch = [rows.unflatten(0, shape).transpose(1, 2) for rows in (query, key, value)]
        out = attend(*batch, causal=causal, scale=scale, mask=segments.mask, kernel=segments.kernel)
        return out.transpose(1, 2).flatten(0, 1)
    kernel = segments.kernel_for(query.dtype, query.device, query.shape[-1])
    if kernel in PACKED_KERNELS and segments.bounds is not None:
        return attend_packed(
            query,
            key,
            value,
            bounds=segments.bounds,
            longest=max(lengths),
            causal=causal,
            scale=scale,
            kernel=kernel,
        )
    # `split` and not slices: the backward of each slice would fill and add a matrix as long as the whole pack.
    parts = zip(*(rows.transpose(0, 1).split(lengths, dim=1) for rows in (query, key, value)), strict=True)
    outputs = [attend(q[None], k[None], v[None], causal=causal, scale=scale, kernel=kernel)[0] for q, k, v in parts]
    return torch.cat([out.transpose(0, 1) for out in outputs])


def segment_means(packed: Packed) -> Float[Tensor, "N D"]:
    """Return the mean row of every sequence, in float32."""
    if packed.values.device.type == "cpu":
        return torch.stack([part.float().mean(dim=0) for part in packed.split()])
    return _segment_means(packed)


def _segment_means(packed: Packed) -> Tensor:
    """Return the means in one kernel; `unsafe` leaves out a check of the lengths that would wait for the device."""
    values = packed.values.float()
    lengths = on_device(torch.tensor(packed.lengths), values.device)
    return torch.segment_reduce(values, "mean", lengths=lengths, axis=0, unsafe=True)


def group_positions(lengths: tuple[int, ...], size: int) -> tuple[Tensor, tuple[int, ...]]:
    """Return for every group of `size` consecutive rows the packed row numbers it reads, and the new lengths.

    A sequence whose length is no multiple of `size` repeats its last row, so the mean of its last group stays
    the mean of rows near its end and never mixes in another sequence.

    Returns:
        Row numbers `[groups, size]` on the host and the number of groups of each sequence.
    """
    groups = tuple(-(-length // size) for length in lengths)
    counts, rows = torch.tensor(groups), torch.tensor(lengths)
    last, start = (per.repeat_interleave(counts)[:, None] for per in (rows - 1, rows.cumsum(0) - rows))
    within = positions_within(groups)[:, None] * size + torch.arange(size)
    return within.minimum(last) + start, groups


def take_rows(x: Float[Tensor, "T ..."], rows: Int[Tensor, " R"]) -> Float[Tensor, "R ..."]:
    """Return the rows of these numbers, no number twice; the backward is a copy, not a sum in some order."""
    return _Take.apply(x, rows)


def place_rows(x: Float[Tensor, "R ..."], rows: Int[Tensor, " R"], size: int) -> Float[Tensor, "T ..."]:
    """Return a matrix of `size` rows that has `x` at these rows, no number twice, and zeros elsewhere."""
    return _Place.apply(x, rows, size)


class _Place(torch.autograd.Function):
    """Rows into a zeroed matrix; its backward is a plain gather (autograd's own would scatter and add)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(rows)
        return x.new_zeros(size, *x.shape[1:]).index_copy_(0, rows, x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (rows,) = ctx.saved_tensors
        return grads[0].index_select(0, rows), None, None


class _Take(torch.autograd.Function):
    """Rows out of a matrix; the inverse of `_Place`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.size = len(x)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        grad = grads[0]
        return grad.new_zeros(ctx.size, *grad.shape[1:]).index_copy_(0, rows, grad), None
