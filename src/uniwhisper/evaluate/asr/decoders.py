"""The frozen LM of the ASR probe by name, with a hash of its weights; `tiny` is built here and needs no file."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from uniwhisper.evaluate.asr.config import AsrConfig
from uniwhisper.files import content_hash, sha256_file
from uniwhisper.model.decoder import Decoder, Dialogue, load_decoder
from uniwhisper.weights import resolve

__all__ = ["TINY_NAME", "FrozenLM", "open_decoder", "tiny_decoder"]

TINY_NAME = "tiny"
_END, _SEPARATOR = "<|endoftext|>", "<|vision_end|>"


@dataclass(frozen=True, kw_only=True, slots=True)
class FrozenLM:
    """A decoder laid out for transcription: audio, separator, transcript, end."""

    name: str
    sha256: str
    """Of the weights as they are stored."""
    decoder: Decoder
    separator: int
    """Token id between audio and transcript."""
    end: int
    """Token id that ends a transcript."""


def open_decoder(
    config: AsrConfig, *, device: str = "cpu", notify: Callable[[str], None] = lambda line: None
) -> FrozenLM:
    """Return the LM that `config` names, on `device`, with nothing around the audio but the separator.

    Args:
        config: Names the LM, its precision and the separator.
        device: Where it computes.
        notify: Called with one line before each download.

    Raises:
        WeightsError: The LM is nowhere to be had, or cannot be packed.
    """
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    if config.decoder == TINY_NAME:
        decoder, digest = tiny_decoder(), ""
        digest = _state_hash(decoder)
        if dtype != torch.float32:
            decoder = Decoder(decoder.lm.to(dtype), decoder.tokenizer)
    else:
        folder = resolve(config.decoder, notify)
        decoder, digest = load_decoder(folder, dtype=dtype), _folder_hash(folder)
    end = decoder.tokenizer.eos_token_id
    # An instruction-tuned LM's chat turns would cost positions in every example; the probe learns what to say anyway.
    decoder.dialogue = Dialogue(opening=(), middle=(), closing=(end,))
    return FrozenLM(
        name=config.decoder,
        sha256=digest,
        decoder=decoder.to(device),
        separator=_separator(decoder, config.separator),
        end=end,
    )


def tiny_decoder(*, seed: int = 0) -> Decoder:
    """Return a random two-layer Llama-type LM over bytes: the whole line of the probe without a download."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    pieces = [_END, _SEPARATOR, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    backend = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token=_END, pad_token=_END, extra_special_tokens=[_SEPARATOR]
    )
    lm = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(pieces),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
        )
    )
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in lm.parameters():
            if parameter.ndim > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return Decoder(lm, tokenizer)


def _separator(decoder: Decoder, wanted: str) -> int:
    """Return the id of the wanted token, or of a special token that stands at the start of the LM's own texts."""
    tokenizer = decoder.tokenizer
    found = tokenizer.convert_tokens_to_ids(wanted)
    if isinstance(found, int) and found != tokenizer.unk_token_id:
        return found
    return tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id


def _folder_hash(folder: Path) -> str:
    """Return the hash of the weight files; of several the hash of their hashes."""
    hashes = [sha256_file(path) for path in sorted(folder.glob("*.safetensors"))]
    return hashes[0] if len(hashes) == 1 else content_hash(hashes)


def _state_hash(decoder: Decoder) -> str:
    hasher = hashlib.sha256()
    for name, value in sorted(decoder.lm.state_dict().items()):
        hasher.update(name.encode())
        hasher.update(value.contiguous().numpy().tobytes())
    return hasher.hexdigest()
