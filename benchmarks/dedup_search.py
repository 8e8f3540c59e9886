"""The index of the dedup benchmark with the sounds behind it, and two judges that know nothing of its constants.

`is_twin` looks at the waveforms of a pair sample by sample, `exhaustive` tries all alignments of two clips. Reads
sounds; writes nothing.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dedup_data import Sound
from uniwhisper import audio
from uniwhisper.dedup.coherence import coherence
from uniwhisper.dedup.fingerprint import Fingerprint, fingerprint_query
from uniwhisper.dedup.index import MIN_EVIDENCE, FingerprintIndex, Match, confirm

__all__ = ["Alarm", "Search", "exhaustive", "holds", "is_twin"]

NOTED = 2.5  # evidence from which unrelated pairs are noted
PIECE_S = 0.05
NEAR = 2  # samples by which delays of one sound may differ: resamplers differ by fractions
ALIKE = 0.9  # correlation of pieces of one sound
RUN_S, SPREAD_S = 0.3, 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Alarm:
    """A query and an indexed clip that no table relates."""

    origin: str
    half: str
    query: Sound
    number: int
    found: Sound
    match: Match
    twin: bool
    """Whether the waveforms of the common stretch are one recording's."""


@dataclass(slots=True)
class Search:
    """The index with the sounds behind it, and what its use has cost so far."""

    index: FingerprintIndex
    sounds: Sequence[Sound]
    queries: Counter[tuple[str, str]] = field(default_factory=Counter)
    alarms: list[Alarm] = field(default_factory=list)
    seconds: Counter[str] = field(default_factory=Counter)
    proposals: int = 0

    def ask(
        self, sound: Sound, wave: np.ndarray, origin: str, *, mixed_with: str = ""
    ) -> tuple[Fingerprint, list[Match]]:
        """Return the query's fingerprint and every proposal with its evidence; note those that nothing relates."""
        began = time.perf_counter()
        prints = fingerprint_query(wave)
        fingerprinted = time.perf_counter()
        proposed = self.index.query(prints)
        queried = time.perf_counter()
        matches = [confirm(match, wave, self.sounds[int(match.key)].wave) for match in proposed]
        self.seconds["fingerprint"] += fingerprinted - began
        self.seconds["search"] += queried - fingerprinted
        self.seconds["listen"] += time.perf_counter() - queried
        self.seconds["audio"] += len(wave) / audio.SAMPLE_RATE
        self.proposals += len(proposed)
        self.queries[origin, sound.half] += 1
        for match in matches:
            found = self.sounds[int(match.key)]
            if found.recording not in (sound.recording, mixed_with) and (
                (match.evidence or 0.0) >= NOTED or match.is_confirmed
            ):
                alarm = Alarm(
                    origin=origin,
                    half=sound.half,
                    query=sound,
                    number=self.queries[origin, sound.half],
                    found=found,
                    match=match,
                    twin=is_twin(match, wave, found.wave),
                )
                self.alarms.append(alarm)
        return prints, matches

    def is_twin(self, alarm: Alarm) -> bool:
        """Return whether any query showed the two clips to hold one recording."""
        pair = {alarm.query.path, alarm.found.path}
        return any(other.twin and {other.query.path, other.found.path} == pair for other in self.alarms)

    def false(self, bound: float) -> list[Alarm]:
        """Return the alarms that are false, were the bounds on evidence moved by one factor."""
        twins = {frozenset((alarm.query.path, alarm.found.path)) for alarm in self.alarms if alarm.twin}
        return [
            alarm
            for alarm in self.alarms
            if holds(alarm.match, bound) and frozenset((alarm.query.path, alarm.found.path)) not in twins
        ]


def holds(match: Match, bound: float = MIN_EVIDENCE) -> bool:
    """Return whether a match is confirmed, were the bounds on evidence moved by one factor."""
    return replace(match, evidence=(match.evidence or 0.0) * MIN_EVIDENCE / bound).is_confirmed


def is_twin(match: Match, wave: np.ndarray, reference: np.ndarray) -> bool:
    """Return whether the common stretch is one recording, by its waveform between 200 and 3700 Hz.

    Cut into pieces of 50 ms, one recording correlates above 0.9 in pieces one after another for 0.3 s, or, under noise
    or other sounds, at one and the same delay in most pieces of 0.4 s and for a second in all. Notes of one instrument
    share attacks, and voices vowels, but shorter, or at delays that drift.
    """
    offset = round((match.reference_start_s - match.query_start_s) * audio.SAMPLE_RATE)
    start = max(round(match.query_start_s * audio.SAMPLE_RATE), 0, -offset)
    count = min(round(match.overlap_s * audio.SAMPLE_RATE), len(wave) - start, len(reference) - start - offset)
    a, b = _banded(wave[start : start + count]), _banded(reference[start + offset : start + offset + count])
    size = round(PIECE_S * audio.SAMPLE_RATE)
    run = best = 0
    for at in range(0, count - size + 1, size):
        piece = a[at : at + size]
        scores = [_correlation(piece, b[at + d : at + d + size]) for d in range(-NEAR, NEAR + 1) if at + d >= 0]
        run = run + 1 if max(scores) >= ALIKE else 0
        best = max(best, run)
    if best * PIECE_S >= RUN_S:
        return True
    pieces = max(3, round(match.overlap_s / 0.4))
    span_s = match.overlap_s / pieces
    hits = 0
    for piece in range(pieces):
        heard = coherence(
            wave,
            reference,
            wave_start_s=match.query_start_s + piece * span_s,
            reference_start_s=match.reference_start_s + piece * span_s,
            span_s=max(span_s, 0.25),
        )
        hits += abs(heard.delay_s) <= NEAR / audio.SAMPLE_RATE and heard.evidence > 0
    return hits > pieces / 2 and hits * span_s >= SPREAD_S


def _banded(wave: np.ndarray) -> np.ndarray:
    spectrum = np.fft.rfft(wave)
    hz = np.fft.rfftfreq(len(wave), 1 / audio.SAMPLE_RATE)
    return np.fft.irfft(np.where((hz > 200) & (hz < 3700), spectrum, 0.0), len(wave))


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    if len(a) != len(b):
        return 0.0
    return float((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum() + 1e-9))


def exhaustive(wave: np.ndarray, reference: np.ndarray) -> float:
    """Return the evidence at the best of all alignments, found by correlation of whole whitened waves."""
    size = 1 << (len(wave) + len(reference)).bit_length()
    cross = np.fft.rfft(reference, size) * np.conj(np.fft.rfft(wave, size))
    hz = np.arange(len(cross)) * audio.SAMPLE_RATE / size
    heights = np.abs(np.fft.irfft(np.where((hz > 200) & (hz < 3700), cross / (np.abs(cross) + 1e-12), 0.0)))
    best = 0.0
    for _ in range(12):
        at = int(heights.argmax())
        heights[max(0, at - 160) : at + 160] = 0.0
        delay_s = (at if at < len(reference) else at - size) / audio.SAMPLE_RATE
        start_s = max(0.0, -delay_s)
        span_s = min(len(wave), len(reference) - delay_s * audio.SAMPLE_RATE) / audio.SAMPLE_RATE - start_s
        for piece in range(max(1, round(span_s / 1.0))):  # the sound may be short and the rest noise
            begin_s = start_s + piece
            heard = coherence(
                wave, reference, wave_start_s=begin_s, reference_start_s=begin_s + delay_s, span_s=min(1.5, span_s)
            )
            best = max(best, heard.evidence)
    return best
