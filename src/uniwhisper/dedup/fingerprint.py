"""Acoustic fingerprints: one 32-bit word for every 16 or 36 ms of sound, equal for equal sound however it was stored.

Reads waves and writes nothing. A word says for 32 pairs of neighbouring bands (200 to 3700 Hz, so that telephone
quality keeps them) whether their difference grew or fell over 144 ms; each energy is taken over 256 ms. Guarantees: a
gain changes no word but by rounding; temporaries are a fraction of the wave, however long it is; frames of silence are
marked and never compared; a wave too short for one word gives a fingerprint without words.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import soxr

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.errors import AudioError, ConfigError

__all__ = [
    "DECIMATED_RATE",
    "FRAME_SPAN_S",
    "INDEX_HOP_MS",
    "MIN_SOUND_MS",
    "NUM_WEAK_BITS",
    "QUERY_HOP_MS",
    "SHORT_QUERY_HOP_MS",
    "SHORT_QUERY_S",
    "Fingerprint",
    "check_wave",
    "decimate",
    "fingerprint",
    "fingerprint_query",
]

# Source of the scheme (signs of energy differences along bands and time, 32 bits a frame, 33 logarithmic bands, long
# overlapping windows): J. Haitsma, T. Kalker, "A Highly Robust Audio Fingerprinting System", ISMIR 2002, section 4.2.
# Window, bands, lag, exponent and hops are ours, measured by benchmarks/dedup_recall.py.
_WINDOW = 2_048  # samples at the lower rate: 256 ms, so that a shift of some milliseconds changes little
_LAG_MS = 144  # between the two energies of a difference: long enough for the change to exceed a codec's noise
_LOWEST_HZ, _HIGHEST_HZ, _NUM_BANDS = 200.0, 3_700.0, 33
_EXPONENT = 0.25  # of energies before differences: between power (loud bands rule) and logarithm (noise rules)
_SILENCE = 10.0 ** (-75 / 10)  # mean square between 200 and 3700 Hz: 15 dB above the rounding of 16-bit samples
_BLOCK_FRAMES = 64  # transformed at once: stays in the processor's cache
_BLOCK_SAMPLES = 60 * SAMPLE_RATE

DECIMATED_RATE = 8_000
"""Hz at which sounds are compared; every band lies below 4 kHz."""
INDEX_HOP_MS = 16
"""Milliseconds from one word to the next where clips are searched in."""
QUERY_HOP_MS = 36
"""The same of what is searched for. No multiple of the index's: a query meets the index at every phase of its grid."""
SHORT_QUERY_HOP_MS = 18
"""The same of short queries, which would otherwise have few words."""
SHORT_QUERY_S = 4.0
"""Below this length a query is short."""
MIN_SOUND_MS = 200
"""Milliseconds in which words must begin that mean something; below, copies are missed (benchmarks/dedup_recall.py)."""
NUM_WEAK_BITS = 10
"""Bits of a word that are named as its least certain."""
FRAME_SPAN_S = _LAG_MS / 1000 + _WINDOW / DECIMATED_RATE
"""Seconds of sound that one word hears: two windows, one lag apart."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Fingerprint:
    """The words of a wave; T of them, the i-th heard from `i * hop_ms` on for `FRAME_SPAN_S`."""

    words: np.ndarray
    """[T] uint32."""
    weak: np.ndarray
    """[T, NUM_WEAK_BITS] uint8: the bits of each word nearest to their other value, the nearest first."""
    informative: np.ndarray
    """[T] bool: False where there is no sound to speak of, and the word means nothing."""
    hop_ms: int
    duration_s: float
    """Length of the wave."""

    @property
    def num_informative(self) -> int:
        """Return how many words mean something."""
        return int(np.count_nonzero(self.informative))

    @property
    def is_usable(self) -> bool:
        """Return whether there is enough sound for a copy to be found with certainty."""
        return self.num_informative * self.hop_ms >= MIN_SOUND_MS

    @property
    def strong(self) -> np.ndarray:
        """Return masks [T] uint32 of the bits that are not weak."""
        weak = np.bitwise_or.reduce(np.uint32(1) << self.weak.astype(np.uint32), axis=1, dtype=np.uint32)
        return ~weak


def fingerprint(wave: np.ndarray, *, hop_ms: int = INDEX_HOP_MS) -> Fingerprint:
    """Return the fingerprint of a wave.

    Args:
        wave: Mono audio [N] at 16 kHz, floats in [-1, 1].
        hop_ms: Milliseconds between words; a divisor of 144.

    Raises:
        AudioError: The wave is not one-dimensional, not of floats, or not finite.
        ConfigError: `hop_ms` is no divisor of 144.
    """
    if hop_ms < 1 or _LAG_MS % hop_ms:
        raise ConfigError(f"expected hop_ms to divide {_LAG_MS}, found {hop_ms}: use {INDEX_HOP_MS} or {QUERY_HOP_MS}")
    check_wave(wave)
    energies = _energies(wave, hop_ms * DECIMATED_RATE // 1000)
    lag = _LAG_MS // hop_ms
    levels = energies.sum(axis=1)
    along_bands = np.diff(energies**_EXPONENT, axis=1)
    change = along_bands[lag:] - along_bands[:-lag]
    count = len(change)
    weak = np.argsort(np.abs(change), axis=1, kind="stable")[:, :NUM_WEAK_BITS]
    return Fingerprint(
        words=np.packbits(change > 0, axis=1, bitorder="little").view("<u4").reshape(count).astype(np.uint32),
        weak=weak.astype(np.uint8),
        informative=np.maximum(levels[lag:], levels[:-lag]) > _SILENCE,
        hop_ms=hop_ms,
        duration_s=len(wave) / SAMPLE_RATE,
    )


def fingerprint_query(wave: np.ndarray) -> Fingerprint:
    """Return the fingerprint of a wave to be searched for: words are denser where it is short.

    Raises:
        AudioError: The wave is not one-dimensional, not of floats, or not finite.
    """
    short = len(wave) < SHORT_QUERY_S * SAMPLE_RATE
    return fingerprint(wave, hop_ms=SHORT_QUERY_HOP_MS if short else QUERY_HOP_MS)


def check_wave(wave: np.ndarray) -> None:
    """Raise unless a wave is one-dimensional, of floats and finite.

    Raises:
        AudioError: It is not.
    """
    if wave.ndim != 1 or not np.issubdtype(wave.dtype, np.floating):
        raise AudioError(f"expected a wave of floats [samples], found {wave.dtype} of shape {wave.shape}")
    if len(wave) and not (math.isfinite(wave.max()) and math.isfinite(wave.min())):
        bad = int(np.flatnonzero(~np.isfinite(wave))[0])
        raise AudioError(f"expected finite samples, found {wave[bad]} at sample {bad}: repair or leave out the clip")


def decimate(wave: np.ndarray) -> Iterator[np.ndarray]:
    """Yield a 16 kHz wave at 8 kHz, in blocks of at most a minute."""
    stream = soxr.ResampleStream(SAMPLE_RATE, DECIMATED_RATE, 1, dtype="float32", quality="HQ")
    for start in range(0, len(wave), _BLOCK_SAMPLES):
        block = np.ascontiguousarray(wave[start : start + _BLOCK_SAMPLES], dtype=np.float32)
        yield stream.resample_chunk(block, last=start + _BLOCK_SAMPLES >= len(wave))


def _energies(wave: np.ndarray, hop: int) -> np.ndarray:
    """Return the mean square of every band [frames, _NUM_BANDS] in windows that begin `hop` samples apart."""
    found: list[np.ndarray] = []
    pending = np.zeros(0, np.float32)
    for block in decimate(wave):
        pending = np.concatenate([pending, block])
        if len(pending) < _WINDOW:
            continue
        windows = np.lib.stride_tricks.sliding_window_view(pending, _WINDOW)[::hop]
        for start in range(0, len(windows), _BLOCK_FRAMES):
            spectrum = np.fft.rfft(windows[start : start + _BLOCK_FRAMES] * _TAPER, axis=1)
            found.append((spectrum.real**2 + spectrum.imag**2) @ _BANDS)
        pending = pending[len(windows) * hop :]
    return np.concatenate(found) if found else np.zeros((0, _NUM_BANDS), np.float32)


def _bands() -> np.ndarray:
    """Return the matrix [bins, bands] that turns a power spectrum into the mean square of every band."""
    spacing = DECIMATED_RATE / _WINDOW
    bins = np.arange(_WINDOW // 2 + 1)[:, None] * spacing
    edges = np.geomspace(_LOWEST_HZ, _HIGHEST_HZ, _NUM_BANDS + 1)
    inside = np.minimum(bins + spacing / 2, edges[1:]) - np.maximum(bins - spacing / 2, edges[:-1])
    scale = 2.0 / (_WINDOW * float((_TAPER**2).sum()))  # Parseval's, for one side of the spectrum
    return (np.clip(inside, 0.0, None) / spacing * scale).astype(np.float32)


_TAPER = np.hanning(_WINDOW + 1)[:-1].astype(np.float32)
_BANDS = _bands()
