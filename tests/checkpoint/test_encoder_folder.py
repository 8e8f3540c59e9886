from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tiny import randomise
from uniwhisper.checkpoint import encoder_folder, encoder_provenance, load_audio_model, save_audio_model
from uniwhisper.errors import CheckpointError, ManifestError
from uniwhisper.files import is_done, read_json, sha256_file, write_json
from uniwhisper.model.dims import EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.uniwhisper import AudioModel

DIMS = EncoderDims(n_mels=4, n_audio_ctx=6, n_audio_state=8, n_audio_head=2, n_audio_layer=1)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.fixture
def audio_model() -> AudioModel:
    model = AudioModel(AudioEncoder(DIMS))
    randomise(model, 1)
    return model


def test_encoder_folder_goes_there_and_back(tmp_path: Path, audio_model: AudioModel) -> None:
    folder = save_audio_model(tmp_path / "encoder", audio_model, {"steps": 3})
    loaded = load_audio_model(folder)
    assert not loaded.training
    assert loaded.encoder.dims == DIMS
    assert same(dict(loaded.state_dict()), dict(audio_model.state_dict()))
    config = read_json(folder / "config.json")
    assert config["provenance"] == {"steps": 3}
    assert config["hop_ms"] == 40
    assert (folder / "DONE").read_text().strip() == sha256_file(folder / "model.safetensors")


def test_a_kill_while_saving_the_encoder_leaves_no_finished_folder(
    tmp_path: Path, audio_model: AudioModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = save_audio_model(tmp_path, audio_model, {})

    def dies(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(encoder_folder, "write_json", dies)
    with pytest.raises(KeyboardInterrupt):
        save_audio_model(folder, audio_model, {})
    with pytest.raises(CheckpointError, match=r"expected a finished encoder folder .*\(with DONE\), found none"):
        load_audio_model(folder)


def test_folder_of_another_kind_is_refused(tmp_path: Path, audio_model: AudioModel) -> None:
    folder = save_audio_model(tmp_path, audio_model, {})
    write_json(folder / "config.json", read_json(folder / "config.json") | {"format": "something-else"})
    with pytest.raises(CheckpointError, match="expected format 'uniwhisper-encoder', found 'something-else'"):
        load_audio_model(folder)


@pytest.mark.parametrize("change", [{"d_model": 16}, {"encoder_layers": 2}, {"num_mel_bins": 5}])
def test_weights_that_do_not_fit_the_sizes_are_refused(
    tmp_path: Path, audio_model: AudioModel, change: dict[str, int]
) -> None:
    folder = save_audio_model(tmp_path, audio_model, {})
    write_json(folder / "config.json", read_json(folder / "config.json") | change)
    with pytest.raises(CheckpointError, match=r"does not fit its config\.json"):
        load_audio_model(folder)


def test_changed_encoder_weights_are_refused(tmp_path: Path, audio_model: AudioModel) -> None:
    folder = save_audio_model(tmp_path, audio_model, {})
    state = load_file(folder / "model.safetensors")
    state["encoder.conv1.weight"] += 1
    save_file(state, folder / "model.safetensors")
    with pytest.raises(CheckpointError):
        load_audio_model(folder)


def test_weights_cut_after_they_were_sealed_are_refused(tmp_path: Path, audio_model: AudioModel) -> None:
    folder = save_audio_model(tmp_path, audio_model, {})
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    (folder / "DONE").write_text(sha256_file(weights))
    assert is_done(folder, sha256_file(weights))
    with pytest.raises(CheckpointError, match=r"expected safetensors at .*model\.safetensors, found"):
        load_audio_model(folder)


def test_provenance_is_given_back(tmp_path: Path, audio_model: AudioModel) -> None:
    folder = save_audio_model(tmp_path, audio_model, {"mixture": {"bells": 1.0}})
    assert encoder_provenance(folder) == {"mixture": {"bells": 1.0}}
    with pytest.raises(ManifestError, match=r"config\.json"):
        encoder_provenance(tmp_path / "nothing")
