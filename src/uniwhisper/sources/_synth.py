"""A small sampler: renders one note of a soundfont preset to a mono wave at 16 kHz.

Takes the regions of a note (`_soundfont`) and gives an array. Guarantees: the same note of the same file is always the
same array. Pitch is changed by resampling the looped sample straight to 16 kHz, which cannot alias; volume envelope and
low-pass filter follow the SoundFont specification; regions of a stereo pair are added up.

Source: SoundFont Technical Specification 2.04, sections 8.1.3 (units of the generators), 8.4.1 and 8.4.2 (velocity to
attenuation and to filter cutoff), 9.1 (oscillator, filter, volume envelope).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import soxr

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.errors import LayoutError
from uniwhisper.sources._soundfont import Region, SoundFont, Zone

__all__ = ["render_note"]

_ENVELOPE_RANGE_DB = 100.0  # decay and release times are those of a fall by 100 dB
_CUTOFF_RANGE_CENTS = (1_500, 13_500)
_VELOCITY_TO_CUTOFF_CENTS = -2_400
_MIDI_0_HZ = 8.176  # frequency of MIDI key 0, the origin of absolute cents
_FULL_PEAK = 0.7
_RATES = (100.0, float(1 << 24))
"""Samples per second at which a sample may be played: 44.1 kHz is far within it, eight octaves up or down."""
_SILENCE = 1e-5
_TIMES = ("delay", "attack", "hold", "decay", "release")


def render_note(
    font: SoundFont, *, program: int, pitch: int, velocity: int, duration_s: float, release_at_s: float
) -> np.ndarray:
    """Return a note as a float32 wave [samples] at 16 kHz with a peak of `0.7 * velocity / 127`; silence stays silent.

    Loudness is set here, because soundfonts level their presets differently; timbre and envelope are the soundfont's.

    Args:
        font: The soundfont.
        program: General MIDI program, 0 to 127, of bank 0.
        pitch: MIDI key.
        velocity: MIDI velocity, 1 to 127.
        duration_s: Length of the result.
        release_at_s: When the key is let go.

    Raises:
        LayoutError: A sample of the soundfont cannot be read or played.
    """
    time_s = np.arange(round(duration_s * SAMPLE_RATE)) / SAMPLE_RATE
    mix = np.zeros(len(time_s))
    for region in font.regions(program, pitch, velocity):
        generators = region.generators
        rise, fall = _Envelope.of(generators, 25, pitch, generators[29] / 1000).stages(time_s, release_at_s)
        wave = _oscillator(font, region, pitch, len(time_s))
        wave = _low_pass(wave, generators, velocity, np.clip(rise - fall, 0, 1))
        volume = _Envelope.of(generators, 33, pitch, generators[37] / 10 / _ENVELOPE_RANGE_DB)
        rise, fall = volume.stages(time_s, release_at_s)
        loss_db = fall * _ENVELOPE_RANGE_DB + max(generators[48], 0) / 10
        mix += wave * rise * 10 ** (-loss_db / 20)
    peak = np.abs(mix).max(initial=0.0)
    if peak < _SILENCE:
        return np.zeros(len(time_s), np.float32)
    return (mix * (_FULL_PEAK * velocity / 127 / peak)).astype(np.float32)


def _oscillator(font: SoundFont, region: Region, pitch: int, num_samples: int) -> np.ndarray:
    """Return the region's sample at the note's pitch, looped and cut or filled up to `num_samples` at 16 kHz."""
    generators, sample = region.generators, region.sample
    root = generators[58] if generators[58] >= 0 else sample.root_key
    cents = (pitch - root) * generators[56] + 100 * generators[51] + generators[52] + sample.correction_cents
    source_rate = sample.sample_rate * 2.0 ** (cents / 1200)
    if not _RATES[0] <= source_rate <= _RATES[1]:
        raise LayoutError(
            f"{font.path}: expected sample {sample.name!r} to be played at a rate from {_RATES[0]:g} to {_RATES[1]:g} "
            f"Hz for key {pitch}, found {source_rate:g} Hz: the soundfont is damaged"
        )
    num_source = int(np.ceil(num_samples * source_rate / SAMPLE_RATE)) + 1
    wave = font.wave(sample)
    start = max(0, min(generators[0] + 32_768 * generators[4], len(wave) - 1))
    end = max(start + 1, len(wave) + min(0, generators[1] + 32_768 * generators[12]))
    loop_start = sample.loop_start + generators[2] + 32_768 * generators[45]
    loop_end = sample.loop_end + generators[3] + 32_768 * generators[50]
    loops = generators[54] & 1 and start <= loop_start < loop_end <= len(wave)
    if loops:
        head, loop = wave[start:loop_end], wave[loop_start:loop_end]
        repeats = max(0, int(np.ceil((num_source - len(head)) / len(loop))))
        wave = np.concatenate([head, np.tile(loop, repeats)])
    else:
        wave = wave[start:end]
    resampled = soxr.resample(wave[:num_source], source_rate, SAMPLE_RATE)[:num_samples]
    return np.pad(resampled, (0, num_samples - len(resampled)))


def _low_pass(wave: np.ndarray, generators: Zone, velocity: int, openness: np.ndarray) -> np.ndarray:
    """Return `wave` through the region's low-pass filter, whose cutoff follows the modulation envelope.

    The filter is applied to the spectrum twice, fully opened and as sustained, and `openness` fades between the two:
    far cheaper than a filter that changes with every sample, and the same at both ends.
    """
    cents = generators[8] + _VELOCITY_TO_CUTOFF_CENTS * (1 - velocity / 127)
    opened, shut = (_filtered(wave, cents + modulation, generators[9]) for modulation in (generators[11], 0))
    return shut + openness * (opened - shut) if generators[11] else opened


def _filtered(wave: np.ndarray, cutoff_cents: float, resonance_cb: int) -> np.ndarray:
    """Return `wave` through a resonant two-pole low-pass filter."""
    cutoff_hz = _MIDI_0_HZ * 2 ** (np.clip(cutoff_cents, *_CUTOFF_RANGE_CENTS) / 1200)
    if cutoff_hz >= SAMPLE_RATE / 2:
        return wave
    size = 2 * len(wave)  # room for the filter's ringing, so that nothing wraps around
    ratio = np.fft.rfftfreq(size, 1 / SAMPLE_RATE) / cutoff_hz
    quality = 10 ** (max(0, resonance_cb) / 200) / np.sqrt(2)  # centibels above the flat response
    response = 1 / (1 - ratio**2 + 1j * ratio / quality)
    return np.fft.irfft(np.fft.rfft(wave, size) * response, size)[: len(wave)]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Envelope:
    """Times in seconds; `sustain` is the share, 0 to 1, of the whole fall at which decay stops."""

    delay: float
    attack: float
    hold: float
    decay: float
    release: float
    sustain: float

    @classmethod
    def of(cls, generators: Zone, first: int, pitch: int, sustain: float) -> _Envelope:
        """Return the envelope whose six generators start at number `first`; hold and decay scale with the key."""
        amounts = [generators[first + index] for index in (0, 1, 2, 3, 5)]
        for index, scale in ((2, first + 6), (3, first + 7)):
            amounts[index] += (60 - pitch) * generators[scale]
        times = [float(2 ** (amount / 1200)) for amount in amounts]  # timecents
        return cls(**dict(zip(_TIMES, times, strict=True)), sustain=min(max(sustain, 0.0), 1.0))

    def stages(self, time_s: np.ndarray, release_at_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Return the rise (0 to 1) and the share of the whole fall (0 and more), at every time."""
        held = np.minimum(time_s, release_at_s)
        rise = np.clip((held - self.delay) / self.attack, 0, 1)
        fall = np.clip((held - self.delay - self.attack - self.hold) / self.decay, 0, self.sustain)
        return rise, fall + np.maximum(time_s - release_at_s, 0) / self.release
