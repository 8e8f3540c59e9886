"""Sounds of three kinds for the dedup tests, made up: voices, noises, notes; and copies of them."""

from __future__ import annotations

import io

import numpy as np
import soundfile
import soxr

RATE = 16_000


def voice(seed: int, duration_s: float = 3.0) -> np.ndarray:
    """Return syllables of a gliding pitch with changing formants, and pauses."""
    rng = np.random.default_rng([1, seed])
    parts = []
    while sum(map(len, parts)) < duration_s * RATE:
        count = int(rng.uniform(0.12, 0.35) * RATE)
        pitch = rng.uniform(90, 250) * (1 + np.linspace(0, rng.uniform(-0.3, 0.3), count))
        phase = 2 * np.pi * np.cumsum(pitch) / RATE
        syllable = np.zeros(count)
        formants = rng.uniform([300, 800, 2000], [900, 2200, 3400])
        for k in range(1, 30):
            level = sum(np.exp(-(((k * pitch.mean() - f) / 200) ** 2)) for f in formants) + 0.01
            syllable += level * np.sin(k * phase + rng.uniform(0, 6.28))
        noise = rng.standard_normal(count) * 0.1 * rng.uniform(0, 1)
        parts.append((syllable + noise) * np.hanning(count))
        parts.append(np.zeros(int(rng.uniform(0.02, 0.12) * RATE)))
    return scaled(np.concatenate(parts)[: round(duration_s * RATE)])


def noise(seed: int, duration_s: float = 3.0) -> np.ndarray:
    """Return wind and drops: coloured noise that swells, and short bursts."""
    rng = np.random.default_rng([2, seed])
    count = round(duration_s * RATE)
    spectrum = np.fft.rfft(rng.standard_normal(count))
    hz = np.fft.rfftfreq(count, 1 / RATE)
    wave = np.fft.irfft(spectrum / (1 + hz / rng.uniform(200, 2000)), count)
    wave *= 1 + 0.8 * np.sin(2 * np.pi * rng.uniform(0.3, 2) * np.arange(count) / RATE)
    for at in rng.integers(0, count - 2000, int(4 * duration_s)):
        wave[at : at + 2000] += rng.standard_normal(2000) * np.exp(-np.arange(2000) / 300) * rng.uniform(0.5, 2)
    return scaled(wave)


def notes(seed: int, duration_s: float = 3.0) -> np.ndarray:
    """Return a tune of decaying notes with a breath of noise."""
    rng = np.random.default_rng([3, seed])
    count = round(duration_s * RATE)
    wave = 0.002 * rng.standard_normal(count)
    for at in range(0, count, 4000):
        left = count - at
        wave[at:] += note(110 * 2 ** (rng.integers(0, 30) / 12), left, rng) * rng.uniform(0.3, 1)
    return scaled(wave)


def note(pitch_hz: float, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return one note: partials of random strength and phase that decay."""
    seconds = np.arange(count) / RATE
    partials = [k for k in range(1, 12) if k * pitch_hz < 7000]
    return sum(
        rng.uniform(0.1, 1)
        / k
        * np.sin(2 * np.pi * k * pitch_hz * seconds + rng.uniform(0, 6.28))
        * np.exp(-seconds * rng.uniform(1, 4))
        for k in partials
    )


KINDS = {"voice": voice, "noise": noise, "notes": notes}


def scaled(wave: np.ndarray, peak: float = 0.5) -> np.ndarray:
    return (wave * (peak / np.abs(wave).max())).astype(np.float32)


def stored(wave: np.ndarray, container: str, subtype: str | None = None, rate: int = RATE) -> np.ndarray:
    """Return the wave as it comes back from a file of that format and rate."""
    file = io.BytesIO()
    soundfile.write(file, soxr.resample(wave, RATE, rate) if rate != RATE else wave, rate, subtype, format=container)
    file.seek(0)
    back, found = soundfile.read(file, dtype="float32")
    return np.clip(soxr.resample(back, found, RATE) if found != RATE else back, -1, 1).astype(np.float32)


def with_noise(wave: np.ndarray, snr_db: float, seed: int = 0) -> np.ndarray:
    hiss = np.random.default_rng([4, seed]).standard_normal(len(wave)) * wave.std() * 10 ** (-snr_db / 20)
    return np.clip(wave + hiss, -1, 1).astype(np.float32)


def all_sounds(each: int = 6, duration_s: float = 3.0) -> dict[str, np.ndarray]:
    """Return so many sounds of every kind by name."""
    return {f"{kind}-{seed}": make(seed, duration_s) for kind, make in KINDS.items() for seed in range(each)}
