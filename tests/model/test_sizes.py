"""Sizes by name: the table agrees with what publishers state, and files of this machine come first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tiny import tiny_lm, tiny_whisper
from uniwhisper.errors import WeightsError
from uniwhisper.model.dims import AdapterConfig
from uniwhisper.model.sizes import ENCODERS, LMS, find_encoder_dims, find_lm_dims
from uniwhisper.train.memory import count_parameters
from uniwhisper.weights import available


def test_every_registered_model_is_in_the_table() -> None:
    for model in available():
        assert model.hub_id in (ENCODERS if model.kind == "whisper" else LMS), model.name


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("SmolLM2-135M-Instruct", 134.5),
        ("SmolLM2-360M-Instruct", 361.8),
        ("SmolLM2-1.7B-Instruct", 1711.4),
        ("Qwen2.5-0.5B-Instruct", 494.0),
        ("Qwen2.5-1.5B-Instruct", 1543.7),
        ("Qwen3-0.6B", 596.05),
        ("Qwen3-1.7B", 1720.6),
    ],
)
def test_sums_are_those_of_the_model_cards(name: str, millions: float) -> None:
    found = next(dims for hub_id, dims in LMS.items() if hub_id.endswith("/" + name))
    assert found.parameters / 1e6 == pytest.approx(millions, rel=0.002)


@pytest.mark.parametrize(
    ("name", "millions"), [("tiny", 8.21), ("base", 20.59), ("small", 88.15), ("medium", 307.22), ("large-v3", 636.97)]
)
def test_encoders_have_whispers_sizes(name: str, millions: float) -> None:
    lm = LMS["Qwen/Qwen3-0.6B"]
    found = count_parameters(ENCODERS[f"openai/whisper-{name}"], AdapterConfig(), lm)
    assert found.encoder / 1e6 == pytest.approx(millions, abs=0.01)


def test_names_and_hub_ids_are_the_same() -> None:
    assert find_encoder_dims("whisper-large-v3") == find_encoder_dims("openai/whisper-large-v3")
    assert find_lm_dims("qwen3-0.6b") == LMS["Qwen/Qwen3-0.6B"]


def test_a_folder_is_read(tmp_path: Path) -> None:
    assert find_encoder_dims(str(tiny_whisper(tmp_path / "a", width=32, heads=2))).n_audio_state == 32
    assert find_lm_dims(str(tiny_lm(tmp_path / "b", width=64))).width == 64


def test_a_configuration_without_weights_is_enough(tmp_path: Path) -> None:
    sizes = {"model_type": "gpt2", "n_layer": 2, "n_embd": 8, "n_head": 2, "vocab_size": 10}
    (tmp_path / "config.json").write_text(json.dumps(sizes))
    assert find_lm_dims(str(tmp_path)).hidden == 32


@pytest.mark.parametrize("find", [find_encoder_dims, find_lm_dims])
def test_unknown_names_say_what_is_known(find: object) -> None:
    known = "openai/whisper-base" if find is find_encoder_dims else "Qwen/Qwen3-0.6B"
    with pytest.raises(WeightsError, match=f"sizes of 'someone/model'.*{known}.*Nothing is fetched"):
        find("someone/model")  # type: ignore[operator]
