"""Whether two waves hold the same sound: the test that decides on what the fingerprints propose.

Reads two waves and where they are said to meet; writes nothing. A recording keeps its waveform through codecs,
resampling, gain, cropping and added noise, and two recordings hardly ever share one, however alike they sound: the
same speaker saying the same sentence twice, or two rain showers. In twelve bands between 200 and 3700 Hz the waves are
correlated at the delay that suits them best; each band counts by how much of it agrees and by how many independent
values it holds. From that, what the best other delay would give is subtracted, because a steady tone agrees with every
tone of its pitch at one delay or another, and proves nothing. Gain, colour and constant phase of a band do not matter.

This is done twice: with loudness evened out over time, where two voices or strings that share an attack or a vowel are
found to differ in the rest, and as it is, for copies under noise or of a part, which have to agree far more.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.dedup.fingerprint import DECIMATED_RATE, check_wave, decimate

__all__ = ["MAX_DELAY_S", "Coherence", "coherence"]

MAX_DELAY_S = 0.02
"""How far the stated meeting may be off: fingerprints lie on a grid of 16 ms."""

_EDGES_HZ = np.geomspace(200.0, 3_700.0, 13)
_MAX_SPAN_S, _MIN_SPAN_S = 8.0, 0.2
_MAX_DELAY = round(MAX_DELAY_S * DECIMATED_RATE)
_SEARCHED = 400  # delays looked at for the alternative, samples: 50 ms, three periods of the lowest notes
_PEAKS = 8  # delays tried out
_PEAK_WIDTH = 4  # samples around a peak that belong to it
_SAME_PEAK = 12  # samples around the best delay that are no alternative to it: 1.5 ms
_FADE = 0.25  # of the span, at either end: an abrupt end spreads a tone over all bands
_FRAME, _HOP = 256, 128  # for how the energy is spread over time: 32 and 16 ms
_EVENING = 800  # samples over which loudness is measured to even it out: 100 ms
_EVENING_FLOOR = 1e-5  # of the loudest: quieter moments are not brought up to it
_UNEVEN_WEIGHT = 0.3  # of evidence without evening
_MAX_SHARE = 1.0 - 1e-4  # more agreement than this says nothing about the sound, only about rounding
_LEAKAGE = 1e-6  # of the mean density
_TINY = 1e-20


@dataclass(frozen=True, kw_only=True, slots=True)
class Coherence:
    """How far two waves agree."""

    evidence: float
    """That it is the same sound, over the best other delay; near 0 for different sounds, also negative."""
    share: float
    """Share of the sound, loudness evened out and bands weighed by their independent values, that is common."""
    delay_s: float
    """How much later the sound comes in the reference than was stated; within `MAX_DELAY_S`."""


def coherence(
    wave: np.ndarray, reference: np.ndarray, *, wave_start_s: float, reference_start_s: float, span_s: float
) -> Coherence:
    """Return how far a span of `wave` agrees with one of `reference`; of long spans the middle 8 s are compared.

    Args:
        wave: Mono audio [N] at 16 kHz.
        reference: Mono audio [M] at 16 kHz.
        wave_start_s: Where the span begins in `wave`.
        reference_start_s: Where it begins in `reference`, give or take `MAX_DELAY_S`.
        span_s: Its length; what lies outside either wave is left out.

    Raises:
        AudioError: A span is not one-dimensional, not of floats, or not finite.
    """
    for whole in (wave, reference):
        check_wave(whole[:0])  # shape and type; of the samples only those compared are looked at
    if span_s > _MAX_SPAN_S:
        skipped_s = (span_s - _MAX_SPAN_S) / 2
        wave_start_s, reference_start_s = wave_start_s + skipped_s, reference_start_s + skipped_s
    at, other_at = round(wave_start_s * SAMPLE_RATE), round(reference_start_s * SAMPLE_RATE)
    skipped = max(0, -at, -other_at)
    at, other_at = at + skipped, other_at + skipped
    count = min(round(min(span_s, _MAX_SPAN_S) * SAMPLE_RATE) - skipped, len(wave) - at, len(reference) - other_at)
    if count < _MIN_SPAN_S * SAMPLE_RATE:
        return Coherence(evidence=0.0, share=0.0, delay_s=0.0)
    spans = wave[at : at + count], reference[other_at : other_at + count]
    for span in spans:
        check_wave(span)
    a, b = (np.concatenate(list(decimate(span))) for span in spans)
    evening = _evening(a, b)
    even, uneven = _compare(a * evening, b * evening), _compare(a, b)
    if even.evidence >= _UNEVEN_WEIGHT * uneven.evidence:
        return even
    return Coherence(evidence=_UNEVEN_WEIGHT * uneven.evidence, share=even.share, delay_s=uneven.delay_s)


def _compare(a: np.ndarray, b: np.ndarray) -> Coherence:
    """Return how far two spans of equal length at the lower rate agree."""
    fade = _fade(len(a))
    a, b = a * fade, b * fade
    size = _transform_size(len(a) + 2 * _SEARCHED)
    left, right = np.fft.rfft(a, size), np.fft.rfft(b, size)
    edges = np.rint(_EDGES_HZ * size / DECIMATED_RATE).astype(np.int64)
    inside = slice(edges[0], edges[-1])
    starts = edges[:-1] - edges[0]
    left, right = left[inside], right[inside]
    power_a, power_b = _power(left), _power(right)
    totals = _levels(power_a, starts, edges) * _levels(power_b, starts, edges) + _TINY
    values = np.diff(_EDGES_HZ) * len(a) / DECIMATED_RATE  # that a band can hold where it is filled evenly
    over_bins = totals / (np.add.reduceat(power_a * power_b, starts) + _TINY) * len(a) / size * (1 - _FADE)
    filled = np.minimum(over_bins / values, 1.0) * np.minimum(_filled_time(a, b), 1.0)
    weights = np.maximum(values * filled - 1.0, 0.0)
    cross = right * np.conj(left)
    delays = _peaks(cross / np.repeat(np.sqrt(totals), np.diff(edges)), edges, size)
    turns = _turns(size)
    bins = np.arange(edges[0], edges[-1])
    shares = np.array(
        [_power(np.add.reduceat(cross * turns[bins * d % size], starts)) / totals for d in delays.tolist()]
    )
    shares = np.minimum(shares, _MAX_SHARE)
    evidence = (weights * shares * -np.log1p(-shares)).sum(axis=1)
    best = int(np.argmax(np.where(np.abs(delays) <= _MAX_DELAY, evidence, -np.inf)))
    others = np.abs(delays - delays[best]) > _SAME_PEAK
    share = float((weights * shares[best]).sum() / max(weights.sum(), _TINY))
    alternative = evidence[others].max() if others.any() else 0.0
    return Coherence(
        evidence=float(evidence[best] - alternative) * share**0.5,  # voices agree a little over many values
        share=share,
        delay_s=float(delays[best]) / DECIMATED_RATE,
    )


def _levels(power: np.ndarray, starts: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the power of every band, of which a little is taken for noise: empty bands hold what others leak."""
    return np.add.reduceat(power, starts) + _LEAKAGE * power.mean() * np.diff(edges)


