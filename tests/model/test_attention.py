from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.attention import varlen

from uniwhisper.errors import ConfigError
from uniwhisper.model import attention
from uniwhisper.model.attention import attend, attention_in_use
from uniwhisper.model.packing import Segments, segment_attention

from .packed_kernel import PackedKernel


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


@pytest.mark.parametrize("kernel", ["auto", "products", "sdpa", "eager"])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "key_heads"), [(4, 4), (6, 2), (4, 1)])
@pytest.mark.parametrize("length", [1, 7])
def test_every_kernel_is_softmax_attention(kernel: str, causal: bool, heads: int, key_heads: int, length: int) -> None:
    ours, theirs = inputs(heads, key_heads, length), inputs(heads, key_heads, length)
    found = attend(*ours, causal=causal, scale=0.4, kernel=kernel)
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


CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Pretend that a GPU of some capability is there."""

    def pretend(*, capability: tuple[int, int] = (9, 0), built: bool = True, flash_attn: bool = False) -> None:
        attention._refusal.cache_clear()
        found = attention.find_spec
        monkeypatch.setattr(torch.version, "hip", None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        monkeypatch.setattr(torch.backends.cuda, "is_flash_attention_available", lambda: built)
        monkeypatch.setattr(attention, "find_spec", lambda name: flash_attn if name == "flash_attn" else found(name))

    attention._refusal.cache_clear()
    yield pretend
    attention._refusal.cache_clear()


def test_auto_takes_what_the_device_has(gpu: Callable[..., None]) -> None:
    assert attention_in_use(CPU, torch.bfloat16) == "products"
    assert attention_in_use(CPU, torch.float32) == "sdpa"
    gpu()
    assert attention_in_use(GPU, torch.bfloat16) == "varlen"
    assert attention_in_use(GPU, torch.float16, head_width=128) == "varlen"
    assert attention_in_use(GPU, torch.bfloat16, packed=False) == "sdpa"
    assert attention_in_use(GPU, torch.float32) == "sdpa"
    gpu(built=False, flash_attn=True)
    assert attention_in_use(GPU, torch.bfloat16) == "flash"
    gpu(built=False)
    assert attention_in_use(GPU, torch.bfloat16) == "sdpa"
    gpu(capability=(7, 5), flash_attn=True)
    assert attention_in_use(GPU, torch.float16) == "sdpa"


def test_a_torch_without_the_words_has_no_varlen(gpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    gpu()

    def older(query: Tensor, key: Tensor, value: Tensor, cu_seq_q: Tensor, is_causal: bool = False) -> Tensor:
        return query

    monkeypatch.setattr(varlen, "varlen_attn", older)
    assert attention_in_use(GPU, torch.bfloat16) == "sdpa"
    with pytest.raises(ConfigError, match=r"torch .* has no torch.nn.attention.varlen with scale"):
        attention_in_use(GPU, torch.bfloat16, kernel="varlen")


@pytest.mark.parametrize(
    ("pretend", "asked", "reason"),
    [
        (None, {"device": CPU}, "'varlen' for torch.bfloat16 on cpu: it needs an NVIDIA GPU"),
        (None, {"device": CPU, "kernel": "flash"}, "'flash' .*it needs an NVIDIA GPU"),
        ({}, {"dtype": torch.float32}, "bfloat16 or float16 alone"),
        ({}, {"head_width": 100}, "in steps of 8, found 100"),
        ({}, {"head_width": 512}, "up to 256 .* found 512"),
        ({}, {"packed": False}, "reads packed sequences"),
        ({}, {"kernel": "flash"}, "flash-attn is not installed"),
        ({"capability": (7, 5)}, {}, r"capability 8\.0, found 7\.5"),
        ({"built": False}, {}, "this build of torch has no flash attention"),
    ],
)
def test_a_kernel_that_cannot_run_is_refused_with_the_reason(
    gpu: Callable[..., None], pretend: dict[str, Any] | None, asked: dict[str, Any], reason: str
) -> None:
    if pretend is not None:
        gpu(**pretend)
    words: dict[str, Any] = {"device": GPU, "dtype": torch.bfloat16, "kernel": "varlen"} | asked
    with pytest.raises(ConfigError, match=reason):
        attention_in_use(words.pop("device"), words.pop("dtype"), **words)


@pytest.mark.parametrize("kernel", ["varlen", "flash"])
@pytest.mark.parametrize(("heads", "key_heads", "causal"), [(4, 4, False), (6, 2, True)])
def test_a_pack_is_one_call(packed_kernel: PackedKernel, kernel: str, heads: int, key_heads: int, causal: bool) -> None:
    lengths = (3, 7, 1)
    rows = [tensor[0].detach().transpose(0, 1) for tensor in inputs(heads, key_heads, 11, num_sequences=1)]
    segments = Segments.packed(lengths, device=CPU, kernel=kernel)
    found = segment_attention(rows[0], rows[1], rows[2], segments, causal=causal, scale=0.4)
    assert len(packed_kernel.calls) == 1
    assert packed_kernel.calls[0]["bounds"] == [0, 3, 10, 11]
    assert packed_kernel.calls[0]["causal"] is causal
    assert packed_kernel.calls[0]["heads"] == (heads, key_heads)
    plain = Segments.packed(lengths, device=CPU, kernel="eager")
    expected = segment_attention(rows[0], rows[1], rows[2], plain, causal=causal, scale=0.4)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)
