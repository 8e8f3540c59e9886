"""Floating-point operations of one training example, from lengths alone: what the padding costs before any code runs.

Conventions, the same for both sides: a multiply-add counts two; matrix products and attention count, norms and
activations do not. What is trained counts three forwards (forward, gradient of inputs, gradient of weights). The frozen
LM counts two for its matrices (forward, gradient of inputs) and three for attention, which has gradients of both its
factors. Causal attention counts half of its square, padded or not, which favours the padded side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

from uniwhisper.model.dims import AdapterConfig, EncoderDims

__all__ = ["LmDims", "adapter_flops", "encoder_flops", "lm_flops"]

_TRAINED, _FROZEN, _ATTENTION = 3, 2, 3


@dataclass(frozen=True, kw_only=True, slots=True)
class LmDims:
    """Sizes of a Llama-shaped LM."""

    layers: int
    width: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int

    @classmethod
    def of(cls, config: Any) -> Self:
        """Return the sizes stated in a transformers configuration."""
        heads = config.num_attention_heads
        return cls(
            layers=config.num_hidden_layers,
            width=config.hidden_size,
            hidden=config.intermediate_size,
            heads=heads,
            kv_heads=getattr(config, "num_key_value_heads", heads),
            head_dim=getattr(config, "head_dim", None) or config.hidden_size // heads,
            vocabulary=config.vocab_size,
        )


def encoder_flops(dims: EncoderDims, frames: Sequence[int]) -> float:
    """Return the operations of training the encoder on clips of so many 20 ms frames."""
    width = dims.n_audio_state
    convolutions = 2 * (2 * 3 * dims.n_mels * width) + 2 * 3 * width * width  # conv1 runs at twice the frame rate
    linear = dims.n_audio_layer * 2 * 12 * width * width
    attention = dims.n_audio_layer * 4 * width
    return float(sum(_TRAINED * t * (convolutions + linear + attention * t) for t in frames))


def adapter_flops(dims: EncoderDims, config: AdapterConfig, lm: LmDims, frames: Sequence[int]) -> float:
    """Return the operations of training subsampler and adapter on clips of so many 20 ms frames."""
    width, total = dims.n_audio_state, 0
    for count in frames:
        halved = -(-count // 2)
        positions = -(-halved // config.reduction)
        mlp = width * lm.width + config.reduction * width * config.hidden + config.hidden * lm.width
        total += 2 * halved * 2 * width * width + 2 * positions * mlp
    return float(_TRAINED * total)


def lm_flops(dims: LmDims, lengths: Sequence[int], num_logits: int) -> float:
    """Return the operations of a forward and a backward through the frozen LM.

    Args:
        dims: Sizes of the LM.
        lengths: Positions of every sequence, padding included where it is computed.
        num_logits: Positions at which logits are computed.
    """
    projections = dims.width * dims.head_dim * (2 * dims.heads + 2 * dims.kv_heads)
    linear = dims.layers * 2 * (projections + 3 * dims.width * dims.hidden)
    attention = dims.layers * 2 * dims.heads * dims.head_dim
    head = 2 * dims.width * dims.vocabulary
    body = sum(_FROZEN * linear * n + _ATTENTION * attention * n * n for n in lengths)
    return float(body + _FROZEN * head * num_logits)
