from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from uniwhisper import audio
from uniwhisper.clips import clip_bytes, length_s, measure, read_clip
from uniwhisper.errors import AudioError
from uniwhisper.types import Annotation, Clip


def wave(seconds: float = 3.0) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (0.1 * rng.standard_normal(round(seconds * 16_000))).astype(np.float32)


def clip(path: Path, duration_s: float, **fields: Any) -> Clip:
    return Clip(
        id="a",
        source="s",
        path=str(path),
        split="train",
        duration_s=duration_s,
        domain="sound",
        annotation=Annotation(),
        **fields,
    )


def encoded(samples: np.ndarray, format: str = "FLAC", rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format)
    return file.getvalue()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.flac"
    path.write_bytes(encoded(wave()))
    return path


def test_a_whole_file(file: Path) -> None:
    assert np.array_equal(read_clip(clip(file, 3.0)), audio.read(file))
    assert measure(clip(file, 0.0)) == 3.0
    assert clip_bytes(clip(file, 3.0)) == file.read_bytes()


@pytest.mark.parametrize(("start_s", "duration_s"), [(0.0, 1.0), (0.5, 1.25), (2.0, 1.0), (0.01, 0.02)])
def test_a_span_of_a_file(start_s: float, duration_s: float, file: Path) -> None:
    found = read_clip(clip(file, duration_s, start_s=start_s))
    first = round(start_s * 16_000)
    assert np.array_equal(found, audio.read(file)[first : first + round(duration_s * 16_000)])


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG"])
def test_a_span_at_another_rate_is_that_part_of_the_resampled_file(format: str, tmp_path: Path) -> None:
    t = np.arange(44_100 * 4) / 44_100
    path = tmp_path / f"a.{format.lower()}"
    soundfile.write(str(path), (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32), 44_100, format=format)
    whole = audio.read(path)
    found = read_clip(clip(path, 1.5, start_s=1.25))
    assert len(found) == 24_000
    assert np.abs(found - whole[20_000:44_000]).max() < 2e-3


def test_a_member_of_a_container(tmp_path: Path) -> None:
    path, member = tmp_path / "a.tar", encoded(wave())
    path.write_bytes(b"x" * 700 + member + b"y" * 300)
    inside = clip(path, 3.0, offset_bytes=700, num_bytes=len(member))
    assert clip_bytes(inside) == member
    assert measure(inside) == 3.0
    assert np.array_equal(read_clip(inside), audio.read(member))
    part = clip(path, 1.0, start_s=1.0, offset_bytes=700, num_bytes=len(member))
    assert np.array_equal(read_clip(part), audio.read(member)[16_000:32_000])


def test_a_container_that_ends_too_early(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(encoded(wave())[:1000])
    with pytest.raises(AudioError, match=r"expected 5000 bytes from byte 10 of .* found 990: .* truncated"):
        read_clip(clip(path, 3.0, offset_bytes=10, num_bytes=5000))


def test_audio_that_ends_before_the_clip(file: Path) -> None:
    with pytest.raises(AudioError, match=r"expected 5.000 s from 0.000 s .* found 3.000 s"):
        read_clip(clip(file, 5.0))
    with pytest.raises(AudioError, match=r"clip 'a' of 's': expected audio at 6\.95 s"):
        read_clip(clip(file, 1.0, start_s=7.0))


def test_missing_and_broken_audio_name_the_clip(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="clip 'a' of 's': expected an audio file"):
        read_clip(clip(tmp_path / "no.wav", 1.0))
    (tmp_path / "b.wav").write_bytes(b"not audio at all")
    with pytest.raises(AudioError, match="clip 'a' of 's': expected audio"):
        read_clip(clip(tmp_path / "b.wav", 1.0))
    with pytest.raises(AudioError, match="0 bytes"):
        audio.read(b"")


def test_the_length_of_an_mp3_is_counted_and_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    soundfile.write(str(path), wave(2.0), 16_000, format="MP3")
    picture = b"APIC" + (30_000).to_bytes(4, "big") + b"\x00\x00" + b"\x00image/png\x00" + b"\x00" * 29_989
    length = bytes((len(picture) >> shift) & 0x7F for shift in (21, 14, 7, 0))
    path.write_bytes(b"ID3\x03\x00\x00" + length + picture + path.read_bytes())
    assert not audio.info(path).is_exact
    assert measure(clip(path, 0.0)) == len(audio.read(path)) / 16_000
    assert measure(clip(path, 0.0)) == pytest.approx(2.0, abs=0.1)


def test_the_length_is_the_stated_one_or_the_header_s(file: Path, tmp_path: Path) -> None:
    assert length_s(clip(file, 1.25)) == 1.25
    assert length_s(clip(file, 0.0)) == 3.0
    assert length_s(clip(file, 0.0, start_s=2.5)) == pytest.approx(0.5)
    (tmp_path / "b.wav").write_bytes(b"not audio at all")
    with pytest.raises(AudioError, match="clip 'a' of 's'"):
        length_s(clip(tmp_path / "b.wav", 0.0))
