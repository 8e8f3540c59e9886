"""Whisper's two state-dict vocabularies: openai's and Hugging Face's. The tensors are equal; only names differ.

Works on any part of the model (encoder only, say); nothing is copied and torch is not imported.

Source: openai/whisper@c0d2f62 whisper/model.py; transformers 5 models/whisper/modeling_whisper.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from uniwhisper.errors import WeightsError

__all__ = ["hf_to_openai", "openai_to_hf"]

T = TypeVar("T")

_WHOLE = {
    "encoder.positional_embedding": "encoder.embed_positions.weight",
    "decoder.positional_embedding": "decoder.embed_positions.weight",
    "decoder.token_embedding.weight": "decoder.embed_tokens.weight",
}
"""openai name -> HF name of single tensors."""
_STEMS = {
    "encoder.conv1": "encoder.conv1",
    "encoder.conv2": "encoder.conv2",
    "encoder.ln_post": "encoder.layer_norm",
    "decoder.ln": "decoder.layer_norm",
}
"""openai name -> HF name of parts with a weight and a bias."""
_TOP = _WHOLE | {f"{a}.{leaf}": f"{b}.{leaf}" for a, b in _STEMS.items() for leaf in ("weight", "bias")}

_ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "out_proj"}

_LAYER = {
    "attn_ln": "self_attn_layer_norm",
    "cross_attn_ln": "encoder_attn_layer_norm",
    "mlp.0": "fc1",
    "mlp.2": "fc2",
    "mlp_ln": "final_layer_norm",
    **{f"attn.{ours}": f"self_attn.{theirs}" for ours, theirs in _ATTENTION.items()},
    **{f"cross_attn.{ours}": f"encoder_attn.{theirs}" for ours, theirs in _ATTENTION.items()},
}

_TOP_BACK = {value: key for key, value in _TOP.items()}
_LAYER_BACK = {value: key for key, value in _LAYER.items()}

_OPENAI_LAYER = re.compile(r"(encoder|decoder)\.blocks\.(\d+)\.(.+)\.(weight|bias)")
_HF_LAYER = re.compile(r"(encoder|decoder)\.layers\.(\d+)\.(.+)\.(weight|bias)")

_TIED = "proj_out.weight"
"""HF's output head: the token embedding under a second name."""


def _rename(name: str, top: dict[str, str], layer: dict[str, str], pattern: re.Pattern[str], stack: str) -> str | None:
    """Return `name` in the other vocabulary, or None where it has no such name."""
    if match := pattern.fullmatch(name):
        side, index, part, leaf = match.groups()
        return f"{side}.{stack}.{index}.{layer[part]}.{leaf}" if part in layer else None
    return top.get(name)


def _unknown(names: list[str], vocabulary: str) -> WeightsError:
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return WeightsError(
        f"expected {vocabulary} names of a Whisper state dict, found {shown}; "
        "this is another model, or a state dict wrapped by a trainer (strip its prefix)"
    )


def openai_to_hf(state: Mapping[str, T], *, prefix: str = "model.") -> dict[str, T]:
    """Return the openai state dict under Hugging Face's names.

    Args:
        state: openai name -> tensor (or anything).
        prefix: `model.` for `WhisperForConditionalGeneration`, empty for `WhisperModel`.

    Raises:
        WeightsError: A name is not one of openai's Whisper.
    """
    renamed = {name: _rename(name, _TOP, _LAYER, _OPENAI_LAYER, "layers") for name in state}
    if unknown := [name for name, new in renamed.items() if new is None]:
        raise _unknown(unknown, "openai's")
    return {f"{prefix}{renamed[name]}": tensor for name, tensor in state.items()}


def hf_to_openai(state: Mapping[str, T]) -> dict[str, T]:
    """Return the Hugging Face state dict, with or without `model.` in front, under openai's names.

    `proj_out.weight` is the token embedding under a second name and is left out.

    Raises:
        WeightsError: A name is not one of Hugging Face's Whisper.
    """
    names = [name for name in state if name != _TIED]
    renamed = {
        name: _rename(name.removeprefix("model."), _TOP_BACK, _LAYER_BACK, _HF_LAYER, "blocks") for name in names
    }
    if unknown := [name for name, new in renamed.items() if new is None]:
        raise _unknown(unknown, "Hugging Face's")
    return {new: state[name] for name, new in renamed.items() if new is not None}
