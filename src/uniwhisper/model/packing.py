"""Packed sequences: clips of different lengths laid end to end in one matrix, so that no padding is ever computed.

Shape letters: `N` clips, `T` frames of all clips together, `D` width, `H` heads.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from uniwhisper.model.attention import attend

__all__ = ["Packed", "group_positions", "segment_attention", "segment_means"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Packed:
    """Rows of several sequences, one after the other."""

    values: Float[Tensor, "T D"]
    lengths: tuple[int, ...]
    """Number of rows of each sequence; they add up to `T`."""

    def split(self) -> list[Tensor]:
        """Return one `[T_i, D]` view a sequence."""
        return list(self.values.split(list(self.lengths)))


def segment_attention(
    query: Float[Tensor, "H T d"],
    key: Float[Tensor, "K T d"],
    value: Float[Tensor, "K T d"],
    lengths: tuple[int, ...],
    *,
    causal: bool,
    scale: float | None = None,
) -> Float[Tensor, "H T d"]:
    """Return attention within each sequence of a pack; rows of different sequences never meet.

    `K` may divide `H` (grouped queries). A loop over sequences computes no padding at all; one call with a block mask
    would compute every pair of sequences and lose the flash kernel.
    """
    # `split` and not slices: the backward of each slice would fill and add a matrix as long as the whole pack.
    parts = zip(*(rows.split(list(lengths), dim=1) for rows in (query, key, value)), strict=True)
    outputs = [attend(q[None], k[None], v[None], causal=causal, scale=scale)[0] for q, k, v in parts]
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=1)


def segment_means(packed: Packed) -> Float[Tensor, "N D"]:
    """Return the mean row of every sequence, in float32."""
    return torch.stack([part.float().mean(dim=0) for part in packed.split()])


def group_positions(lengths: tuple[int, ...], size: int) -> tuple[Tensor, tuple[int, ...]]:
    """Return for every group of `size` consecutive rows the packed row numbers it reads, and the new lengths.

    A sequence whose length is no multiple of `size` repeats its last row, so the mean of its last group stays
    the mean of rows near its end and never mixes in another sequence.

    Returns:
        Row numbers `[groups, size]` and the number of groups of each sequence.
    """
    rows, new_lengths, start = [], [], 0
    for length in lengths:
        groups = -(-length // size)
        index = torch.arange(groups * size).clamp_(max=length - 1) + start
        rows.append(index.view(groups, size))
        new_lengths.append(groups)
        start += length
    return torch.cat(rows), tuple(new_lengths)
