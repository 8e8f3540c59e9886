from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tiny import tone
from uniwhisper.embed import AudioEmbedder
from uniwhisper.encoders import load_encoder
from uniwhisper.errors import EncoderError
from uniwhisper.exports import hear

from .conftest import Export


@pytest.mark.parametrize(("length_s", "count"), [(1.07, 27), (1.98, 50), (4.0, 100), (0.01, 1), (70.0, 1750)])
def test_timestamps_are_centres_within_the_clip(export: Export, length_s: float, count: int) -> None:
    module = export("hear")
    model = module.load_model()
    audio = torch.rand(2, int(length_s * model.sample_rate)) * 2 - 1
    frames, times_ms = module.get_timestamp_embeddings(audio, model)
    assert frames.shape == (2, count, model.timestamp_embedding_size)
    assert frames.dtype == torch.float32
    assert times_ms.shape == (2, count)
    assert times_ms.max() <= 1000 * length_s
    if count > 1:
        assert times_ms[0, :2].tolist() == [20.0, 60.0]
        assert (times_ms.diff(dim=1) == 40.0).all()


def test_a_last_frame_centred_after_the_end_counts_for_the_scene_alone(export: Export, embedder: AudioEmbedder) -> None:
    module = export("hear")
    model = module.load_model()
    wave = tone(1.01, 300)
    (expected,) = embedder.frames([wave])
    assert len(expected) == 26
    frames, _ = module.get_timestamp_embeddings(torch.from_numpy(wave)[None], model)
    np.testing.assert_allclose(frames[0].numpy(), expected[:25], rtol=0, atol=1e-5)
    scene = module.get_scene_embeddings(torch.from_numpy(wave)[None], model)
    assert scene.dtype == torch.float32
    np.testing.assert_allclose(scene[0].numpy(), expected.mean(axis=0), rtol=0, atol=1e-5)


def test_the_attributes_that_hear_reads(export: Export) -> None:
    model = export("hear").load_model()
    assert isinstance(model, torch.nn.Module)
    assert model.sample_rate == 16_000
    assert model.scene_embedding_size == model.timestamp_embedding_size == 32
    assert type(model.scene_embedding_size) is int


def test_a_weights_file_names_another_encoder(export: Export, whisper: Path) -> None:
    module = export("hear", "log-mel")
    assert module.load_model().scene_embedding_size == 160
    assert module.load_model(str(whisper)).scene_embedding_size == 32


def test_the_module_comes_back_as_an_encoder_of_ours(export: Export, embedder: AudioEmbedder) -> None:
    encoder = load_encoder(f"hear:{export('hear').__name__}")
    assert encoder.hop_ms == 40.0
    wave = tone(1.0, 300)
    np.testing.assert_allclose(encoder.frames([wave])[0], embedder.frames([wave])[0], rtol=0, atol=1e-5)


def test_a_rate_that_hear_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(model: str, device: Any) -> Any:
        return SimpleNamespace(sample_rate=8_000, dim=4, hop_ms=40.0, name=model)

    monkeypatch.setattr(hear, "open_encoder", odd)
    with pytest.raises(EncoderError, match=r"HEAR: expected a sample rate out of .* found 8000"):
        hear.HearModule("odd")
