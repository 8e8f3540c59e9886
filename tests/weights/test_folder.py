from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from uniwhisper.errors import WeightsError
from uniwhisper.files import read_json
from uniwhisper.weights.folder import whisper_config, write_whisper

SOURCE = Path("given.bin")


def test_float32_values_that_float16_cannot_hold_are_kept(tmp_path: Path, whisper_state: dict[str, Tensor]) -> None:
    exact, half = "model.encoder.layer_norm.bias", "model.encoder.layer_norm.weight"
    whisper_state[exact] = torch.full((8,), 1 / 3)

    write_whisper(whisper_state, tmp_path, SOURCE)

    state = load_file(tmp_path / "model.safetensors")
    assert torch.equal(state[exact], whisper_state[exact])
    assert state[half].dtype == torch.float16
    assert torch.equal(state[half].float(), whisper_state[half])


def test_sizes_come_from_the_tensors(whisper_state: dict[str, Tensor]) -> None:
    config = whisper_config(whisper_state, SOURCE, 2)
    assert (config["d_model"], config["num_mel_bins"], config["encoder_ffn_dim"]) == (8, 4, 16)
    assert (config["encoder_layers"], config["decoder_layers"], config["encoder_attention_heads"]) == (2, 2, 2)
    assert (config["max_source_positions"], config["max_target_positions"]) == (6, 5)


@pytest.mark.parametrize(("n_vocab", "end"), [(51_864, 50_256), (51_865, 50_257), (51_866, 50_257)])
def test_the_end_token_is_the_published_one(whisper_state: dict[str, Tensor], n_vocab: int, end: int) -> None:
    whisper_state["model.decoder.embed_tokens.weight"] = torch.zeros(1, 8).expand(n_vocab, 8)
    config = whisper_config(whisper_state, SOURCE)
    assert (config["eos_token_id"], config["decoder_start_token_id"]) == (end, end + 1)


def test_a_surplus_tensor_is_refused_and_nothing_is_written(tmp_path: Path, whisper_state: dict[str, Tensor]) -> None:
    whisper_state["model.encoder.layers.0.self_attn.k_proj.bias"] = torch.zeros(8)
    with pytest.raises(WeightsError, match=r"given\.bin.*not Whisper's: .*k_proj\.bias"):
        write_whisper(whisper_state, tmp_path, SOURCE)
    assert list(tmp_path.glob("*.safetensors")) == []


def test_the_feature_extractor_has_the_models_mel_bins(tmp_path: Path, whisper_state: dict[str, Tensor]) -> None:
    write_whisper(whisper_state, tmp_path, SOURCE)
    assert read_json(tmp_path / "preprocessor_config.json")["feature_size"] == 4
