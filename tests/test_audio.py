"""Reading audio: every format, rate and channel count becomes one wave, and everything else a clear AudioError."""

from __future__ import annotations

import importlib.util
import io
import math
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from uniwhisper import audio
from uniwhisper.errors import AudioError

needs_av = pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="needs the optional extra m4a")


def tone(frequency_hz: float, sample_rate: int, duration_s: float, level: float = 0.5) -> np.ndarray:
    time = np.arange(round(sample_rate * duration_s)) / sample_rate
    return (level * np.sin(2 * np.pi * frequency_hz * time)).astype(np.float32)


def assert_is_tone(wave: np.ndarray, frequency_hz: float, duration_s: float, level: float = 0.5) -> None:
    """Check type, length, pitch and level; the ends, where codecs and filters ring, are left out."""
    assert wave.dtype == np.float32
    assert wave.ndim == 1
    assert wave.flags.c_contiguous
    assert len(wave) == pytest.approx(duration_s * 16_000, abs=0.07 * 16_000)
    middle = wave[len(wave) // 4 : -len(wave) // 4]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert np.argmax(spectrum) * 16_000 / len(middle) == pytest.approx(frequency_hz, abs=3)
    assert float(np.sqrt(np.mean(middle**2))) == pytest.approx(level / math.sqrt(2), rel=0.05)


def test_clocks() -> None:
    assert audio.SAMPLE_RATE == 16_000
    assert audio.MEL_FRAMES_PER_SECOND == 100
    assert audio.ENCODER_FRAMES_PER_SECOND == 50
    assert audio.WINDOW_SAMPLES == 480_000


FORMATS = [
    ("a.wav", "WAV", "PCM_16"),
    ("a.wav", "WAV", "PCM_24"),
    ("a.wav", "WAV", "FLOAT"),
    ("a.wav", "WAV", "ULAW"),
    ("a.flac", "FLAC", "PCM_16"),
    ("a.mp3", "MP3", "MPEG_LAYER_III"),
    ("a.ogg", "OGG", "VORBIS"),
    ("a.opus", "OGG", "OPUS"),
]


@pytest.mark.parametrize(("name", "container", "subtype"), FORMATS)
def test_reads_every_format(tmp_path: Path, name: str, container: str, subtype: str) -> None:
    file = tmp_path / name
    soundfile.write(file, tone(440, 48_000, 1.5), 48_000, format=container, subtype=subtype)
    assert_is_tone(audio.read(file), 440, 1.5)
    found = audio.info(str(file))
    assert found.duration_s == pytest.approx(1.5, abs=0.05)
    assert (found.sample_rate, found.num_channels, found.format) == (48_000, 1, container)


@pytest.mark.parametrize("sample_rate", [8_000, 11_025, 16_000, 22_050, 44_100, 96_000])
@pytest.mark.parametrize("num_channels", [1, 2, 8])
def test_reads_every_rate_and_channel_count(tmp_path: Path, sample_rate: int, num_channels: int) -> None:
    file = tmp_path / "a.wav"
    one = tone(440, sample_rate, 1.0)
    soundfile.write(file, np.stack([one] * num_channels, axis=1), sample_rate, subtype="FLOAT")
    wave = audio.read(file)
    assert_is_tone(wave, 440, 1.0)
    assert len(wave) == 16_000


def test_channels_are_averaged(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    channels = np.zeros((16_000, 8), np.float32)
    channels[:, 3] = tone(440, 16_000, 1.0, level=0.8)
    soundfile.write(file, channels, 16_000, subtype="FLOAT")
    assert_is_tone(audio.read(file), 440, 1.0, level=0.1)


def test_resampling_leaves_no_alias(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, tone(11_000, 48_000, 1.0), 48_000, subtype="FLOAT")
    assert np.abs(audio.read(file)[1000:-1000]).max() < 1e-4


def test_reads_ten_minutes_of_many_channels(tmp_path: Path) -> None:
    file = tmp_path / "a.flac"
    with soundfile.SoundFile(file, "w", 8_000, 4, "PCM_16") as sound:
        for _ in range(10):
            sound.write(np.stack([tone(440, 8_000, 60.0)] * 4, axis=1))
    assert_is_tone(audio.read(file), 440, 600.0)


def test_max_duration(tmp_path: Path) -> None:
    file = tmp_path / "a.flac"
    soundfile.write(file, tone(440, 44_100, 3.0), 44_100)
    assert len(audio.read(file, max_duration_s=1.25)) == 20_000
    assert len(audio.read(file, max_duration_s=10)) == 48_000
    assert len(audio.read(file, max_duration_s=1e-9)) == 1
    np.testing.assert_allclose(audio.read(file, max_duration_s=1.25), audio.read(file)[:20_000], atol=1e-6)
    with pytest.raises(AudioError, match="max_duration_s"):
        audio.read(file, max_duration_s=0)


@pytest.mark.parametrize(("name", "container", "subtype"), FORMATS[3:])
@pytest.mark.parametrize("wrong_name", ["a.wav", "a.mp3", "a.txt", "a"])
def test_content_decides_and_not_the_name(
    tmp_path: Path, wrong_name: str, name: str, container: str, subtype: str
) -> None:
    soundfile.write(tmp_path / f"right_{name}", tone(440, 16_000, 1.0), 16_000, format=container, subtype=subtype)
    file = (tmp_path / f"right_{name}").rename(tmp_path / wrong_name)
    assert_is_tone(audio.read(file), 440, 1.0)
    assert audio.info(file).format == container


def test_samples_beyond_full_scale_are_clipped(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    hot = tone(440, 16_000, 1.0, level=2.5)
    soundfile.write(file, hot, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(audio.read(file), hot.clip(-1, 1))


def test_resampling_a_full_scale_edge_stays_in_range(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, np.sign(tone(100, 48_000, 1.0)), 48_000, subtype="FLOAT")
    assert float(np.abs(audio.read(file)).max()) <= 1.0


def write_wav(file: Path, samples: np.ndarray) -> None:
    soundfile.write(file, samples.astype(np.float32), 16_000, subtype="FLOAT")


def test_unusable_samples_raise(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    write_wav(file, np.zeros(0))
    with pytest.raises(AudioError, match=r"at least one sample in .*a\.wav, found 0 s"):
        audio.read(file)
    write_wav(file, np.array([0.0, 0.1, np.nan, np.inf]))
    with pytest.raises(AudioError, match=r"2 NaN or infinite of 4, the first at sample 2"):
        audio.read(file)
    write_wav(file, np.array([0.0, 20_000.0]))
    with pytest.raises(AudioError, match=r"peak of 20000.*32768"):
        audio.read(file)
    assert audio.info(file).duration_s == pytest.approx(2 / 16_000)


def test_what_is_not_an_audio_file_raises(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("this is not audio, it is a sentence\n" * 50)
    (tmp_path / "empty.wav").touch()
    (tmp_path / "short.wav").write_bytes(b"RIFF")
    (tmp_path / "zeros.raw").write_bytes(bytes(1000))
    for name, message in [
        ("missing.wav", "found nothing there"),
        (".", "found a directory"),
        ("empty.wav", "found an empty one"),
        ("text.wav", r"begins b'this is not "),
        ("short.wav", r"short\.wav"),
        ("zeros.raw", r"zeros\.raw"),
    ]:
        for function in (audio.read, audio.info):
            with pytest.raises(AudioError, match=message):
                function(tmp_path / name)


@pytest.mark.parametrize(("name", "container"), [("a.wav", "WAV"), ("a.flac", "FLAC")])
def test_truncated_file_raises(tmp_path: Path, name: str, container: str) -> None:
    file = tmp_path / name
    noise = 0.1 * np.random.default_rng(0).standard_normal(48_000)
    soundfile.write(file, noise, 16_000, format=container)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match="truncated or damaged"):
        audio.read(file)


@pytest.mark.parametrize(("name", "subtype"), [("a.ogg", "VORBIS"), ("a.opus", "OPUS"), ("a.mp3", "MPEG_LAYER_III")])
def test_truncated_stream_is_read_to_its_end(tmp_path: Path, name: str, subtype: str) -> None:
    file = tmp_path / name
    noise = 0.1 * np.random.default_rng(0).standard_normal(16_000 * 6)
    soundfile.write(file, noise, 16_000, subtype=subtype, format="MP3" if name == "a.mp3" else "OGG")
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    assert 16_000 <= len(audio.read(file)) <= 4 * 16_000


@pytest.mark.parametrize("length", [0x7FFFF024, 0x7FFFFFFF, 0xFFFFFFFF])
def test_wav_of_unknown_length_is_read(tmp_path: Path, length: int) -> None:
    file = tmp_path / "a.wav"
    soundfile.write(file, tone(440, 16_000, 1.0), 16_000)
    content = bytearray(file.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = length.to_bytes(4, "little")
    file.write_bytes(content)
    assert_is_tone(audio.read(file), 440, 1.0)


def encode_with_av(file: Path, codec: str, sample_rate: int, samples: np.ndarray) -> None:
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream(codec, rate=sample_rate, layout="mono")
        planes = np.round(samples * 32767).astype(np.int16)[None]
        frame = av.AudioFrame.from_ndarray(planes, format="s16", layout="mono")
        frame.sample_rate = sample_rate
        resampler = av.AudioResampler(stream.format, "mono", sample_rate, frame_size=stream.frame_size or 1024)
        for piece in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


@needs_av
def test_reads_m4a_whatever_its_name(tmp_path: Path) -> None:
    file = tmp_path / "a.m4a"
    encode_with_av(file, "aac", 44_100, tone(440, 44_100, 2.0))
    assert_is_tone(audio.read(file), 440, 2.0)
    assert len(audio.read(file, max_duration_s=0.5)) == 8_000
    found = audio.info(file)
    assert found.duration_s == pytest.approx(2.0, abs=0.1)
    assert (found.sample_rate, found.num_channels) == (44_100, 1)
    assert_is_tone(audio.read(file.rename(tmp_path / "a.wav")), 440, 2.0)


@needs_av
def test_reads_g722_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "a.g722"
    encode_with_av(file, "g722", 16_000, tone(440, 16_000, 1.0))
    assert_is_tone(audio.read(file), 440, 1.0)
    assert audio.info(file).duration_s == pytest.approx(1.0, abs=0.05)


def test_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    file = tmp_path / "a.m4a"
    file.write_bytes(b"\x00\x00\x00\x20ftypM4A " + bytes(100))
    for function in (audio.read, audio.info):
        with pytest.raises(AudioError, match=r"pip install 'uniwhisper\[m4a\]'"):
            function(file)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x,
        lambda x: x.astype(np.float64),
        lambda x: x.tolist(),
        lambda x: torch.from_numpy(x),
        lambda x: torch.from_numpy(x).requires_grad_(),
        lambda x: torch.from_numpy(x).to(torch.bfloat16),
        lambda x: np.round(x * 32767).astype(np.int16),
        lambda x: np.round(x * 2147483000).astype(np.int32),
        lambda x: np.round(x * 127 + 128).astype(np.uint8),
        lambda x: torch.from_numpy(np.round(x * 32767).astype(np.int16)),
        lambda x: np.stack([x, x]),
        lambda x: np.stack([x, x], axis=1),
        lambda x: torch.from_numpy(x)[None],
        lambda x: x[::-1][::-1],
    ],
)
def test_to_wave_takes_every_kind_of_array(convert) -> None:
    assert_is_tone(audio.to_wave(convert(tone(440, 22_050, 1.0)), 22_050), 440, 1.0)


def test_to_wave_averages_the_shorter_axis() -> None:
    left, right = tone(440, 16_000, 0.5), np.zeros(8_000, np.float32)
    for array in (np.stack([left, right]), np.stack([left, right], axis=1)):
        np.testing.assert_allclose(audio.to_wave(array, 16_000), left / 2, atol=1e-7)


def test_to_wave_does_not_change_its_input() -> None:
    array = tone(440, 16_000, 0.5, level=3.0)
    before = array.copy()
    wave = audio.to_wave(array, 16_000)
    wave[:] = 0
    np.testing.assert_array_equal(array, before)


@pytest.mark.parametrize(
    ("array", "sample_rate", "message"),
    [
        (np.zeros(0, np.float32), 16_000, "at least one sample"),
        (np.zeros((2, 0), np.float32), 16_000, "at least one sample"),
        (np.zeros((64, 64), np.float32), 16_000, r"at most 32 channels.*\(64, 64\)"),
        (np.zeros((2, 3, 4), np.float32), 16_000, r"\(2, 3, 4\)"),
        (np.float32(0.5), 16_000, r"shape \(\)"),
        (np.zeros(10, np.int64), 16_000, "int64"),
        (np.zeros(10, bool), 16_000, "bool"),
        (np.array(["a"]), 16_000, "found <U1"),
        ([[0.1, 0.2], [0.3]], 16_000, "different lengths"),
        (np.array([0.0, np.nan]), 16_000, "1 NaN"),
        (np.array([0.0, 1e300]), 16_000, "infinite"),
        (np.array([0.0, -32768.0]), 16_000, "32768"),
        (np.zeros(10, np.float32), 0, "sample rate"),
        (np.zeros(10, np.float32), 16_000.5, "sample rate"),
        (np.zeros(10, np.float32), float("nan"), "sample rate"),
        (np.zeros(10, np.float32), "16k", "sample rate"),
        (np.zeros(1, np.float32), 192_000, "at least one sample at 16 kHz"),
    ],
)
def test_to_wave_refuses(array, sample_rate, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        audio.to_wave(array, sample_rate)


def encoded(container: str, num_samples: int = 8_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, tone(440, 16_000, num_samples / 16_000), 16_000, format=container)
    return file.getvalue()


@pytest.mark.parametrize(("container", "kept"), [("WAV", 0.5), ("FLAC", 0.5), ("FLAC", 0.99)])
def test_a_header_that_promises_more_than_there_is(container: str, kept: float) -> None:
    content = encoded(container)
    with pytest.raises(AudioError, match=r"x\.bin, as its header says; found .*: truncated or damaged, fetch it again"):
        audio.info(content[: int(kept * len(content))], name="x.bin")
    assert audio.info(content).duration_s == 0.5


def test_an_absurd_length_is_refused() -> None:
    content = bytearray(encoded("FLAC"))
    content[21:26] = bytes([content[21] | 0x0F, 0xFF, 0xFF, 0xFF, 0xFF])  # STREAMINFO's number of samples: 2**36 - 1
    with pytest.raises(AudioError, match=r"expected 68719476735 frames of audio in x\.flac, .* found \d+ bytes"):
        audio.info(bytes(content), name="x.flac")


def test_samples_that_are_no_numbers_raise_without_a_warning(tmp_path: Path) -> None:
    values = np.full((1_600, 2), np.inf, np.float32)
    values[:, 1] = -np.inf
    soundfile.write(str(tmp_path / "a.wav"), values, 16_000, subtype="FLOAT")
    with pytest.raises(AudioError, match="expected finite samples"):
        audio.read(tmp_path / "a.wav")


@pytest.mark.parametrize("name", ["x" * 300, "a\x00b", "caf\udce9.wav"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    for function in (audio.read, audio.info):
        with pytest.raises(AudioError, match=r"expected an audio file at .*rename it"):
            function(f"{tmp_path}/{name}")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="found a device or pipe"):
        audio.read(tmp_path / "a.wav")


def test_reads_g722_in_memory_by_its_name(tmp_path: Path) -> None:
    pytest.importorskip("av")
    encode_with_av(tmp_path / "a.g722", "g722", 16_000, tone(440, 16_000, 0.5))
    content = (tmp_path / "a.g722").read_bytes()
    np.testing.assert_array_equal(audio.read(content, name="x.g722"), audio.read(tmp_path / "a.g722"))
    assert audio.info(content, name="x.g722").duration_s == pytest.approx(0.5, abs=0.01)
