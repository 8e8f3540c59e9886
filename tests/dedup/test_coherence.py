"""One sound is recognised through what storage does to it; two sounds that are alike are told apart."""

from __future__ import annotations

import numpy as np
import pytest
import soxr

from dedup.sounds import KINDS, RATE, note, notes, scaled, stored, voice, with_noise
from uniwhisper.dedup.coherence import MAX_DELAY_S, coherence
from uniwhisper.dedup.index import MIN_EVIDENCE
from uniwhisper.errors import AudioError


def compare(wave, reference, at_s=0.0, other_at_s=0.0, span_s=2.0):
    return coherence(wave, reference, wave_start_s=at_s, reference_start_s=other_at_s, span_s=span_s)


def coloured(wave):
    """Return the wave through a tilted filter that also turns its phase."""
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1 / RATE)
    return scaled(np.fft.irfft(spectrum * np.exp(2j) / (1 + hz / 500), len(wave)))


COPIES = {
    "mp3": lambda wave: stored(wave, "MP3"),
    "opus": lambda wave: stored(wave, "OGG", "OPUS", 48_000),
    "8 kHz": lambda wave: soxr.resample(soxr.resample(wave, RATE, 8000), 8000, RATE).astype(np.float32),
    "quieter": lambda wave: wave / 8,
    "clipped": lambda wave: np.clip(4 * wave, -1, 1),
    "upside down": lambda wave: -wave,
    "coloured": coloured,
    "noisy": lambda wave: with_noise(wave, 10),
    "mixed": lambda wave: scaled(wave + voice(99)[: len(wave)]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("copy", COPIES)
def test_copies_are_one_sound(kind, copy):
    wave = KINDS[kind](1)
    heard = compare(COPIES[copy](wave), wave)
    assert heard.evidence > MIN_EVIDENCE
    assert abs(heard.delay_s) <= 1 / 8000
    assert 0 < heard.share <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_samples_have_all_in_common(kind):
    assert compare(KINDS[kind](2), KINDS[kind](2)).share > 0.99


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("other", KINDS)
def test_different_sounds_are_not(kind, other):
    found = [compare(KINDS[kind](a), KINDS[other](b + 100)).evidence for a in range(3) for b in range(3)]
    assert max(found) < MIN_EVIDENCE / 2


def test_notes_of_one_pitch_are_not():
    rng = np.random.default_rng(5)
    for pitch_hz in (110.0, 261.6, 440.0, 880.0):
        one, other = (scaled(note(pitch_hz, 2 * RATE, rng)) for _ in range(2))
        assert compare(one, other).evidence < MIN_EVIDENCE / 2


def test_a_steady_tone_proves_nothing_even_of_itself():
    tone = scaled(np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE))
    assert compare(tone, tone).evidence < MIN_EVIDENCE


def test_a_common_attack_is_not_a_common_sound():
    rng = np.random.default_rng(3)
    window = np.hanning(1600)
    common = rng.standard_normal(1600) * window
    pair = []
    for _ in range(2):
        wave = 0.02 * rng.standard_normal(2 * RATE)
        wave[8000:9600] += np.sqrt(0.75) * common + np.sqrt(0.25) * rng.standard_normal(1600) * window
        pair.append(scaled(wave))
    assert compare(*pair).evidence < MIN_EVIDENCE
    assert compare(*pair, at_s=0.45, other_at_s=0.45, span_s=0.2).evidence > MIN_EVIDENCE, "alone it would be"


def test_a_loud_part_is_a_common_sound():
    """A bark that was cut out and laid over another murmur: most of the time nothing agrees."""
    rng = np.random.default_rng(7)
    bark = KINDS["noise"](8, 0.4)
    pair = 0.01 * rng.standard_normal((2, 3 * RATE))
    pair[:, RATE : RATE + len(bark)] += bark
    heard = compare(*map(scaled, pair), span_s=3.0)
    assert heard.evidence > MIN_EVIDENCE
    assert heard.share < 0.2


def test_clicks_are_not_one_sound():
    rng = np.random.default_rng(4)
    for _ in range(10):
        pair = 1e-4 * rng.standard_normal((2, 2 * RATE))
        pair[:, RATE : RATE + 160] += rng.standard_normal((2, 160)) * np.exp(-np.arange(160) / 30)
        assert compare(*map(scaled, pair)).evidence < MIN_EVIDENCE


def test_a_voice_one_period_late_is_not_in_its_place():
    """A buzz of one pitch agrees with itself a period later, nearly as well as at once."""
    rng = np.random.default_rng(5)
    turns = np.cumsum(120.0 * (1 + 0.02 * np.sin(2 * np.pi * 0.7 * np.arange(2 * RATE) / RATE))) / RATE
    buzz = sum(rng.uniform(0.5, 1) * np.sin(2 * np.pi * k * turns) for k in range(1, 30))
    one, other = (scaled(buzz + 0.02 * rng.standard_normal(2 * RATE)) for _ in range(2))
    late = compare(one, other, at_s=3 / 120 + 0.0005, other_at_s=0.0)
    assert late.evidence < MIN_EVIDENCE
    assert compare(one, other).evidence > MIN_EVIDENCE


@pytest.mark.parametrize("delay", [-300, -7, 0, 5, 319])
def test_the_delay_is_found(delay):
    wave = voice(3)
    heard = compare(wave, wave, at_s=0.5, other_at_s=0.5 - delay / RATE)
    assert heard.delay_s == pytest.approx(delay / RATE, abs=0.6 / 8000)
    assert heard.evidence > MIN_EVIDENCE


def test_beyond_reach_the_sound_is_another():
    wave = KINDS["noise"](3)
    assert compare(wave, wave, at_s=0.5, other_at_s=0.5 + 2 * MAX_DELAY_S).evidence < MIN_EVIDENCE


def test_only_the_span_counts():
    wave, other = voice(4), voice(5)
    joined = np.concatenate([other, wave[RATE:]])
    assert compare(joined, wave, at_s=3.0, other_at_s=1.0).evidence > MIN_EVIDENCE
    assert compare(joined, wave, at_s=0.0, other_at_s=0.0).evidence < MIN_EVIDENCE


def test_what_lies_outside_a_wave_is_left_out():
    wave = notes(6)
    whole = compare(wave, wave, span_s=7.0)
    assert whole.evidence == compare(wave, wave, span_s=3.0).evidence
    cut = compare(wave[RATE:], wave, at_s=-0.5, other_at_s=0.5, span_s=2.5)
    assert cut == compare(wave[RATE:], wave, at_s=0.0, other_at_s=1.0, span_s=2.0)


def test_of_long_spans_the_middle_is_compared():
    common = np.concatenate([voice(seed) for seed in range(6)])
    before = np.concatenate([voice(50), common[3 * RATE :]])
    middle = compare(before, common, span_s=18.0)
    assert middle == compare(before, common, at_s=5.0, other_at_s=5.0, span_s=8.0)
    assert middle.share > 0.99


@pytest.mark.parametrize(("at_s", "span_s"), [(0.0, 0.1), (2.9, 2.0), (5.0, 1.0), (-4.0, 3.0)])
def test_too_little_says_nothing(at_s, span_s):
    wave = voice(7)
    heard = compare(wave, wave, at_s=at_s, other_at_s=at_s, span_s=span_s)
    assert (heard.evidence, heard.share) == (0.0, 0.0)


def test_silence_says_nothing():
    silence = np.zeros(2 * RATE, np.float32)
    assert compare(silence, silence).evidence == pytest.approx(0.0, abs=1e-6)
    assert compare(silence, voice(8)).evidence == pytest.approx(0.0, abs=1e-6)


def test_both_directions_agree():
    one, other = voice(9), COPIES["noisy"](voice(9))
    there, back = compare(one, other, other_at_s=0.01), compare(other, one, at_s=0.01)
    assert there.evidence == pytest.approx(back.evidence, rel=1e-3)
    assert there.delay_s == pytest.approx(-back.delay_s, abs=1e-9)


@pytest.mark.parametrize("side", [0, 1])
def test_what_is_no_wave_is_refused(side):
    waves = [voice(1), voice(1)]
    waves[side] = waves[side].copy()
    waves[side][RATE] = np.nan
    with pytest.raises(AudioError, match="finite"):
        compare(*waves)
    waves[side] = np.zeros((2, RATE), np.float32)
    with pytest.raises(AudioError):
        compare(*waves)
