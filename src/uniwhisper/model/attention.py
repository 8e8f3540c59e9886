"""Attention kernels behind two functions: one for a batch of equal lengths, one for a pack of different lengths.

A kernel is asked for by name; `auto` takes the fastest that the device, the type and the head width allow, and a name
that they do not allow is refused with the reason. On a GPU in half precision a pack is one call, whatever its lengths.

Shape letters: `N` sequences, `H` heads of queries, `K` heads of keys (a divisor of `H`), `S` positions, `T` those of
all sequences together, `d` head width.
"""

from __future__ import annotations

import inspect
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from uniwhisper.errors import ConfigError

__all__ = ["PACKED_KERNELS", "attend", "attend_packed", "attention_in_use", "kernel_for"]

PACKED_KERNELS = ("varlen", "flash")
"""Kernels that read sequences of different lengths end to end, in one call; fastest first."""

_HALF = (torch.bfloat16, torch.float16)
_WIDEST_HEAD = 256
"""Source: FlashAttention-2, whose kernels take head widths up to 256 in steps of 8
(https://github.com/Dao-AILab/flash-attention, README.md)."""
_OLDEST_GPU = (8, 0)
"""Compute capability of Ampere, the first that FlashAttention-2 runs on. Source: as above."""


def kernel_for(kernel: str, *, device: torch.device, dtype: torch.dtype, head_width: int, packed: bool) -> str:
    """Return the kernel that `kernel` means here: one of `PACKED_KERNELS`, `products`, `sdpa` or `eager`.

    Args:
        kernel: A name of `execution.ATTENTION`.
        device: Where the tensors lie.
        dtype: Their type as attention sees it, after autocast.
        head_width: Width of a head.
        packed: Whether sequences lie end to end at their own lengths; only then can `PACKED_KERNELS` read them.

    Raises:
        ConfigError: The device, the type or the layout does not allow the kernel that was asked for.
    """
    if kernel == "auto":
        allowed = [name for name in PACKED_KERNELS if packed and _refusal(name, device, dtype, head_width) is None]
        # On a CPU in bfloat16 torch's flash kernel is 2 to 6 times slower than three matrix products at the lengths of
        # audio clips (benchmarks/bench_attention.py): it computes its backward in float32, without bf16 instructions.
        rest = "products" if device.type == "cpu" and dtype == torch.bfloat16 else "sdpa"
        return [*allowed, rest][0]
    reason = None
    if kernel in PACKED_KERNELS:
        layout = None if packed else "it reads packed sequences, and this part of the network is set to `padded`"
        reason = layout or _refusal(kernel, device, dtype, head_width)
    if reason:
        raise ConfigError(
            f"execution.attention: expected a kernel that can run here, found {kernel!r} for {dtype} on {device}: "
            f"{reason}. Use `auto`, which takes the fastest that can"
        )
    return kernel


def attention_in_use(
    device: torch.device, dtype: torch.dtype, *, kernel: str = "auto", head_width: int = 64, packed: bool = True
) -> str:
    """Return the kernel that training would use, for reports; Whisper's heads are 64 wide in every size.

    Raises:
        ConfigError: As in `kernel_for`.
    """
    return kernel_for(kernel, device=device, dtype=dtype, head_width=head_width, packed=packed)


def attend(
    query: Float[Tensor, "N H S d"],
    key: Float[Tensor, "N K S d"],
    value: Float[Tensor, "N K S d"],
    *,
    causal: bool,
    scale: float | None = None,
    mask: Bool[Tensor, "N 1 1 S"] | None = None,
    kernel: str = "auto",
) -> Float[Tensor, "N H S d"]:
    """Return softmax attention; groups of `H / K` query heads share a key head.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        causal: Attend to the position itself and those before it alone.
        scale: Factor of the scores; by default `1 / sqrt(d)`.
        mask: True at keys that may be attended to; every query needs one.
        kernel: As in `kernel_for`, for sequences that are not packed.

    Raises:
        ConfigError: The kernel cannot run here.
    """
    width = query.shape[-1]
    factor = float(width**-0.5) if scale is None else scale
    chosen = kernel_for(kernel, device=query.device, dtype=query.dtype, head_width=width, packed=False)
    if chosen == "sdpa":
        bias = None if mask is None else _bias(query, mask, causal=causal)
        grouped = query.shape[1] != key.shape[1]
        return functional.scaled_dot_product_attention(
            query, key, value, attn_mask=bias, is_causal=causal and bias is None, scale=factor, enable_gqa=grouped
        )
    compute = _products if chosen == "products" else _eager
    return compute(query, key, value, bias=_bias(query, mask, causal=causal), scale=factor)


