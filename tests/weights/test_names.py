from __future__ import annotations

import pytest
import torch
from transformers import WhisperConfig, WhisperForConditionalGeneration, WhisperModel

from uniwhisper.errors import WeightsError
from uniwhisper.weights import hf_to_openai, openai_to_hf

CONFIG = WhisperConfig(
    d_model=8,
    encoder_layers=3,
    decoder_layers=2,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=16,
    decoder_ffn_dim=16,
    vocab_size=60,
    num_mel_bins=4,
    max_source_positions=6,
    max_target_positions=5,
    pad_token_id=0,
    bos_token_id=0,
    eos_token_id=0,
    decoder_start_token_id=0,
)


def test_openai_names_are_openais() -> None:
    names = set(hf_to_openai(WhisperModel(CONFIG).state_dict()))

    assert {
        "encoder.conv1.weight",
        "encoder.positional_embedding",
        "encoder.blocks.2.attn.key.weight",
        "encoder.blocks.0.attn_ln.bias",
        "encoder.blocks.1.mlp.2.weight",
        "encoder.ln_post.weight",
        "decoder.token_embedding.weight",
        "decoder.positional_embedding",
        "decoder.blocks.1.cross_attn.out.bias",
        "decoder.blocks.1.cross_attn_ln.weight",
        "decoder.blocks.0.mlp_ln.weight",
        "decoder.ln.bias",
    } <= names
    assert "encoder.blocks.0.attn.key.bias" not in names


@pytest.mark.parametrize(("model_class", "prefix"), [(WhisperModel, ""), (WhisperForConditionalGeneration, "model.")])
def test_round_trip_restores_every_name_and_tensor(model_class: type[WhisperModel], prefix: str) -> None:
    state = model_class(CONFIG).state_dict()

    back = openai_to_hf(hf_to_openai(state), prefix=prefix)

    assert set(back) == set(state) - {"proj_out.weight"}
    assert all(torch.equal(back[name], state[name]) for name in back)


def test_an_encoder_alone_is_renamed() -> None:
    state = {"encoder.layers.0.self_attn.q_proj.weight": 1, "encoder.layer_norm.bias": 2}

    assert hf_to_openai(state) == {"encoder.blocks.0.attn.query.weight": 1, "encoder.ln_post.bias": 2}


@pytest.mark.parametrize(
    "name", ["encoder.blocks.0.attn.rotary.weight", "module.encoder.conv1.weight", "encoder.conv1"]
)
def test_unknown_names_are_listed(name: str) -> None:
    with pytest.raises(WeightsError, match=name):
        openai_to_hf({name: 0, "encoder.conv1.weight": 1})


def test_unknown_hf_names_are_listed() -> None:
    with pytest.raises(WeightsError, match=r"Hugging Face's names.*lm_head\.weight"):
        hf_to_openai({"lm_head.weight": 0})
