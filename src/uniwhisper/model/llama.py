"""The frozen decoder's fast path: packed forward of Llama-shaped LMs (Llama, Qwen2, Qwen3) for training through them.

transformers spends a frozen LM's time on small operations: a norm is eight passes over memory, the three attention and
two feed-forward projections are separate products, and packed sequences need a mask or one attention call each. Here
projections are joined once at load time, norms have a hand-written backward, and attention runs once a layer: by a
kernel that reads packs where the device has one, else on sequences padded on the right, where the causal rule alone
keeps padding out of every valid row (or sequence by sequence, where padding would cost more). Weights are shared with
the transformers model (the joined matrices replace its own), whose outputs are the reference in the tests.

Shape letters: `L` packed positions, `N` sequences, `S` longest sequence, `Q` width, `H` heads of queries, `K` heads of
keys, `d` head width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from uniwhisper.model.attention import PACKED_KERNELS, attend
from uniwhisper.model.packing import Segments, on_device, place_rows, positions_within, segment_attention, take_rows

__all__ = ["PackedLlama", "supports"]

_MODEL_TYPES = ("llama", "qwen2", "qwen3")


def supports(lm: Any) -> bool:
    """Return whether `lm` is of a shape that `PackedLlama` computes exactly."""
    config = lm.config
    return (
        config.model_type in _MODEL_TYPES
        and config.hidden_act == "silu"
        and not getattr(config, "use_sliding_window", False)
        and not getattr(config, "mlp_bias", False)
        and getattr(config, "pretraining_tp", 1) == 1
    )


class PackedLlama(nn.Module):
    """Hidden states of a Llama-shaped LM for packed sequences; no parameter of it ever needs a gradient."""

    def __init__(self, lm: Any) -> None:
        super().__init__()
        config = lm.config
        self.heads = config.num_attention_heads
        self.kv_heads = config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or config.hidden_size // self.heads
        self.rotary = lm.model.rotary_emb
        self.final_norm = lm.model.norm
        self.layers = nn.ModuleList(_Layer(layer) for layer in lm.model.layers)

    def forward(self, x: Float[Tensor, "L Q"], segments: Segments) -> Float[Tensor, "L Q"]:
        """Return the final hidden states; each sequence has positions from 0 and sees itself alone.

        Raises:
            ConfigError: The attention kernel that was asked for cannot run here.
        """
        within = positions_within(segments.lengths)
        cos, sin = self.rotary(x[None], on_device(within, x.device)[None])
        cos, sin = cos[0, :, None], sin[0, :, None]
        attention = _Attention(segments, within, x, self.head_dim)
        for layer in cast("list[_Layer]", self.layers):
            x = x + self._attend(layer, _norm(x, layer.norm1), cos, sin, attention)
            gate, up = functional.linear(_norm(x, layer.norm2), layer.gate_up).chunk(2, dim=-1)
            x = x + functional.linear(functional.silu(gate) * up, layer.down)
        return _norm(x, self.final_norm)

    def _attend(self, layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor, attention: _Attention) -> Tensor:
        mixed = functional.linear(x, layer.qkv, layer.qkv_bias).view(len(x), -1, self.head_dim)
        rotated, value = mixed.split([self.heads + self.kv_heads, self.kv_heads], dim=1)
        if layer.q_norm is not None:
            query, key = rotated.split([self.heads, self.kv_heads], dim=1)
            rotated = torch.cat([_norm(query, layer.q_norm), _norm(key, layer.k_norm)], dim=1)
        first, second = rotated.chunk(2, dim=-1)
        rotated = rotated * cos + torch.cat((-second, first), dim=-1) * sin
        out = attention(torch.cat([rotated, value], dim=1), self.heads, self.kv_heads)
        return functional.linear(out, layer.out, layer.out_bias)


class _Attention:
    """Causal attention within each sequence, by whichever of three ways computes and keeps least.

    A kernel that reads packs takes them as they are. Without one, sequences of similar lengths are padded on the right
    and attended in one call; where one is much longer than the rest, padding would cost `N * S * S` scores, so they
    are attended one by one.
    """

    def __init__(self, segments: Segments, within: Tensor, x: Tensor, head_dim: int) -> None:
        self.segments = segments
        lengths = segments.lengths
        self.kernel = segments.kernel_for(x.dtype, x.device, head_dim)
        self.shape = (len(lengths), max(lengths))
        similar = self.shape[0] * self.shape[1] ** 2 <= 2 * sum(n * n for n in lengths)
        self.padded = segments.mask is None and self.kernel not in PACKED_KERNELS and similar
        if self.padded:
            numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
            self.places = on_device(numbers * self.shape[1] + within, x.device)

    def __call__(self, x: Float[Tensor, "L heads d"], heads: int, kv_heads: int) -> Float[Tensor, "L Hd"]:
        """Return the attended rows of `x`, which holds query, key and value heads side by side."""
        sizes = [heads, kv_heads, kv_heads]
        if not self.padded:
            query, key, value = x.split(sizes, dim=1)
            return segment_attention(query, key, value, self.segments, causal=True).flatten(1)
        rows = self.shape[0] * self.shape[1]
        padded = place_rows(x, self.places, rows).view(*self.shape, *x.shape[1:]).transpose(1, 2)
        out = attend(*padded.split(sizes, dim=1), causal=True, kernel=self.kernel)
        return take_rows(out.transpose(1, 2).reshape(rows, -1), self.places)


class _Layer(nn.Module):
    """Joined weights of one layer; the transformers modules keep views of them, so nothing is stored twice."""

    qkv: Tensor
    qkv_bias: Tensor | None
    gate_up: Tensor

    def __init__(self, layer: Any) -> None:
        super().__init__()
        attention, mlp = layer.self_attn, layer.mlp
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self.register_buffer("qkv", _join(projections), persistent=False)
        biases = [p.bias for p in projections]
        joined = None if biases[0] is None else torch.cat([b.detach() for b in biases])
        self.register_buffer("qkv_bias", joined, persistent=False)
        self.out, self.out_bias = attention.o_proj.weight, attention.o_proj.bias
        self.register_buffer("gate_up", _join((mlp.gate_proj, mlp.up_proj)), persistent=False)
        self.down = mlp.down_proj.weight
        self.norm1, self.norm2 = layer.input_layernorm, layer.post_attention_layernorm
        self.q_norm, self.k_norm = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)


def _join(projections: Sequence[nn.Linear]) -> Tensor:
    """Return the projections' weights as one matrix and make the projections views of it."""
    joined = torch.cat([p.weight.detach() for p in projections])
    for projection, part in zip(projections, joined.split([len(p.weight) for p in projections]), strict=True):
        projection.weight = nn.Parameter(part, requires_grad=False)
    return joined


def _norm(x: Tensor, module: Any) -> Tensor:
    return _RmsNorm.apply(x, module.weight, module.variance_epsilon)


class _RmsNorm(torch.autograd.Function):
    """Root-mean-square norm with a frozen weight: half the memory passes of the composed operations.

    With `r = rsqrt(mean(x^2) + eps)` and `h = x r`, the gradient is `r (g w - h mean(g w h))`.
    Source: Zhang and Sennrich, arXiv 1910.07467, equation 4; the gradient follows by differentiation.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32).square()
        scale = torch.rsqrt(square / x.shape[-1] + eps)
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale).mul_(weight.float()).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        x, weight, scale = ctx.saved_tensors
        grad = torch.mul(grads[0], weight.float())
        unit = torch.mul(x, scale)
        grad.addcmul_(unit, (grad * unit).mean(dim=-1, keepdim=True), value=-1.0)
        return grad.mul_(scale).to(x.dtype), None, None
