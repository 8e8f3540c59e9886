"""Builders of tiny random models, a tokenizer, waves and clips: everything that tests would otherwise download.

Every parameter is random, biases and norms too, and large enough that a wrong mask, position or bias shows in the
result; the positions of the Whisper encoder are its own sinusoids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import nn
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    WhisperConfig,
    WhisperModel,
)

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.types import Annotation, Clip

CHAT_TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "<|im_start|>system\nBe brief.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, as SmolLM2 and Qwen spell it: a system turn is made up where the conversation has none."""

_MERGES = [("t", "h"), ("th", "e"), ("o", "g"), ("d", "og"), ("Ġ", "the")]
_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


def randomise(module: nn.Module, seed: int, *, scale: float = 0.12) -> None:
    """Make every parameter random in place: matrices of spread `scale`, vectors around where they stand."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("embed_positions.weight"):
                continue
            noise = torch.randn(parameter.shape, generator=generator) * scale
            parameter.copy_(noise if parameter.ndim > 1 else parameter + noise)


def tiny_whisper(
    folder: Path,
    *,
    n_mels: int = 80,
    layers: int = 2,
    width: int = 64,
    heads: int = 4,
    seed: int = 0,
    n_audio_ctx: int = 1500,
) -> Path:
    """Write a random Whisper in the hub's layout and return its folder."""
    config = WhisperConfig(
        num_mel_bins=n_mels,
        d_model=width,
        encoder_layers=layers,
        encoder_attention_heads=heads,
        encoder_ffn_dim=4 * width,
        max_source_positions=n_audio_ctx,
        decoder_layers=1,
        decoder_attention_heads=heads,
        decoder_ffn_dim=width,
        max_target_positions=8,
        vocab_size=16,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
        decoder_start_token_id=2,
    )
    model = WhisperModel(config)
    randomise(model, seed)
    model.save_pretrained(folder)
    return folder


def tiny_tokenizer(*, chat: bool = False, pad: bool = True) -> PreTrainedTokenizerFast:
    """Return a byte-level BPE tokenizer of 256 bytes, a few merges and the special tokens; it reads any text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*_SPECIALS, *alphabet, *(left + right for left, right in _MERGES)]
    if pad:
        pieces.append("<|pad|>")
    backend = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=_MERGES))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    names: dict[str, Any] = {"eos_token": "<|endoftext|>", "extra_special_tokens": list(_SPECIALS[1:])}
    if pad:
        names["pad_token"] = "<|pad|>"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, **names)
    if chat:
        tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def tiny_lm(
    folder: Path,
    *,
    kind: str = "llama",
    chat: bool = False,
    pad: bool = True,
    width: int = 32,
    layers: int = 2,
    seed: int = 1,
    scale: float = 0.12,
) -> Path:
    """Write a random causal LM with its tokenizer in the hub's layout and return its folder.

    Args:
        folder: Where to write.
        kind: `llama` (grouped queries, tied head), `qwen2` (biases on queries, keys and values), `qwen3` (norms on
            queries and keys, heads that are together wider than the model, untied head) or `gpt2` (learned positions).
        chat: Give the tokenizer a chat template.
        pad: Give the tokenizer a pad token.
        width: Width of the embeddings.
        layers: Transformer layers.
        seed: Fixes the weights.
        scale: Spread of the weights; a larger one makes answers that can be learnt through the frozen LM.
    """
    tokenizer = tiny_tokenizer(chat=chat, pad=pad)
    shared: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    grouped: dict[str, Any] = {
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 2048,
    }
    if kind == "llama":
        model: nn.Module = LlamaForCausalLM(LlamaConfig(**shared, **grouped, tie_word_embeddings=True))
    elif kind == "qwen2":
        model = Qwen2ForCausalLM(Qwen2Config(**shared, **grouped, tie_word_embeddings=True))
    elif kind == "qwen3":
        model = Qwen3ForCausalLM(Qwen3Config(**shared, **grouped, head_dim=16, tie_word_embeddings=False))
    elif kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(**shared, n_embd=width, n_layer=layers, n_head=4, n_positions=1024))
    else:
        raise ValueError(f"expected llama, qwen2, qwen3 or gpt2, found {kind!r}")
    randomise(model, seed, scale=scale)
    model.save_pretrained(folder)  # type: ignore[operator]
    tokenizer.save_pretrained(folder)
    return folder


def tone(duration_s: float, hz: float, *, seed: int = 0, noise: float = 0.02) -> np.ndarray:
    """Return a decaying tone in noise, float32 at 16 kHz: no two seeds give the same samples."""
    times = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    wave = 0.4 * np.sin(2 * np.pi * hz * times) * np.exp(-times)
    return (wave + noise * np.random.default_rng(seed).standard_normal(len(times))).astype(np.float32)


def tiny_clips(folder: Path, *, sizes: Sequence[tuple[str, int]] = (("bells", 6), ("talk", 4))) -> list[Clip]:
    """Write wave files and return their clips: sources named `talk...` carry transcripts, all others labels."""
    folder.mkdir(parents=True, exist_ok=True)
    clips: list[Clip] = []
    for source, size in sizes:
        for number in range(size):
            duration_s = 0.3 + 0.13 * ((number * 5) % 4)
            path = folder / f"{source}-{number}.wav"
            soundfile.write(path, tone(duration_s, 200 + 90 * number, seed=number), SAMPLE_RATE, subtype="PCM_16")
            speech = source.startswith("talk")
            words = ("the dog", "oh no", "go on", "the end")[number % 4]
            label = ("dog", "bell", "rain")[number % 3]
            note = Annotation(transcript=words) if speech else Annotation(labels=(label,), label_set="kinds")
            clips.append(
                Clip(
                    id=f"{source}-{number}",
                    source=source,
                    path=str(path),
                    split="train",
                    duration_s=duration_s,
                    domain="speech" if speech else "sound",
                    annotation=note,
                )
            )
    return clips
