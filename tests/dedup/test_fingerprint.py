"""Words against their definition, and what must not change them."""

from __future__ import annotations

import itertools
import tracemalloc

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from dedup.sounds import KINDS, RATE, all_sounds, notes, voice
from uniwhisper.dedup import fingerprint as module
from uniwhisper.dedup.fingerprint import (
    FRAME_SPAN_S,
    INDEX_HOP_MS,
    NUM_WEAK_BITS,
    QUERY_HOP_MS,
    SHORT_QUERY_HOP_MS,
    fingerprint,
    fingerprint_query,
)
from uniwhisper.errors import AudioError, ConfigError

SOUNDS = all_sounds(each=2, duration_s=2.0)


def by_definition(wave, hop_ms):
    """Return [T, 32] changes, one frame and one band at a time, in double precision."""
    slow = soxr.resample(wave, RATE, 8000, quality="HQ").astype(np.float64)
    edges = np.geomspace(200, 3700, 34)

    def levels(start):
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2048)
        power = np.abs(np.fft.rfft(slow[start : start + 2048] * window)) ** 2
        hz = np.arange(1025) * 8000 / 2048
        half = 8000 / 2048 / 2
        bands = []
        for low, high in itertools.pairwise(edges):
            inside = np.clip(np.minimum(hz + half, high) - np.maximum(hz - half, low), 0, None) / (2 * half)
            bands.append((power * inside).sum() ** 0.25)
        return np.diff(bands)

    starts = range(0, len(slow) - 2048 - 1152 + 1, hop_ms * 8)
    return np.array([levels(start + 1152) - levels(start) for start in starts])


