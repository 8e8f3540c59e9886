from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from tiny import tiny_whisper, tone
from uniwhisper.embed import AudioEmbedder
from uniwhisper.encoders import load_encoder
from uniwhisper.errors import AudioError, ConfigError, EncoderError
from uniwhisper.exports import write_export

from .conftest import Export


def names(module: object) -> list[str]:
    return [name for name in dir(module) if name.endswith("Encoder")]


def test_the_file_holds_what_x_ares_asks_for(export: Export, embedder: AudioEmbedder) -> None:
    module = export("xares")
    (name,) = names(module)
    encoder = getattr(module, name)()
    assert isinstance(encoder, torch.nn.Module)
    assert (encoder.sampling_rate, encoder.output_dim, encoder.hop_size_in_ms) == (16_000, 32, 40.0)
    noise = torch.randn(2, 50_000, generator=torch.Generator().manual_seed(0))
    assert noise.abs().max() > 4, "the checker's noise is beyond what our reader accepts"
    frames = encoder.to("cpu")(noise)
    assert frames.shape == (2, 79, 32)
    assert frames.dtype == torch.float32
    expected = embedder.frames(list(noise.clamp(-1, 1).numpy()))
    np.testing.assert_allclose(frames.numpy(), np.stack(expected), rtol=0, atol=1e-5)


def test_one_clip_without_a_batch_and_more_than_a_window(export: Export) -> None:
    module = export("xares")
    encoder = getattr(module, names(module)[0])()
    assert encoder(torch.from_numpy(tone(1.0, 300))).shape == (1, 25, 32)
    assert encoder(torch.from_numpy(tone(70.0, 300))[None]).shape == (1, 1750, 32)
    assert encoder(torch.from_numpy(tone(0.01, 300))).shape == (1, 1, 32)


@pytest.mark.parametrize("audio", [torch.zeros(2, 2, 8), torch.zeros(2, 0), torch.full((1, 800), torch.nan)])
def test_what_is_no_audio_is_refused(export: Export, audio: torch.Tensor) -> None:
    module = export("xares")
    with pytest.raises(AudioError, match="expected"):
        getattr(module, names(module)[0])()(audio)


def test_two_encoders_have_two_class_names(export: Export, tmp_path: Path) -> None:
    other = tiny_whisper(tmp_path / "whisper", width=32, heads=2, layers=1, seed=9)
    found = {names(export("xares"))[0], names(export("xares", str(other)))[0]}
    assert len(found) == 2
    assert all(re.fullmatch(r"UniWhisper_whisper_[0-9a-f]{8}Encoder", name) for name in found)


def test_the_file_comes_back_as_an_encoder_of_ours(whisper: Path, tmp_path: Path, embedder: AudioEmbedder) -> None:
    file = write_export("xares", str(whisper), tmp_path)
    assert file == tmp_path / "uniwhisper_encoder.py"
    wave = tone(1.3, 300)
    found = load_encoder(str(file)).frames([wave, tone(2.0, 300)])[0]
    np.testing.assert_allclose(found, embedder.frames([wave])[0], rtol=0, atol=1e-5)


def test_a_relative_path_is_written_as_an_absolute_one(
    whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(whisper.parent)
    file = write_export("xares", "whisper", tmp_path / "enc.py")
    assert repr(str(whisper)) in file.read_text(encoding="utf-8")


def test_nothing_is_written_for_what_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match="expected the name of an encoder, found 'no-such-encoder'"):
        write_export("xares", "no-such-encoder", tmp_path / "enc.py")
    assert not (tmp_path / "enc.py").exists()


def test_one_row_a_clip_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("opensmile")
    with pytest.raises(EncoderError, match="X-ARES: expected an encoder with frames, found egemaps"):
        write_export("xares", "egemaps", tmp_path / "enc.py")


def test_formats_and_file_names_are_checked(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a format out of xares, xares-llm, hear, mteb, found 'onnx'"):
        write_export("onnx", "log-mel", tmp_path)
    with pytest.raises(ConfigError, match=r"a file name that Python can import .* found 'my-encoder.py'"):
        write_export("xares", "log-mel", tmp_path / "my-encoder.py")
