"""Write a folder in the hub's layout from converted weights, and check a folder that somebody else wrote.

Writes config.json, model.safetensors, preprocessor_config.json and generation_config.json; copies nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from uniwhisper.errors import WeightsError
from uniwhisper.files import read_json, write_json

__all__ = ["whisper_config", "write_generation_config", "write_model", "write_whisper"]

_NUM_SPECIALS = 1608
"""Rows of the embedding from `<|endoftext|>` on: 99 languages, 1501 timestamps, 8 others."""
_LARGE_V3_N_VOCAB = 51_866
"""large-v3 and its turbo have one language more."""
_HEAD_WIDTH = 64
"""Every Whisper has 64 channels a head."""
_FEATURE_EXTRACTOR = {
    "chunk_length": 30,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 480_000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "processor_class": "WhisperProcessor",
    "return_attention_mask": False,
    "sampling_rate": 16_000,
}
"""Source: preprocessor_config.json of openai/whisper-base on the hub."""


def write_model(state: dict[str, Tensor], config: dict[str, Any], folder: Path) -> None:
    """Write `model.safetensors` and `config.json`."""
    contiguous = {name: tensor.contiguous() for name, tensor in state.items()}
    path = folder / "model.safetensors"
    save_file(contiguous, path, metadata={"format": "pt"})
    path.chmod(0o644)  # safetensors makes 0600
    write_json(folder / "config.json", {key: value for key, value in config.items() if value is not None})


def whisper_config(state: dict[str, Tensor], source: Path, n_head: int | None = None) -> dict[str, Any]:
    """Return Hugging Face's WhisperConfig for a state dict, every size read from the tensors themselves.

    Args:
        state: HF name (with `model.`) -> tensor.
        source: Where the tensors came from, for messages.
        n_head: Attention heads; by default one for every 64 channels, as in all published sizes.

    Raises:
        WeightsError: A tensor is missing or a size does not fit.
    """
    sizes = _sizes(state, source)
    n_head = n_head or max(1, sizes["d_model"] // _HEAD_WIDTH)
    end = sizes["vocab_size"] - _NUM_SPECIALS - (sizes["vocab_size"] == _LARGE_V3_N_VOCAB)
    return {
        "architectures": ["WhisperForConditionalGeneration"],
        "model_type": "whisper",
        "is_encoder_decoder": True,
        "activation_function": "gelu",
        **sizes,
        "num_hidden_layers": sizes["encoder_layers"],
        "encoder_attention_heads": n_head,
        "decoder_attention_heads": n_head,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "decoder_start_token_id": end + 1,
        "tie_word_embeddings": True,
        "torch_dtype": "float32",  # fp16 on disk loses no bit; models still load in fp32, as the hub's do
    }


def _sizes(state: dict[str, Tensor], source: Path) -> dict[str, int]:
    try:
        width, n_mels, _ = state["model.encoder.conv1.weight"].shape
        n_audio_ctx = state["model.encoder.embed_positions.weight"].shape[0]
        n_text_ctx = state["model.decoder.embed_positions.weight"].shape[0]
        n_vocab = state["model.decoder.embed_tokens.weight"].shape[0]
        ffn_width = state["model.encoder.layers.0.fc1.weight"].shape[0]
        n_layer = {side: _num_layers(state, f"model.{side}.layers.") for side in ("encoder", "decoder")}
    except (KeyError, ValueError) as e:
        raise WeightsError(f"{source}: expected the tensors of a whole Whisper model, found no usable {e}") from e
    return {
        "d_model": width,
        "encoder_layers": n_layer["encoder"],
        "decoder_layers": n_layer["decoder"],
        "encoder_ffn_dim": ffn_width,
        "decoder_ffn_dim": ffn_width,
        "num_mel_bins": n_mels,
        "max_source_positions": n_audio_ctx,
        "max_target_positions": n_text_ctx,
        "vocab_size": n_vocab,
    }


def _num_layers(state: dict[str, Tensor], prefix: str) -> int:
    return 1 + max(int(name.removeprefix(prefix).partition(".")[0]) for name in state if name.startswith(prefix))


def write_whisper(state: dict[str, Tensor], folder: Path, source: Path, n_head: int | None = None) -> None:
    """Write a Whisper in the hub's layout: weights, config, feature extractor and generation settings.

    Tensors that float16 holds exactly are stored so (Whisper was published in float16); the others keep their type.

    Raises:
        WeightsError: The state dict is not a whole Whisper; missing and surplus names are listed.
    """
    config = whisper_config(state, source, n_head)
    _check_names(state, config, source)
    write_model({name: _compact(tensor) for name, tensor in state.items()}, config, folder)
    write_json(folder / "preprocessor_config.json", {"feature_size": config["num_mel_bins"], **_FEATURE_EXTRACTOR})


def write_generation_config(folder: Path, suppress: list[int] | None = None, begin: list[int] | None = None) -> None:
    """Write `generation_config.json`: languages and tasks as token ids, read from the folder's tokenizer.json.

    Args:
        folder: A Whisper folder with config.json and tokenizer.json.
        suppress: Tokens never generated (those that are not speech).
        begin: Tokens never generated first.
    """
    config, tokenizer = read_json(folder / "config.json"), read_json(folder / "tokenizer.json")
    ids = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
    start, translate = ids["<|startoftranscript|>"], ids["<|translate|>"]
    values: dict[str, Any] = {
        **{key: config[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id")},
        "is_multilingual": True,
        "lang_to_id": {name: i for name, i in ids.items() if start < i < translate},
        "task_to_id": {"transcribe": ids["<|transcribe|>"], "translate": translate},
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "prev_sot_token_id": ids["<|startofprev|>"],
        "max_initial_timestamp_index": 50,
        "max_length": config["max_target_positions"],
        "return_timestamps": False,
    }
    if suppress:
        values["suppress_tokens"] = suppress
    if begin:
        values["begin_suppress_tokens"] = begin
    write_json(folder / "generation_config.json", values)


def _compact(tensor: Tensor) -> Tensor:
    half = tensor.to(torch.float16)
    return half if torch.equal(half.to(tensor.dtype), tensor) else tensor


def _check_names(state: dict[str, Tensor], config: dict[str, Any], source: Path) -> None:
    expected = {"model.decoder.embed_tokens.weight"}
    for side in ("encoder", "decoder"):
        prefix = f"model.{side}"
        expected |= {f"{prefix}.embed_positions.weight", *_affine(f"{prefix}.layer_norm")}
        attentions = {"encoder": ("self_attn",), "decoder": ("self_attn", "encoder_attn")}[side]
        for i in range(config[f"{side}_layers"]):
            layer = f"{prefix}.layers.{i}"
            parts = ["fc1", "fc2", "final_layer_norm", *(f"{attention}_layer_norm" for attention in attentions)]
            parts += [f"{attention}.{p}_proj" for attention in attentions for p in ("q", "v", "out")]
            expected |= {name for part in parts for name in _affine(f"{layer}.{part}")}
            expected |= {f"{layer}.{attention}.k_proj.weight" for attention in attentions}
    expected |= {*_affine("model.encoder.conv1"), *_affine("model.encoder.conv2")}
    missing, surplus = sorted(expected - state.keys()), sorted(state.keys() - expected)
    if missing or surplus:
        raise WeightsError(
            f"{source}: expected the {len(expected)} tensors of a Whisper of these sizes; "
            f"missing: {missing[:5] or 'none'}, not Whisper's: {surplus[:5] or 'none'}"
        )


def _affine(name: str) -> tuple[str, str]:
    return f"{name}.weight", f"{name}.bias"
