"""Read a Whisper `model.bin` of CTranslate2 (version 6, float types) into Hugging Face's state dict, bit for bit.

Reads one file; writes nothing. Quantised (int8, int16) files are refused: another source of the same model is exact.

Source: the layout is CTranslate2's binary model format, version 6 (OpenNMT/CTranslate2, model_spec.py).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from uniwhisper.errors import WeightsError
from uniwhisper.weights.binary import Cursor

__all__ = ["ctranslate2_to_hf", "read_ctranslate2", "read_whisper_ctranslate2"]

_VERSION = 6
_SPEC = "WhisperSpec"
_DTYPES = {
    0: torch.float32,
    1: torch.int8,
    2: torch.int16,
    3: torch.int32,
    4: torch.float16,
    5: torch.bfloat16,
}
_MAX_VARIABLES = 100_000

_LAYER_NORM = {"gamma": "weight", "beta": "bias"}
_LAYER_PARTS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_STACKED = {
    "self_attention/linear_0": ("self_attn", "qkv"),
    "self_attention/linear_1": ("self_attn", "o"),
    "attention/linear_0": ("encoder_attn", "q"),
    "attention/linear_1": ("encoder_attn", "kv"),
    "attention/linear_2": ("encoder_attn", "o"),
}
"""CTranslate2 part -> HF attention and the projections that it stacks along the first axis."""
_PROJECTIONS = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "out_proj"}


def read_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Return every variable of a CTranslate2 `model.bin` under its own name; aliases are left out.

    Raises:
        WeightsError: The file is truncated, corrupt, or of another version; the message names the byte.
    """
    cursor = Cursor(path, "CTranslate2 model.bin")
    version = cursor.integer("I", "the version")
    if version != _VERSION:
        raise cursor.fail(f"version {_VERSION}", str(version), 0)
    spec = cursor.text(cursor.integer("H", "a length"), "the model's kind")
    if spec != _SPEC:
        raise cursor.fail(f"a model of kind {_SPEC}", repr(spec), 6)
    cursor.integer("I", "the revision")
    num_variables = cursor.integer("I", "the number of variables")
    if num_variables > _MAX_VARIABLES:
        raise cursor.fail(f"at most {_MAX_VARIABLES} variables", str(num_variables))
    variables = dict(_variable(cursor) for _ in range(num_variables))
    for _ in range(cursor.integer("I", "the number of aliases")):
        for what in ("an alias", "an alias's target"):
            cursor.text(cursor.integer("H", "a length"), what)
    if cursor.num_left:
        raise cursor.fail("the end of the file", f"{cursor.num_left} more bytes")
    return variables


def _variable(cursor: Cursor) -> tuple[str, Tensor]:
    name = cursor.text(cursor.integer("H", "a length"), "a variable's name")
    shape = cursor.shape(cursor.integer("B", f"the rank of {name}"), "I", name)
    code = cursor.integer("B", f"the type of {name}")
    if code not in _DTYPES:
        raise cursor.fail(f"a type of 0 to 5 for {name}", str(code), cursor.offset - 1)
    start = cursor.offset
    num_bytes = cursor.integer("I", f"the size of {name}")
    expected = _DTYPES[code].itemsize * int(torch.Size(shape).numel())
    if num_bytes != expected:
        raise cursor.fail(f"{expected} bytes for {name} of shape {shape}", str(num_bytes), start)
    return name, cursor.tensor(_DTYPES[code], shape, name)


def ctranslate2_to_hf(variables: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Return the Whisper variables under Hugging Face's names (with `model.`), stacked projections split.

    Args:
        variables: What `read_ctranslate2` returned.
        path: Where they came from, for messages.

    Raises:
        WeightsError: A variable is quantised or unknown, or a key projection has a bias (Whisper's has none).
    """
    state: dict[str, Tensor] = {}
    for name, tensor in variables.items():
        side, _, rest = name.partition("/")
        if tensor.ndim == 0 or rest in ("alignment_heads", "alignment_layer"):
            continue  # settings, not weights: heads, activation, norm order
        if not tensor.is_floating_point():
            raise WeightsError(
                f"{path}: expected float weights, found {name} as {tensor.dtype}; quantised files are not read"
            )
        state.update(_named(f"model.{side}", rest, tensor, name, path))
    return state


def _named(side: str, rest: str, tensor: Tensor, name: str, path: Path) -> dict[str, Tensor]:
    stem, _, leaf = rest.rpartition("/")
    leaf = _LAYER_NORM.get(leaf, leaf)
    if rest == "position_encodings/encodings":
        return {f"{side}.embed_positions.weight": tensor}
    if rest == "embeddings/weight":
        return {f"{side}.embed_tokens.weight": tensor}
    if stem in ("conv1", "conv2", "layer_norm"):
        return {f"{side}.{stem}.{leaf}": tensor}
    layer, _, part = stem.partition("/")
    prefix = f"{side}.layers.{layer.removeprefix('layer_')}"
    if layer.startswith("layer_") and part in _LAYER_PARTS:
        return {f"{prefix}.{_LAYER_PARTS[part]}.{leaf}": tensor}
    if layer.startswith("layer_") and part in _STACKED:
        attention, projections = _STACKED[part]
        return _split(f"{prefix}.{attention}", projections, leaf, tensor, name, path)
    raise WeightsError(f"{path}: expected the variables of a Whisper model, found {name}; this is another model")


def _split(prefix: str, projections: str, leaf: str, tensor: Tensor, name: str, path: Path) -> dict[str, Tensor]:
    if tensor.shape[0] % len(projections):
        raise WeightsError(
            f"{path}: expected {name} to stack {len(projections)} projections, found {tuple(tensor.shape)}"
        )
    chunks = dict(zip(projections, tensor.chunk(len(projections)), strict=True))
    if leaf == "bias" and "k" in chunks and chunks.pop("k").any():
        raise WeightsError(f"{path}: expected no bias on the keys in {name}, found one; this is not Whisper")
    return {f"{prefix}.{_PROJECTIONS[key]}.{leaf}": chunk for key, chunk in chunks.items()}


def read_whisper_ctranslate2(path: Path) -> dict[str, Tensor]:
    """Return the Whisper of a CTranslate2 `model.bin` as Hugging Face's state dict.

    Raises:
        WeightsError: The file is corrupt, quantised, or another model.
    """
    return ctranslate2_to_hf(read_ctranslate2(path), path)
