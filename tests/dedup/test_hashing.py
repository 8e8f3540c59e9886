"""Hashes stay with the samples, whatever holds them, and silence has none."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from dedup.sounds import KINDS, RATE, noise, voice
from uniwhisper import audio
from uniwhisper.dedup import hashing
from uniwhisper.dedup.hashing import SILENCE_STEPS, file_sha256, pcm_hash
from uniwhisper.errors import AudioError

SOUND = np.rint(voice(1, 1.0) * 32_768) / np.float32(32_768)


def in_file(tmp_path, wave, container, subtype, rate=RATE):
    path = tmp_path / f"{container}-{subtype}-{rate}"
    soundfile.write(path, wave, rate, subtype, format=container)
    return audio.read(path)


def test_file_hash_is_sha256():
    assert file_sha256(b"abc") == hashlib.sha256(b"abc").hexdigest()


@pytest.mark.parametrize(
    ("container", "subtype"),
    [
        ("WAV", "PCM_16"),
        ("FLAC", "PCM_16"),
        ("AIFF", "PCM_16"),
        ("FLAC", "PCM_24"),
        ("WAV", "FLOAT"),
        ("CAF", "PCM_32"),
    ],
)
def test_same_samples_in_another_container_have_one_hash(tmp_path, container, subtype):
    assert pcm_hash(in_file(tmp_path, SOUND, container, subtype)) == pcm_hash(SOUND)


def test_another_rate_is_resampled_alike_from_either_container(tmp_path):
    wave = np.rint(noise(1, 1.0).repeat(3) * 32_768) / np.float32(32_768)
    assert pcm_hash(in_file(tmp_path, wave, "WAV", "PCM_16", 48_000)) == pcm_hash(
        in_file(tmp_path, wave, "FLAC", "PCM_16", 48_000)
    )


def test_lossy_copies_differ(tmp_path):
    file = io.BytesIO()
    soundfile.write(file, SOUND, RATE, format="MP3")
    path = tmp_path / "copy.mp3"
    path.write_bytes(file.getvalue())
    assert pcm_hash(audio.read(path)) != pcm_hash(SOUND)


@given(before=st.integers(0, 3000), after=st.integers(0, 3000), level=st.integers(0, SILENCE_STEPS))
def test_silence_around_the_sound_does_not_matter(before, after, level):
    dither = np.random.default_rng(before).integers(-level, level + 1, before + after) / np.float32(32_768)
    padded = np.concatenate([dither[:before], SOUND, dither[before:]]).astype(np.float32)
    assert pcm_hash(padded) == pcm_hash(SOUND)


def test_silence_within_the_sound_does_matter():
    assert pcm_hash(np.concatenate([SOUND[:8000], np.zeros(100, np.float32), SOUND[8000:]])) != pcm_hash(SOUND)


@pytest.mark.parametrize("step", [1, SILENCE_STEPS + 1])
def test_one_step_makes_another_hash(step):
    other = SOUND.copy()
    other[8000] += step / 32_768
    assert pcm_hash(other) != pcm_hash(SOUND)


def test_sounds_have_hashes_of_their_own():
    hashes = {pcm_hash(make(seed, 0.5)) for make in KINDS.values() for seed in range(5)}
    assert len(hashes) == 15
    assert all(len(text) == 32 and int(text, 16) >= 0 for text in hashes)


@pytest.mark.parametrize("count", [0, 1, 16_000])
def test_silence_has_no_hash(count):
    rng = np.random.default_rng(0)
    assert pcm_hash(np.zeros(count, np.float32)) == ""
    assert pcm_hash((rng.integers(-SILENCE_STEPS, SILENCE_STEPS + 1, count) / 32_768).astype(np.float32)) == ""


def test_a_click_has_no_hash():
    wave = np.zeros(16_000, np.float32)
    wave[5000:5799] = 0.5
    assert pcm_hash(wave) == ""
    wave[5799] = 0.5
    assert pcm_hash(wave)


def test_sound_below_zero_is_sound():
    quiet = np.abs(SOUND) / 16
    assert pcm_hash(-quiet) not in ("", pcm_hash(quiet))


def test_full_scale_does_not_wrap():
    assert pcm_hash(np.ones(1000, np.float32)) != pcm_hash(-np.ones(1000, np.float32))


def test_long_waves_are_hashed_in_blocks(monkeypatch):
    whole = pcm_hash(SOUND)
    monkeypatch.setattr(hashing, "_BLOCK", 777)
    assert pcm_hash(SOUND) == whole


@pytest.mark.parametrize(
    "wave",
    [
        np.array([0.0, np.nan], np.float32),
        np.array([np.inf], np.float32),
        np.zeros((2, 100), np.float32),
        np.zeros(9, int),
    ],
)
def test_what_is_no_wave_is_refused(wave):
    with pytest.raises(AudioError):
        pcm_hash(wave)
