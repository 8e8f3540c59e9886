"""Hashes of audio: of the file's bytes, and of the samples behind them.

Reads bytes and waves, writes nothing. Two files have one `pcm_hash` if they decode to the same 16-bit samples at
16 kHz, whatever their container, their losslessness and the silence around them; silence itself has none, so silent
clips are never twins of each other. Lossy copies differ in both hashes: that is what fingerprints are for.
"""

from __future__ import annotations

import hashlib

import numpy as np

from uniwhisper.dedup.fingerprint import check_wave

__all__ = ["SILENCE_STEPS", "file_sha256", "pcm_hash"]

SILENCE_STEPS = 8
"""Samples at either end of at most so many 16-bit steps (-72 dB of full scale) are silence: dither, but no sound."""
_FULL_SCALE = 32_768  # as soundfile divides 16-bit samples, so that they come back as they were
_DIGEST_BYTES = 16
_MIN_SAMPLES = 800  # 50 ms: clicks shorter than that are alike without being copies
_BLOCK = 1 << 20


def file_sha256(data: bytes) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def pcm_hash(wave: np.ndarray) -> str:
    """Return a hash of the samples between the silence at both ends as 32 hex digits; empty below 50 ms of sound.

    Args:
        wave: Mono audio [N] at 16 kHz, floats in [-1, 1].

    Raises:
        AudioError: The wave is not one-dimensional, not of floats, or not finite.
    """
    check_wave(wave)
    samples = np.empty(len(wave), "<i2")
    for start in range(0, len(wave), _BLOCK):
        # Multiplied by a power of two and rounded, samples that were 16-bit integers are those integers again.
        steps = np.rint(wave[start : start + _BLOCK] * _FULL_SCALE)
        samples[start : start + _BLOCK] = np.clip(steps, -_FULL_SCALE, _FULL_SCALE - 1)
    sounding = (samples > SILENCE_STEPS) | (samples < -SILENCE_STEPS)
    if not sounding.any():
        return ""
    trimmed = samples[sounding.argmax() : len(samples) - sounding[::-1].argmax()]
    if len(trimmed) < _MIN_SAMPLES:
        return ""
    return hashlib.blake2b(trimmed.tobytes(), digest_size=_DIGEST_BYTES).hexdigest()
