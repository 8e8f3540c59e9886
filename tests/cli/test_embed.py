from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uniwhisper.embed import load

from .conftest import Cli


@pytest.fixture
def files(corpus: Path) -> list[Path]:
    return sorted((corpus / "audio").glob("*.wav"))[:3]


def test_one_vector_a_file(cli: Cli, trained: Path, files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "new" / "vectors.npz"
    result = cli("embed", trained, *files, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"embeddings [3, 32] float32\n{out}\n"
    with np.load(out) as arrays:
        assert sorted(arrays) == ["embeddings", "fingerprint", "model", "paths"]
        assert arrays["paths"].tolist() == [file.as_posix() for file in files]
        assert str(arrays["fingerprint"]) == load(trained).fingerprint
        np.testing.assert_array_equal(arrays["embeddings"], load(trained).embed(files, cache=False))


def test_frames_of_every_file(cli: Cli, models: dict[str, Path], files: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "frames.npz"
    result = cli("embed", models["whisper"], *files, "--out", out, "--frames", "--precision", "bf16")
    assert result.exit_code == 0, result.output
    encoder = load(models["whisper"], precision="bf16")
    with np.load(out) as arrays:
        offsets = arrays["offsets"]
        assert offsets[0] == 0
        assert offsets[-1] == len(arrays["frames"]) == len(arrays["times_s"])
        for number, frames in enumerate(encoder.frames(files)):
            part = slice(offsets[number], offsets[number + 1])
            np.testing.assert_allclose(arrays["frames"][part], frames, atol=0.05)
            np.testing.assert_array_equal(arrays["times_s"][part], encoder.times_s(len(frames)))


def test_what_is_no_audio_is_named(cli: Cli, models: dict[str, Path], files: list[Path], tmp_path: Path) -> None:
    noise = tmp_path / "noise.wav"
    noise.write_bytes(b"no audio at all")
    result = cli("embed", models["whisper"], *files, noise, "--out", tmp_path / "vectors.npz")
    assert result.exit_code == 1
    assert str(noise) in result.stderr
    assert not (tmp_path / "vectors.npz").exists()


def test_missing_file(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    result = cli("embed", models["whisper"], "none.wav", "--out", tmp_path / "vectors.npz")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: Invalid value for 'FILES...': File 'none.wav' does not exist.\n")


def test_unknown_model(cli: Cli, files: list[Path], tmp_path: Path) -> None:
    result = cli("embed", "whisper-huge", *files, "--out", tmp_path / "vectors.npz")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: expected pretrained weights for 'whisper-huge', found none. Tried:\n")
