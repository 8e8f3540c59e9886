from __future__ import annotations

from pathlib import Path

import pytest

from tiny import tiny_whisper
from uniwhisper.errors import ConfigError, WeightsError
from uniwhisper.files import read_json, write_json
from uniwhisper.model.dims import AdapterConfig, EncoderDims, read_encoder_dims

SIZES = {"n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 64, "n_audio_head": 4, "n_audio_layer": 2}


def test_sizes_come_from_the_hub_config_and_go_back(tmp_path: Path) -> None:
    folder = tiny_whisper(tmp_path, n_mels=128, layers=3, width=48, heads=6, n_audio_ctx=20)
    dims = read_encoder_dims(folder)
    assert dims == EncoderDims(n_mels=128, n_audio_ctx=20, n_audio_state=48, n_audio_head=6, n_audio_layer=3)
    hub = read_json(folder / "config.json")
    assert dims.to_hub() == {name: hub[name] for name in dims.to_hub()}


def test_config_of_another_model_is_refused_by_name(tmp_path: Path) -> None:
    write_json(tmp_path / "config.json", {"d_model": 64})
    with pytest.raises(WeightsError, match=r"num_mel_bins.*another kind of model"):
        read_encoder_dims(tmp_path)


def test_other_feed_forward_width_is_refused(tmp_path: Path) -> None:
    folder = tiny_whisper(tmp_path, n_audio_ctx=4)
    write_json(folder / "config.json", read_json(folder / "config.json") | {"encoder_ffn_dim": 100})
    with pytest.raises(WeightsError, match=r"encoder_ffn_dim = 4 x d_model.*found 100"):
        read_encoder_dims(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_mels": 0}, "n_mels >= 1, found 0"),
        ({"n_audio_layer": -1}, "n_audio_layer >= 1, found -1"),
        ({"n_audio_head": 5}, "found 64 / 5"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EncoderDims(**(SIZES | change))


@pytest.mark.parametrize("change", [{"reduction": 0}, {"hidden": 0}])
def test_impossible_adapters_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="adapter: expected"):
        AdapterConfig(**change)