def _power(spectrum: np.ndarray) -> np.ndarray:
    """Return squared magnitudes."""
    return np.real(spectrum) ** 2 + np.imag(spectrum) ** 2


def _peaks(cross: np.ndarray, edges: np.ndarray, size: int) -> np.ndarray:
    """Return delays in samples at which the waves agree best over all bands, the best within reach the first."""
    spectrum = np.zeros(size // 2 + 1, cross.dtype)
    spectrum[edges[0] : edges[-1]] = cross
    correlation = np.abs(np.fft.irfft(spectrum, size))
    heights = np.concatenate([correlation[-_SEARCHED:], correlation[: _SEARCHED + 1]])
    reach = heights[_SEARCHED - _MAX_DELAY : _SEARCHED + _MAX_DELAY + 1]
    at = int(reach.argmax()) + _SEARCHED - _MAX_DELAY
    found: list[int] = []
    for _ in range(_PEAKS):
        found.append(at - _SEARCHED)
        heights[max(0, at - _PEAK_WIDTH) : at + _PEAK_WIDTH + 1] = 0.0
        at = int(heights.argmax())
    return np.array(found)


def _filled_time(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the share of the time in which both waves have energy in each band [bands]."""
    edges = np.rint(_EDGES_HZ * _FRAME / DECIMATED_RATE).astype(np.int64)
    for i in range(1, len(edges)):
        edges[i] = max(edges[i], edges[i - 1] + 1)  # the lowest bands are narrower than a bin
    taper = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
    levels = []
    for x in (a, b):
        spectrum = np.fft.rfft(np.lib.stride_tricks.sliding_window_view(x, _FRAME)[::_HOP] * taper, axis=1)
        levels.append(np.add.reduceat(_power(spectrum), edges[:-1], axis=1))
    together = (levels[0] * levels[1]).mean(axis=0) + _TINY
    return levels[0].mean(axis=0) * levels[1].mean(axis=0) / together


def _evening(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the gain [samples] that evens out the loudness that two spans have in common."""
    gain = np.ones(len(a))
    for x in (a, b):
        sums = np.concatenate([[0.0], np.cumsum(np.square(x, dtype=np.float64))])
        at = np.arange(len(x))
        first, last = np.maximum(at - _EVENING // 2, 0), np.minimum(at + _EVENING // 2, len(x))
        power = (sums[last] - sums[first]) / (last - first)
        gain *= (power + _EVENING_FLOOR * power.max() + _TINY) ** -0.25
    return gain.astype(np.float32)


def _fade(count: int) -> np.ndarray:
    """Return a window of ones with cosine slopes at both ends."""
    slope = round(_FADE * count)
    rising = (0.5 - 0.5 * np.cos(np.pi * (np.arange(slope) + 0.5) / slope)).astype(np.float32)
    return np.concatenate([rising, np.ones(count - 2 * slope, np.float32), rising[::-1]])


@functools.lru_cache(maxsize=16)
def _turns(size: int) -> np.ndarray:
    """Return one turn around the unit circle [size]; there are eight sizes for every doubling of the length."""
    return np.exp(2j * np.pi / size * np.arange(size)).astype(np.complex64)


def _transform_size(count: int) -> int:
    """Return the smallest size of at least `count` whose transform is fast: 9 to 16 times a power of two."""
    step = 1 << max(0, count.bit_length() - 4)
    return -(-count // step) * step