def attend_packed(
    query: Float[Tensor, "T H d"],
    key: Float[Tensor, "T K d"],
    value: Float[Tensor, "T K d"],
    *,
    bounds: Int[Tensor, " N+1"],
    longest: int,
    causal: bool,
    scale: float | None,
    kernel: str,
) -> Float[Tensor, "T H d"]:
    """Return attention within each sequence of a pack, in one call of a kernel of `PACKED_KERNELS`.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        bounds: Where each sequence starts, and the end of the last, as int32 on the device.
        longest: Length of the longest sequence.
        causal: As in `attend`.
        scale: As in `attend`.
        kernel: `varlen` or `flash`; that it can run here was checked by `kernel_for`.

    Source: `torch.nn.attention.varlen.varlen_attn` of torch 2.13, where a window of (-1, 0) is the causal rule, and
        `flash_attn.flash_attn_varlen_func` of flash-attn 2 (https://github.com/Dao-AILab/flash-attention,
        flash_attn/flash_attn_interface.py).
    """
    factor = float(query.shape[-1] ** -0.5) if scale is None else scale
    if kernel == "flash":
        return import_module("flash_attn").flash_attn_varlen_func(
            query, key, value, bounds, bounds, longest, longest, softmax_scale=factor, causal=causal
        )
    varlen_attn = _varlen()
    # Versions without the word read grouped heads all the same: the kernel below has always known them.
    grouped = {"enable_gqa": query.shape[1] != key.shape[1]} if "enable_gqa" in _words(varlen_attn) else {}
    window = (-1, 0) if causal else (-1, -1)
    return varlen_attn(query, key, value, bounds, bounds, longest, longest, scale=factor, window_size=window, **grouped)


@lru_cache(maxsize=64)
def _refusal(kernel: str, device: torch.device, dtype: torch.dtype, head_width: int) -> str | None:
    """Return why a kernel of `PACKED_KERNELS` cannot run, or None where it can."""
    if device.type != "cuda" or torch.version.hip is not None:
        return "it needs an NVIDIA GPU"
    if dtype not in _HALF:
        return "it computes in bfloat16 or float16 alone (precision bf16)"
    if head_width % 8 or head_width > _WIDEST_HEAD:
        return f"it needs heads of a width up to {_WIDEST_HEAD} in steps of 8, found {head_width}"
    found = torch.cuda.get_device_capability(device)
    if found < _OLDEST_GPU:
        return f"it needs compute capability {_OLDEST_GPU[0]}.{_OLDEST_GPU[1]}, found {found[0]}.{found[1]}"
    if kernel == "flash":
        return None if find_spec("flash_attn") else "flash-attn is not installed (pip install flash-attn)"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this build of torch has no flash attention"
    known = _words(_varlen())
    if not {"scale", "window_size"} <= known:
        return f"torch {torch.__version__} has no torch.nn.attention.varlen with scale and window (2.11 or later has)"
    return None


def _varlen() -> Any:
    """Return torch's function for packs, or None where this version has none."""
    if find_spec("torch.nn.attention.varlen") is None:
        return None
    from torch.nn.attention import varlen

    return varlen.varlen_attn


def _words(function: Any) -> set[str]:
    return set() if function is None else set(inspect.signature(function).parameters)


def _bias(query: Tensor, mask: Tensor | None, *, causal: bool) -> Tensor | None:
    """Return what is added to the scores: minus infinity where a query must not look."""
    length = query.shape[2]
    bias = query.new_full((length, length), float("-inf")).triu_(1) if causal else None
    if mask is None:
        return bias
    unseen = query.new_zeros(mask.shape).masked_fill_(~mask, float("-inf"))
    return unseen if bias is None else unseen + bias


def _products(query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor | None, scale: float) -> Tensor:
    """Three matrix products; the heads of a group lie end to end, so no key is repeated."""
    n, heads, length, width = query.shape
    groups = key.shape[1]
    rows = (query * scale).reshape(n, groups, heads // groups * length, width)
    scores = rows @ key.transpose(-1, -2)
    if bias is not None:
        scores = (scores.view(n, heads, length, length) + bias).view_as(scores)
    # torch computes a bfloat16 softmax in float32 and rounds once; asking for float32 would keep a third, wider copy.
    return (scores.softmax(dim=-1) @ value).reshape(query.shape)


def _eager(query: Tensor, key: Tensor, value: Tensor, *, bias: Tensor | None, scale: float) -> Tensor:
    """The formula as it is written: every group's keys repeated, the softmax in float32."""
    share = query.shape[1] // key.shape[1]
    key, value = (heads.repeat_interleave(share, dim=1) for heads in (key, value))
    scores = (query @ key.transpose(-1, -2)) * scale
    if bias is not None:
        scores = scores + bias
    return scores.float().softmax(dim=-1).to(value.dtype) @ value
