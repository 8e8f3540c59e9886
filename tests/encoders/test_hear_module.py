from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from tiny import tone
from uniwhisper.encoders import load_encoder
from uniwhisper.encoders.conformance import check_encoder
from uniwhisper.errors import EncoderError

MODULE = """import torch


class Model(torch.nn.Module):
    def __init__(self, seed):
        super().__init__()
        self.sample_rate = 22050
        self.scene_embedding_size = 8
        self.timestamp_embedding_size = 8
        self.register_buffer("matrix", torch.randn(441, 8, generator=torch.Generator().manual_seed(seed)))


def load_model(model_file_path=""):
    return Model(int(open(model_file_path).read()) if model_file_path else 0)


def get_timestamp_embeddings(audio, model):
    count = max(1, audio.shape[1] // 441)
    audio = torch.nn.functional.pad(audio, (0, max(0, count * 441 - audio.shape[1])))
    frames = audio[:, : count * 441].reshape(len(audio), count, 441) @ model.matrix
    frames = frames + audio.std(dim=1)[:, None, None]
    times = (torch.arange(count) * 20.0 + 10.0).expand(len(audio), -1)
    return frames, times
"""
NUMBERS = itertools.count()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write(old: str = "", new: str = "") -> str:
    """Write a module of a new name into the current folder and return what load_encoder takes."""
    name = f"hear_toy_{next(NUMBERS)}"
    Path(f"{name}.py").write_text(MODULE.replace(old, new) if old else MODULE, encoding="utf-8")
    return f"hear:{name}"


def test_timestamp_embeddings_are_frames() -> None:
    encoder = load_encoder(write())
    assert (encoder.sample_rate, encoder.dim, encoder.hop_ms) == (22_050, 8, 20.0)
    assert encoder.first_frame_ms == 10.0  # type: ignore[attr-defined]
    findings = check_encoder(encoder, long_clip=False)
    assert {finding.name for finding in findings if finding.state != "ok"} == {"ten minutes"}, findings


def test_clips_run_beside_clips_of_their_length() -> None:
    encoder = load_encoder(write())
    waves = [tone(s, 300, seed=n) for n, s in enumerate((0.5, 1.0, 0.5))]
    for wave, frames in zip(waves, encoder.frames(waves), strict=True):
        np.testing.assert_allclose(encoder.frames([wave])[0], frames, rtol=0, atol=1e-5)


def test_weights_decide_frames_and_fingerprint(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("7", encoding="utf-8")
    name = write()
    default, other = load_encoder(name), load_encoder(f"{name}#{tmp_path / 'w.txt'}")
    wave = tone(0.5, 300)
    assert not np.allclose(default.frames([wave])[0], other.frames([wave])[0])
    assert default.fingerprint != other.fingerprint
    assert default.fingerprint == load_encoder(name).fingerprint


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("def load_model", "def open_model", "with load_model, found none"),
        ("return Model(", "return dict(x=", "expected load_model to return a torch.nn.Module, found dict"),
        ("self.timestamp_embedding_size = 8", "pass", "to have an attribute timestamp_embedding_size"),
        ("self.sample_rate = 22050", "self.sample_rate = '22050'", "sample_rate to be a whole number"),
        ("* 20.0", "** 2 * 1.0", "at even distances, found from 1 to"),
        ("return frames, times", "return frames", r"to give \(embeddings, timestamps\), found Tensor"),
        ("return frames, times", "return frames, times[:, :1]", "with at least two for 4 s"),
        ("int(open", "1 / 0 or int(open", r"at even|ZeroDivisionError|found"),
    ],
)
def test_faults_of_the_module(old: str, new: str, text: str) -> None:
    name = write(old, new)
    with pytest.raises(EncoderError, match=text):
        load_encoder(name + ("#missing.txt" if "1 / 0" in new else ""))


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(EncoderError, match="hear:no_such_hear: expected an importable module 'no_such_hear'"):
        load_encoder("hear:no_such_hear")