@pytest.mark.parametrize("hop_ms", [INDEX_HOP_MS, QUERY_HOP_MS])
@pytest.mark.parametrize("kind", KINDS)
def test_words_follow_the_definition(kind, hop_ms):
    wave = KINDS[kind](7, 1.2)
    prints = fingerprint(wave, hop_ms=hop_ms)
    change = by_definition(wave, hop_ms)
    assert len(prints.words) == len(change)
    bits = (prints.words[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    clear = np.abs(change) > 1e-5 * np.abs(change).max()
    np.testing.assert_array_equal(bits[clear], (change > 0)[clear])
    assert clear.mean() > 0.95
    order = np.take_along_axis(np.abs(change), prints.weak.astype(int), axis=1)
    assert (np.diff(order, axis=1) >= -1e-6 * np.abs(change).max()).all(), "the nearest to flip first"
    assert (order.max(axis=1) <= np.sort(np.abs(change), axis=1)[:, NUM_WEAK_BITS] + 1e-6 * np.abs(change).max()).all()


@given(st.integers(0, 40_000), st.sampled_from([INDEX_HOP_MS, SHORT_QUERY_HOP_MS, QUERY_HOP_MS]))
def test_a_word_for_every_hop_that_has_its_span(count, hop_ms):
    prints = fingerprint(np.zeros(count, np.float32), hop_ms=hop_ms)
    usable_ms = count / 16 - 1000 * FRAME_SPAN_S
    expected = int(usable_ms // hop_ms) + 1 if usable_ms >= 0 else 0
    assert len(prints.words) in (expected, max(0, expected - 1))  # an odd sample falls to the slower rate's rounding
    assert prints.words.dtype == np.uint32
    assert prints.weak.shape == (len(prints.words), NUM_WEAK_BITS)
    assert prints.informative.shape == prints.words.shape
    assert prints.duration_s == count / RATE


@pytest.mark.parametrize("count", [0, 1, 400, 1600, 6398])
def test_short_sounds_give_no_words(count):
    prints = fingerprint(voice(1)[:count])
    assert len(prints.words) == 0
    assert prints.num_informative == 0
    assert not prints.is_usable
    assert len(prints.strong) == 0
    assert len(fingerprint(voice(1)[:6400]).words) == 1


@pytest.mark.parametrize("name", SOUNDS)
@settings(max_examples=10)
@given(st.floats(0.02, 2.0))
def test_gain_changes_nothing(name, gain):
    prints, louder = fingerprint(SOUNDS[name]), fingerprint((SOUNDS[name] * gain).astype(np.float32))
    both = prints.informative & louder.informative
    assert both.sum() >= 0.5 * prints.informative.sum()
    differ = np.bitwise_count((prints.words ^ louder.words) & prints.strong)[both]
    assert differ.sum() <= 1e-4 * (32 - NUM_WEAK_BITS) * both.sum()


def test_doubling_is_exact():
    wave = notes(3)
    assert (fingerprint(wave).words == fingerprint(wave / 2).words).mean() > 0.999


@pytest.mark.parametrize("level", [0.0, 1e-4])
def test_silence_means_nothing(level):
    hiss = (level * np.random.default_rng(0).standard_normal(2 * RATE)).astype(np.float32)
    prints = fingerprint(hiss)
    assert len(prints.words) > 0
    assert prints.num_informative == 0
    assert not prints.is_usable


def test_only_frames_that_hear_sound_mean_something():
    sound = voice(2, 1.0)
    prints = fingerprint(np.concatenate([np.zeros(2 * RATE, np.float32), sound, np.zeros(2 * RATE, np.float32)]))
    starts_s = np.arange(len(prints.words)) * INDEX_HOP_MS / 1000
    assert not prints.informative[starts_s + FRAME_SPAN_S < 1.99].any()
    assert not prints.informative[starts_s > 3.01].any()
    assert prints.informative[(starts_s > 2.0) & (starts_s < 2.5)].all()
    assert prints.informative[(starts_s > 1.75) & (starts_s < 1.8)].all(), "the later of its two windows hears sound"
    assert prints.is_usable


@pytest.mark.parametrize(
    ("seconds", "hop_ms"), [(1.0, SHORT_QUERY_HOP_MS), (3.99, SHORT_QUERY_HOP_MS), (4.0, QUERY_HOP_MS)]
)
def test_short_queries_are_denser(seconds, hop_ms):
    wave = voice(3, seconds)
    prints = fingerprint_query(wave)
    assert prints.hop_ms == hop_ms
    np.testing.assert_array_equal(prints.words, fingerprint(wave, hop_ms=hop_ms).words)


def test_strong_bits_are_those_that_are_not_weak():
    prints = fingerprint(voice(4))
    assert (np.bitwise_count(prints.strong) == 32 - NUM_WEAK_BITS).all()
    for mask, weak in zip(prints.strong[:20].tolist(), prints.weak[:20].tolist(), strict=True):
        assert not any(mask >> bit & 1 for bit in weak)


def test_blocks_do_not_show(monkeypatch):
    wave = np.concatenate([voice(5, 2.0), notes(5, 2.5)])
    whole = fingerprint(wave)
    for samples, frames in ((16_000, 5), (4_000, 64), (12_345, 1)):
        monkeypatch.setattr(module, "_BLOCK_SAMPLES", samples)
        monkeypatch.setattr(module, "_BLOCK_FRAMES", frames)
        parts = fingerprint(wave)
        np.testing.assert_array_equal(parts.words, whole.words)
        np.testing.assert_array_equal(parts.informative, whole.informative)


def test_long_waves_need_little_memory():
    wave = np.tile(noise_minute(), 20)
    tracemalloc.start()
    prints = fingerprint_query(wave)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(prints.words) > 30_000
    assert peak < 0.6 * wave.nbytes


def noise_minute():
    return (0.1 * np.random.default_rng(1).standard_normal(60 * RATE)).astype(np.float32)


@pytest.mark.parametrize(
    "wave",
    [
        np.full(8000, np.nan, np.float32),
        np.concatenate([np.zeros(9000, np.float32), [np.inf]]),
        np.concatenate([np.zeros(9000, np.float32), [-np.inf]]),
        np.zeros((2, 8000), np.float32),
        np.zeros(8000, np.int16),
    ],
    ids=["nan", "inf", "-inf", "stereo", "int16"],
)
def test_what_is_no_wave_is_refused(wave):
    with pytest.raises(AudioError, match="expected"):
        fingerprint(wave)


@pytest.mark.parametrize("hop_ms", [0, -16, 7, 32])
def test_hops_divide_the_lag(hop_ms):
    with pytest.raises(ConfigError, match="divide 144"):
        fingerprint(voice(1), hop_ms=hop_ms)
