"""Copies of a clip as they turn up in other data sets: encoded, resampled, louder, cut, shifted, noisy, mixed.

Reads a wave and returns the copy as a wave at 16 kHz, with the place of the copy's beginning in the original. Encoding
needs FFmpeg's libraries (`pip install av`). Every choice is drawn from the generator that is handed in.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import soxr

from uniwhisper.audio import SAMPLE_RATE

__all__ = ["KINDS", "Copy", "Kind", "encoded", "mixed", "noisy"]

_OPUS_RATE = 48_000
_MAX_SHIFT_S = 0.5
_STEPS = 32_767  # of 16-bit samples


@dataclass(frozen=True, kw_only=True, slots=True)
class Copy:
    """A copy of a clip."""

    wave: np.ndarray
    """[samples] at 16 kHz."""
    start_s: float = 0.0
    """Where the copy begins in the original; negative where something comes before."""


Kind = Callable[[np.ndarray, np.ndarray, np.random.Generator], Copy | None]
"""Makes a copy of the first wave; the second is an unrelated sound to mix in. None where the clip is too short."""


def encoded(wave: np.ndarray, codec: str, container: str, sample_rate: int, kbit_s: int) -> np.ndarray:
    """Return the wave after a lossy codec, mono at the given rate."""
    import av

    samples = wave if sample_rate == SAMPLE_RATE else soxr.resample(wave, SAMPLE_RATE, sample_rate)
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=sample_rate)
        stream.bit_rate, stream.layout = 1000 * kbit_s, "mono"
        frame = av.AudioFrame.from_ndarray(_to_int16(samples)[None], format="s16", layout="mono")
        frame.sample_rate = sample_rate
        sizing = av.AudioResampler(
            format=stream.codec_context.format,
            layout="mono",
            rate=sample_rate,
            frame_size=stream.codec_context.frame_size or 960,
        )
        for part in [*sizing.resample(frame), *sizing.resample(None)]:
            output.mux(stream.encode(part))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as source:
        rate = source.streams.audio[0].codec_context.sample_rate
        planar = av.AudioResampler(format="fltp", layout="mono", rate=rate)
        parts = [p.to_ndarray()[0] for frame in source.decode(audio=0) for p in planar.resample(frame)]
    decoded = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return _clipped(decoded if rate == SAMPLE_RATE else soxr.resample(decoded, rate, SAMPLE_RATE))


def noisy(wave: np.ndarray, snr_db: float, rng: np.random.Generator) -> np.ndarray:
    """Return the wave with pink noise so many dB below its own level."""
    spectrum = np.fft.rfft(rng.standard_normal(len(wave)))
    noise = np.fft.irfft(spectrum / np.sqrt(np.maximum(np.arange(len(spectrum)), 1)), len(wave))
    return _clipped(wave + noise * (_level(wave) * 10 ** (-snr_db / 20) / max(_level(noise), 1e-12)))


def mixed(wave: np.ndarray, other: np.ndarray, other_db: float) -> np.ndarray:
    """Return the wave with another, repeated to its length, at a level relative to its own."""
    gain = _level(wave) / max(_level(other), 1e-6) * 10 ** (other_db / 20)
    return _clipped(wave + gain * np.resize(other, len(wave)))


def _coded(codec: str, container: str, sample_rate: int, kbit_s: int) -> Kind:
    return lambda wave, other, rng: Copy(wave=encoded(wave, codec, container, sample_rate, kbit_s))


def _gain(db: float) -> Kind:
    """Return a gain as a 16-bit file takes it: rounded, and clipped where it exceeds full scale."""
    return lambda wave, other, rng: Copy(
        wave=(_to_int16(wave * 10 ** (db / 20)).astype(np.float32) / (_STEPS + 1)).astype(np.float32)
    )


def _crop(duration_s: float) -> Kind:
    count = round(duration_s * SAMPLE_RATE)

    def crop(wave: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> Copy | None:
        if len(wave) <= count:
            return None
        start = int(rng.integers(0, len(wave) - count + 1))
        return Copy(wave=wave[start : start + count], start_s=start / SAMPLE_RATE)

    return crop


def _resampled(wave: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> Copy:
    narrow = soxr.resample(wave, SAMPLE_RATE, SAMPLE_RATE // 2)
    return Copy(wave=_clipped(soxr.resample(narrow, SAMPLE_RATE // 2, SAMPLE_RATE)))


def _shifted(wave: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> Copy:
    count = int(rng.integers(1, round(_MAX_SHIFT_S * SAMPLE_RATE)))
    return Copy(wave=np.concatenate([np.zeros(count, np.float32), wave]), start_s=-count / SAMPLE_RATE)


def _clipped(wave: np.ndarray) -> np.ndarray:
    return np.clip(wave, -1.0, 1.0).astype(np.float32)


def _to_int16(wave: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(wave * (_STEPS + 1)), -_STEPS - 1, _STEPS).astype(np.int16)


def _level(wave: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0


KINDS: dict[str, Kind] = {
    "mp3 64 kbit/s": _coded("libmp3lame", "mp3", SAMPLE_RATE, 64),
    "mp3 128 kbit/s": _coded("libmp3lame", "mp3", SAMPLE_RATE, 128),
    "opus 32 kbit/s": _coded("libopus", "ogg", _OPUS_RATE, 32),
    "resampled to 8 kHz": _resampled,
    "gain -12 dB": _gain(-12.0),
    "gain +12 dB": _gain(12.0),
    "shift 0-0.5 s": _shifted,
    "crop 1 s": _crop(1.0),
    "crop 1.5 s": _crop(1.5),
    "crop 2 s": _crop(2.0),
    "crop 3 s": _crop(3.0),
    "noise 20 dB": lambda wave, other, rng: Copy(wave=noisy(wave, 20.0, rng)),
    "noise 10 dB": lambda wave, other, rng: Copy(wave=noisy(wave, 10.0, rng)),
    "mixed, other at -6 dB": lambda wave, other, rng: Copy(wave=mixed(wave, other, -6.0)),
    "mixed, other at 0 dB": lambda wave, other, rng: Copy(wave=mixed(wave, other, 0.0)),
}
"""Every kind of copy by name; the wave's level is that of the mean square."""
