"""Attention kernels behind one function: the device's flash kernel, or plain matrix products where those are faster.

Shape letters: `N` sequences, `H` heads of queries, `K` heads of keys (a divisor of `H`), `S` positions, `d` head width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

__all__ = ["attend"]


def attend(
    query: Float[Tensor, "N H S d"],
    key: Float[Tensor, "N K S d"],
    value: Float[Tensor, "N K S d"],
    *,
    causal: bool,
    scale: float | None = None,
) -> Float[Tensor, "N H S d"]:
    """Return softmax attention; groups of `H / K` query heads share a key head.

    On a CPU in bfloat16 torch's flash kernel is 2 to 6 times slower than three matrix products at the lengths of
    audio clips (`benchmarks/bench_attention.py`): it computes its backward in float32 without the bf16 instructions.
    """
    factor = float(query.shape[-1] ** -0.5) if scale is None else scale
    if query.device.type == "cpu" and query.dtype == torch.bfloat16:
        return _products(query, key, value, causal=causal, scale=factor)
    grouped = query.shape[1] != key.shape[1]
    return functional.scaled_dot_product_attention(
        query, key, value, is_causal=causal, scale=factor, enable_gqa=grouped
    )


def _products(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> Tensor:
    n, heads, length, width = query.shape
    groups = key.shape[1]
    rows = (query * scale).reshape(n, groups, heads // groups * length, width)  # the heads of a group, end to end
    scores = rows @ key.transpose(-1, -2)
    if causal:
        future = torch.full((length, length), float("-inf"), dtype=scores.dtype).triu_(1)
        scores = (scores.view(n, heads, length, length) + future).view_as(scores)
    # torch computes a bfloat16 softmax in float32 and rounds once; asking for float32 would keep a third, wider copy.
    return (scores.softmax(dim=-1) @ value).reshape(query.shape)
