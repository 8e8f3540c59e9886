"""Read a GGUF language model (llama or qwen2 layout, any quantisation) into Hugging Face's state dict and config.

Reads one file with the `gguf` package (extra `uniwhisper[gguf]`); writes nothing. Weights are dequantised in float32
and stored as bfloat16, the type that these models were published in: its rounding (2^-9) is some thirty times finer
than the step of a 4-bit block, and unlike float16 it cannot overflow in training.

Source: ggml-org/llama.cpp gguf-py constants and convert_hf_to_gguf.py (tensor names; the row order of q and k).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniwhisper.errors import WeightsError

__all__ = ["GgufModel", "read_gguf"]

_TOP = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_PARTS = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BLOCK = re.compile(r"blk\.(\d+)\.(\w+)\.(weight|bias)")
_ARCHITECTURES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM"}
_SAME_MATRIX = 0.3
"""Relative difference below which two matrices are one, quantised twice; two 4-bit quantisations differ by 0.1."""
_COMPUTED = frozenset({"rope_freqs.weight"})
"""Tensors that Hugging Face's models compute themselves."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufModel:
    """A GGUF file in Hugging Face's terms."""

    state: dict[str, Tensor]
    """HF name -> bfloat16 tensor; `lm_head.weight` is absent where it is tied."""
    config: dict[str, Any]
    """`config.json` of the model."""
    fields: dict[str, Any]
    """Every metadata field of the file under its own name."""


def read_gguf(path: Path) -> GgufModel:
    """Return the model in a GGUF file.

    Some writers store the output matrix beside the embedding although the published model ties the two (qwen2.5 up
    to 3B): the same matrix quantised twice. That is seen in the values, and the finer one then serves as both.

    Raises:
        WeightsError: The `gguf` package is missing, or the file is corrupt or of another layout.
    """
    gguf, fields, tensors = _open(path)
    architecture = str(fields.get("general.architecture"))
    if architecture not in _ARCHITECTURES:
        raise WeightsError(f"{path}: expected a GGUF of {' or '.join(_ARCHITECTURES)}, found {architecture!r}")
    try:
        config = _config(fields, architecture, tensors)
    except (KeyError, TypeError, ZeroDivisionError) as e:
        raise WeightsError(f"{path}: expected the metadata of a {architecture} model, found no usable {e}") from e
    state: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name in _COMPUTED:
            continue
        values = torch.from_numpy(gguf.dequantize(tensor.data, tensor.tensor_type).copy())
        new = _hf_name(name, path)
        if architecture == "llama" and re.search(r"\.(q|k)_proj\.", new):
            heads = config["num_attention_heads" if ".q_proj." in new else "num_key_value_heads"]
            values = _unpermute(values, heads)
        state[new] = values.to(torch.bfloat16)
    config["tie_word_embeddings"] = _tie(state, tensors)
    return GgufModel(state=state, config=config, fields=fields)


def _open(path: Path) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Return the gguf package, the file's metadata, and its tensors by name."""
    try:
        import gguf
    except ImportError as e:
        raise WeightsError(
            f"expected the gguf package to read {path}, found none; pip install 'uniwhisper[gguf]'"
        ) from e
    size_bytes = path.stat().st_size
    try:
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
    except Exception as e:  # the package raises whatever the broken bytes lead to
        raise WeightsError(
            f"{path}: expected a valid GGUF file, found {type(e).__name__} ({e}) somewhere before byte {size_bytes}, "
            "its end. The file is truncated or corrupt; delete it and fetch it again"
        ) from e
    return gguf, fields, {tensor.name: tensor for tensor in reader.tensors}


def _hf_name(name: str, path: Path) -> str:
    if name in _TOP:
        return _TOP[name]
    match = _BLOCK.fullmatch(name)
    if match and match[2] in _PARTS:
        return f"model.layers.{match[1]}.{_PARTS[match[2]]}.{match[3]}"
    raise WeightsError(f"{path}: expected the tensors of a llama or qwen2 model, found {name}")


def _unpermute(values: Tensor, num_heads: int) -> Tensor:
    """Return q or k rows in Hugging Face's order: llama.cpp pairs neighbours for the rotation, HF pairs halves."""
    half = values.shape[0] // num_heads // 2
    return values.reshape(num_heads, half, 2, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)


def _tie(state: dict[str, Tensor], tensors: dict[str, Any]) -> bool:
    """Drop an output matrix that is the embedding again, keeping the finer of the two; return whether they are tied."""
    if "lm_head.weight" not in state:
        return True
    embedding, head = state["model.embed_tokens.weight"], state["lm_head.weight"]
    if embedding.shape != head.shape:
        return False
    rows = slice(0, None, max(1, len(head) // 1000))  # a thousand rows tell: unrelated matrices differ by about 1.4
    difference = (embedding[rows].float() - head[rows].float()).norm() / embedding[rows].float().norm()
    if not difference < _SAME_MATRIX:
        return False
    del state["lm_head.weight"]
    if tensors["output.weight"].n_bytes > tensors["token_embd.weight"].n_bytes:
        state["model.embed_tokens.weight"] = head
    return True


def _config(fields: dict[str, Any], architecture: str, tensors: dict[str, Any]) -> dict[str, Any]:
    def get(name: str) -> Any:
        return fields[f"{architecture}.{name}"]

    width, heads = get("embedding_length"), get("attention.head_count")
    embedding = tensors["token_embd.weight"]
    config: dict[str, Any] = {
        "architectures": [_ARCHITECTURES[architecture]],
        "model_type": architecture,
        "vocab_size": int(embedding.shape[-1]),
        "hidden_size": width,
        "intermediate_size": get("feed_forward_length"),
        "num_hidden_layers": get("block_count"),
        "num_attention_heads": heads,
        "num_key_value_heads": fields.get(f"{architecture}.attention.head_count_kv", heads),
        "hidden_act": "silu",
        "max_position_embeddings": get("context_length"),
        "rms_norm_eps": round(float(get("attention.layer_norm_rms_epsilon")), 12),
        "rope_theta": float(fields.get(f"{architecture}.rope.freq_base", 10_000.0)),
        "bos_token_id": fields.get("tokenizer.ggml.bos_token_id"),
        "eos_token_id": fields.get("tokenizer.ggml.eos_token_id"),
        "pad_token_id": fields.get("tokenizer.ggml.padding_token_id"),
        "torch_dtype": "bfloat16",
        "use_cache": True,
    }
    if architecture == "llama":
        config |= {"attention_bias": False, "mlp_bias": False, "head_dim": width // heads}
    return config
