"""One layer of the encoder: what stands before attention, attention, and what stands after it.

The two parts around attention are functions of tensors alone, so one compiled version of each serves every layer and
every batch: the number of rows is a variable in it, and lengths of clips are never seen by it. Attention itself stays
outside, where its kernel is one call on a GPU and a loop over clips on a CPU.

Shape letters: `T` rows of all clips together, `D` width, `H` heads, `d` head width.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from uniwhisper.model.packing import Segments, segment_attention

__all__ = ["EncoderLayer"]

_Norm = tuple[Tensor, Tensor]
_Linear = tuple[Tensor, Tensor]


class SelfAttention(nn.Module):
    """Weights of multi-head self-attention, under Hugging Face's names."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn = SelfAttention(width, heads)
        self.final_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "T D"], segments: Segments, compiled: bool = False) -> Float[Tensor, "T D"]:
        """Return the layer's output for several clips.

        Args:
            x: Rows of all clips.
            segments: Which rows belong to which clip.
            compiled: Run the parts around attention through `torch.compile`.

        Raises:
            ConfigError: The attention kernel that `segments` ask for cannot run here.
        """
        attn = self.self_attn
        before, after = (_compiled(_project), _compiled(_finish)) if compiled else (_project, _finish)
        projections = (attn.q_proj.weight, attn.k_proj.weight, attn.v_proj.weight)
        if compiled:
            _mark_rows(x)
        query, key, value = before(
            x, _parts(self.self_attn_layer_norm), projections, (attn.q_proj.bias, attn.v_proj.bias), attn.heads
        )
        attended = segment_attention(query, key, value, segments, causal=False)
        if compiled:
            _mark_rows(attended)
        return after(
            x, attended, _parts(attn.out_proj), _parts(self.final_layer_norm), _parts(self.fc1), _parts(self.fc2)
        )


def _parts(module: nn.Linear | nn.LayerNorm) -> tuple[Tensor, Tensor]:
    return module.weight, module.bias


def _project(
    x: Float[Tensor, "T D"], norm: _Norm, weights: tuple[Tensor, ...], biases: tuple[Tensor, Tensor], heads: int
) -> tuple[Float[Tensor, "T H d"], ...]:
    """Return queries, keys and values; the three projections run as one matrix product."""
    x = functional.layer_norm(x, x.shape[-1:], *norm)
    bias = torch.cat([biases[0], torch.zeros_like(biases[0]), biases[1]])
    return functional.linear(x, torch.cat(weights), bias).view(len(x), 3, heads, -1).unbind(1)


def _finish(
    x: Float[Tensor, "T D"], attended: Float[Tensor, "T H d"], out: _Linear, norm: _Norm, fc1: _Linear, fc2: _Linear
) -> Float[Tensor, "T D"]:
    """Return the layer's output from its input and what attention returned."""
    x = x + functional.linear(attended.reshape(x.shape), *out)
    hidden = functional.layer_norm(x, x.shape[-1:], *norm)
    return x + functional.linear(functional.gelu(functional.linear(hidden, *fc1)), *fc2)


@cache
def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    return torch.compile(function)


def _mark_rows(x: Tensor) -> None:
    """Tell the compiler that the number of rows changes, so that it builds no version for the first batch alone."""
    torch._dynamo.maybe_mark_dynamic(x, 0)
