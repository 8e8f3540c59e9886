"""Whisper and encoders of ours behind the registry: what is claimed, and what is said of their training."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from uniwhisper import embed
from uniwhisper.checkpoint import save_audio_model
from uniwhisper.encoders import load_encoder, whisper
from uniwhisper.errors import CheckpointError
from uniwhisper.model.encoder import load_encoder as load_audio_encoder
from uniwhisper.model.uniwhisper import AudioModel

from .small import noise

ModelOf = Callable[[str], Path]


def test_frames_are_those_of_embed(model_of: ModelOf) -> None:
    folder, wave = str(model_of("whisper")), noise(30_000, 1)
    for frames, hop_ms in (("subsampled", 40.0), ("encoder", 20.0)):
        ours, theirs = load_encoder(folder, frames=frames), embed.load(folder, frames=frames)
        assert ours.hop_ms == hop_ms
        assert ours.fingerprint == theirs.fingerprint
        np.testing.assert_array_equal(ours.frames([wave])[0], theirs.frames([wave])[0])


def test_a_trained_encoder_names_what_it_was_trained_on(model_of: ModelOf, tmp_path: Path) -> None:
    model = AudioModel(load_audio_encoder(model_of("whisper")))
    run = tmp_path / "run"
    save_audio_model(run / "encoder", model, {"mixture": {"clotho": 0.4, "audioset": 0.6, "esc50": 0.0}})
    assert whisper.claims(str(run))
    for name in (run, run / "encoder"):
        encoder = load_encoder(str(name))
        assert encoder.trained_on == ("audioset", "clotho")  # type: ignore[attr-defined]
        assert encoder.training_known is False  # type: ignore[attr-defined]


def test_an_unfinished_run_is_recognised_and_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"key": "k", "config": {}}))
    with pytest.raises(CheckpointError, match="found one without an encoder"):
        load_encoder(str(tmp_path))


def test_openai_files_are_told_from_other_checkpoints(tmp_path: Path) -> None:
    torch.save({"dims": {}, "model_state_dict": {}}, tmp_path / "small.pt")
    torch.save({"cfg": {}, "model": {}}, tmp_path / "other.pt")
    assert whisper.claims(str(tmp_path / "small.pt"))
    assert not whisper.claims(str(tmp_path / "other.pt"))
    assert whisper.claims("openai/whisper-large")
    assert not whisper.claims("whisper-gigantic")
