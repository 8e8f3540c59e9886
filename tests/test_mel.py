"""The log-mel: parity with openai-whisper and Hugging Face, and the true-length and batch guarantees."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from transformers import WhisperFeatureExtractor
from transformers.audio_utils import mel_filter_bank

from uniwhisper import audio, mel
from uniwhisper.errors import AudioError

GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def hugging_face(wave: np.ndarray, n_mels: int) -> torch.Tensor:
    extractor = WhisperFeatureExtractor(feature_size=n_mels)
    return extractor(wave, sampling_rate=16_000, return_tensors="pt").input_features[0]


def golden_wave() -> torch.Tensor:
    return load_file(GOLDEN / "log_mel_openai.safetensors")["wave_int16"].float() / 32768


def largest_difference(a: torch.Tensor, b: torch.Tensor) -> float:
    assert a.shape == b.shape
    return float((a - b).abs().max())


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("reference", ["openai", "hf"])
def test_padded_equals_golden(reference: str, n_mels: int) -> None:
    expected = load_file(GOLDEN / f"log_mel_{reference}.safetensors")[f"mel_{n_mels}"]
    found = mel.log_mel_padded(golden_wave(), n_mels)
    assert found.shape == (n_mels, 3000)
    assert largest_difference(found[:, : expected.shape[1]], expected) <= 1e-5


@pytest.mark.parametrize("n_mels", [80, 128])
@pytest.mark.parametrize("num_samples", [1, 159, 201, 16_000, 480_000])
def test_padded_equals_hugging_face_at_any_length(num_samples: int, n_mels: int) -> None:
    wave = 0.1 * np.random.default_rng(num_samples).standard_normal(num_samples).astype(np.float32)
    found = mel.log_mel_padded(torch.from_numpy(wave), n_mels)
    assert largest_difference(found, hugging_face(wave, n_mels)) <= 1e-5


@pytest.mark.shared
@pytest.mark.parametrize("n_mels", [80, 128])
def test_padded_equals_hugging_face_on_real_speech(n_mels: int) -> None:
    table = SHARED / "eval_librispeech_asr.csv"
    if not table.exists():
        pytest.skip("needs the reference pack at ../shared")
    with table.open(encoding="utf-8") as file:
        paths = [row["path"] for row in csv.DictReader(file)][::20]
    assert len(paths) >= 5
    for path in paths:
        wave = audio.read(SHARED / path, max_duration_s=30.0)
        found = mel.log_mel_padded(torch.from_numpy(wave), n_mels)
        assert largest_difference(found, hugging_face(wave, n_mels)) <= 1e-5
        own = mel.log_mel(torch.from_numpy(wave), n_mels)
        assert largest_difference(own, found[:, : own.shape[1]]) <= 1e-6


@pytest.mark.parametrize("n_mels", [80, 128])
def test_filters_equal_openai_and_hugging_face(n_mels: int) -> None:
    found = mel.mel_filters(n_mels)
    assert found.shape == (n_mels, 201)
    assert found.dtype == torch.float32
    golden = load_file(GOLDEN / "mel_filters_openai.safetensors")
    rows, columns = golden[f"positions_{n_mels}"].long().T
    openai = torch.zeros(n_mels, 201)
    openai[rows, columns] = golden[f"values_{n_mels}"]
    assert largest_difference(found, openai) <= 1e-8
    live = mel_filter_bank(201, n_mels, 0.0, 8000.0, 16_000, norm="slaney", mel_scale="slaney")
    assert largest_difference(found, torch.from_numpy(live.T.astype(np.float32))) <= 1e-8


waves = st.builds(
    lambda num_samples, seed, level, click_at, hush: synthetic(num_samples, seed, level, click_at, hush),
    num_samples=st.integers(1, 5000),
    seed=st.integers(0, 100),
    level=st.sampled_from([0.0, 1e-6, 1e-3, 0.3]),
    click_at=st.sampled_from([None, 0.0, 0.5, 1.0]),
    hush=st.booleans(),
)


def synthetic(num_samples: int, seed: int, level: float, click_at: float | None, hush: bool) -> torch.Tensor:
    """Noise of a level, perhaps silent in its second half, perhaps with a full-scale click at a relative position."""
    wave = level * torch.randn(num_samples, generator=torch.Generator().manual_seed(seed))
    if hush:
        wave[num_samples // 2 :] = 0
    if click_at is not None:
        wave[round(click_at * (num_samples - 1))] = 1.0
    return wave


@settings(max_examples=60, deadline=None)
@given(wave=waves)
def test_true_length_is_the_start_of_the_padded(wave: torch.Tensor) -> None:
    own, padded = mel.log_mel(wave), mel.log_mel_padded(wave)
    assert own.shape == (80, mel.num_mel_frames(len(wave))) == (80, -(-len(wave) // 160))
    assert largest_difference(own, padded[:, : own.shape[1]]) <= 1e-6


@pytest.mark.parametrize("num_samples", [16_000, 479_520, 479_680])
def test_true_length_is_the_start_of_the_padded_up_to_its_limit(num_samples: int) -> None:
    wave = synthetic(num_samples, 0, 0.1, 1.0, False)
    own, padded = mel.log_mel(wave, 128), mel.log_mel_padded(wave, 128)
    assert largest_difference(own, padded[:, : own.shape[1]]) <= 1e-6


@settings(max_examples=40, deadline=None)
@given(clips=st.lists(waves, min_size=1, max_size=5))
def test_batch_does_not_change_a_clip(clips: list[torch.Tensor]) -> None:
    batch, lengths = mel.log_mel_batch(clips)
    assert lengths.tolist() == [mel.num_mel_frames(len(clip)) for clip in clips]
    assert batch.shape == (len(clips), 80, max(lengths))
    for row, length, clip in zip(batch, lengths.tolist(), clips, strict=True):
        solo = mel.log_mel(clip)
        assert largest_difference(row[:, :length], solo) <= 1e-6
        assert torch.all((row[:, length:] - mel.silence_value(solo)).abs() <= 1e-6)


def test_silence_value_is_what_whisper_pads_with() -> None:
    wave = golden_wave()
    padded = mel.log_mel_padded(wave)
    value = mel.silence_value(mel.log_mel(wave))
    assert value.shape == ()
    after_the_clip = padded[:, mel.num_mel_frames(len(wave)) + 2 :]
    assert torch.all((after_the_clip - value).abs() <= 1e-6)
    assert float(mel.silence_value(padded)) == pytest.approx(float(value), abs=1e-6)


def test_digital_silence() -> None:
    found = mel.log_mel(torch.zeros(1600))
    assert torch.all(found == -1.5)
    assert float(mel.silence_value(found)) == -1.5


def test_a_long_clip_has_all_of_its_frames() -> None:
    assert mel.log_mel(torch.zeros(600 * 16_000)).shape == (80, 60_000)


def test_batch_longer_than_one_block_equals_solo() -> None:
    clips = [synthetic(n, n, 0.1, None, False) for n in (200_000, 90_001, 400_000)]
    batch, lengths = mel.log_mel_batch(clips, 128)
    for row, length, clip in zip(batch, lengths.tolist(), clips, strict=True):
        assert largest_difference(row[:, :length], mel.log_mel(clip, 128)) <= 1e-6


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (torch.zeros(0), "at least one sample"),
        (torch.zeros(2, 100), r"\(2, 100\)"),
        (torch.zeros(100, dtype=torch.int32), "int32"),
        (torch.tensor([0.0, float("nan")]), "NaN or infinity in wave 0"),
        (torch.tensor([0.0, float("inf")]), "NaN or infinity in wave 0"),
    ],
)
def test_unusable_waves_raise(wave: torch.Tensor, message: str) -> None:
    for function in (mel.log_mel, mel.log_mel_padded):
        with pytest.raises(AudioError, match=message):
            function(wave)


def test_the_unusable_wave_of_a_batch_is_named() -> None:
    with pytest.raises(AudioError, match="wave 1"):
        mel.log_mel_batch([torch.zeros(500), torch.full((500,), float("nan")), torch.zeros(500)])
    with pytest.raises(AudioError, match="found none"):
        mel.log_mel_batch([])


def test_limits_are_said() -> None:
    with pytest.raises(AudioError, match="30 s"):
        mel.log_mel_padded(torch.zeros(480_001))
    with pytest.raises(AudioError, match="n_mels"):
        mel.log_mel(torch.zeros(1600), 64)


def whole(clips: list[torch.Tensor]) -> list[torch.Tensor]:
    """Return 16-bit samples of clips."""
    return [(clip.clamp(-1, 1) * 32767).round().to(torch.int16) for clip in clips]


@settings(max_examples=30, deadline=None)
@given(clips=st.lists(waves, min_size=1, max_size=5))
def test_16_bit_samples_are_the_floats_that_they_stand_for(clips: list[torch.Tensor]) -> None:
    samples = whole(clips)
    floats = [clip / 32768 for clip in samples]
    found = mel.log_mel_tails(samples)
    for (own, tail), expected in zip(found, mel.log_mel_tails(floats), strict=True):
        assert torch.equal(own, expected[0])
        assert torch.equal(tail, expected[1])
    mixed = mel.log_mel_tails([samples[0], *floats[1:]])
    assert all(
        torch.equal(a, b) for pair, other in zip(mixed, found, strict=True) for a, b in zip(pair, other, strict=True)
    )


@pytest.mark.parametrize("n_mels", [80, 128])
def test_clips_of_a_group_are_what_they_are_alone(n_mels: int) -> None:
    clips = [synthetic(n, n, 10.0**-i, None, False) for i, n in enumerate((1, 160, 47_999, 3, 33_600))]
    row = mel.lay_end_to_end(whole(clips))
    assert row.samples.dtype == torch.int16
    assert row.frames == (1, 1, 300, 1, 210)
    for clip, (own, tail) in zip(clips, row.to(torch.device("cpu")).log_mels(n_mels), strict=True):
        padded = mel.log_mel_padded(whole([clip])[0], n_mels)
        frames = mel.num_mel_frames(len(clip))
        assert tail.shape == (n_mels, 2)
        assert largest_difference(torch.cat([own, tail], dim=1), padded[:, : frames + 2]) <= 1e-5


def test_what_comes_back_lies_in_one_piece() -> None:
    found = mel.log_mel_tails([torch.zeros(1600), torch.ones(800)])
    assert len({part.untyped_storage().data_ptr() for pair in found for part in pair}) == 1
