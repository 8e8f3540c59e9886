"""The frozen LM by name: laid out for transcription, hashed, never changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from uniwhisper.evaluate.asr import tiny_decoder
from uniwhisper.evaluate.asr.config import AsrConfig
from uniwhisper.evaluate.asr.decoders import open_decoder


def test_tiny_decoder_is_the_same_everywhere(config: AsrConfig) -> None:
    first, second = open_decoder(config), open_decoder(config)
    assert first.sha256 == second.sha256
    torch.random.manual_seed(7)  # nothing but its own seed decides
    assert open_decoder(config).sha256 == first.sha256
    other = tiny_decoder(seed=1).lm.state_dict()
    assert not torch.equal(
        other["model.embed_tokens.weight"], first.decoder.lm.state_dict()["model.embed_tokens.weight"]
    )
    text = "The dog, it's in 4 cafés."
    assert first.decoder.tokenizer.decode(first.decoder.encode(text)) == text


def test_separator_falls_back_to_a_special_token(lm_folders: dict[str, Path], config: AsrConfig) -> None:
    tiny = open_decoder(config)
    assert tiny.decoder.tokenizer.convert_ids_to_tokens(tiny.separator) == "<|vision_end|>"
    lm = open_decoder(replace(config, decoder=str(lm_folders["qwen2"])))
    assert lm.separator == lm.decoder.tokenizer.eos_token_id
    named = open_decoder(replace(config, decoder=str(lm_folders["qwen2"]), separator="<|im_start|>"))
    assert named.decoder.tokenizer.convert_ids_to_tokens(named.separator) == "<|im_start|>"


def test_precision_and_layout(lm_folders: dict[str, Path], config: AsrConfig) -> None:
    lm = open_decoder(replace(config, decoder=str(lm_folders["llama"]), precision="bf16"))
    assert {parameter.dtype for parameter in lm.decoder.parameters()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in lm.decoder.parameters())
    assert lm.decoder.dialogue.opening == ()
    assert open_decoder(replace(config, precision="bf16")).decoder.embedding.dtype == torch.bfloat16


def test_hash_is_of_the_weights(lm_folders: dict[str, Path], config: AsrConfig) -> None:
    hashes = {open_decoder(replace(config, decoder=str(folder))).sha256 for folder in lm_folders.values()}
    assert len(hashes) == len(lm_folders)
    assert all(len(digest) == 64 for digest in hashes)
