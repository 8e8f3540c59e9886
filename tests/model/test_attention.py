from __future__ import annotations

import pytest
import torch
from torch import Tensor

from uniwhisper.model.attention import _products, attend


def inputs(heads: int, key_heads: int, length: int, *, num_sequences: int = 2) -> list[Tensor]:
    """Return query, key and value that want gradients."""
    generator = torch.Generator().manual_seed(heads * length)
    shapes = [(num_sequences, n, length, 8) for n in (heads, key_heads, key_heads)]
    return [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]


def naive(query: Tensor, key: Tensor, value: Tensor, *, causal: bool, scale: float) -> Tensor:
    """Return softmax attention from its formula, every group's key head repeated."""
    share = query.shape[1] // key.shape[1]
    key, value = (tensor.repeat_interleave(share, dim=1) for tensor in (key, value))
    scores = torch.einsum("nhqd,nhkd->nhqk", query, key) * scale
    if causal:
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = scores.masked_fill(future, float("-inf"))
    return torch.einsum("nhqk,nhkd->nhqd", scores.softmax(dim=-1), value)


@pytest.mark.parametrize("kernel", ["attend", "products"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("length", [1, 7])
def test_both_kernels_are_softmax_attention(kernel: str, causal: bool, heads: int, key_heads: int, length: int) -> None:
    ours, theirs = inputs(heads, key_heads, length), inputs(heads, key_heads, length)
    found = (attend if kernel == "attend" else _products)(*ours, causal=causal, scale=0.4)
    expected = naive(*theirs, causal=causal, scale=0.4)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weight = torch.arange(found.numel(), dtype=torch.float32).view_as(found).cos()
    (found * weight).sum().backward()
    (expected * weight).sum().backward()
    for tensor, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(tensor.grad, reference.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scale_is_that_of_the_head_width_by_default(dtype: torch.dtype) -> None:
    query, key, value = (tensor.detach().to(dtype) for tensor in inputs(4, 2, 9))
    found = attend(query, key, value, causal=True)
    expected = naive(query.float(), key.float(), value.float(), causal=True, scale=8**-0.5)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=1e-5 if dtype == torch.float32 else 0.05, rtol=0)
