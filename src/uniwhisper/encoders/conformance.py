"""Whether an encoder keeps the protocol: attributes, shapes, lengths, independence of neighbours, extremes.

Reads nothing and writes nothing: every sound is synthesised at the encoder's own rate, the same in every run. A broken
encoder gives findings and never an exception; a finding names what was expected, what was found and what to do. An
encoder that passes can be embedded with and judged: its numbers then do not depend on how clips are grouped.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = ["Finding", "check_encoder"]

_TOLERANCE = 1e-5
"""Largest difference relative to the largest value: what a different order of float32 sums leaves at most."""
_LEAST_COSINE = 1 - 1e-5
_RATES_HZ = (4_000, 192_000)
_LENGTHS_S = (1.0, 2.37, 5.0)
_SHORT_S = 0.1
_LONG_S = 600.0
_LONG_GB = 4.0
"""Memory that ten minutes may take beyond what the process held before."""
_LONG_DRIFT = 0.01
_BURSTS_S = (0.6, 2.2)
_BURST_S = 0.1
_TIME_SLACK_S = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the conformance table."""

    name: str
    state: Literal["ok", "note", "FAIL"]
    """`FAIL` where scores would be wrong, `note` where a check was left out or a result is only odd."""
    text: str


class _Fault(Exception):
    """What is wrong, in words."""


class _Note(Exception):
    """What is odd but allowed, in words."""


def check_encoder(
    encoder: object, *, long_clip: bool = True, on_finding: Callable[[Finding], None] = lambda _: None
) -> list[Finding]:
    """Return one finding a check, in order; the encoder conforms if none of them says `FAIL`.

    Args:
        encoder: Anything that claims to follow `embed.Encoder`; it need not.
        long_clip: Also encode ten minutes, which takes the longest by far.
        on_finding: Called with every finding as soon as there is one.

    Source: the idea of one public function that calls an object with data made to trip it up and names each fault is
        scikit-learn's, https://scikit-learn.org/stable/modules/generated/sklearn.utils.estimator_checks.check_estimator.html
    """
    subject = _Subject(encoder)
    findings: list[Finding] = []
    for name, check in _CHECKS:
        if name == "ten minutes" and not long_clip:
            finding = Finding(name=name, state="note", text="left out, as asked")
        else:
            finding = _run(name, check, subject)
        findings.append(finding)
        on_finding(finding)
        if finding.state == "FAIL" and name in _BASIC:
            rest = Finding(name="the rest", state="note", text=f"not checked before {name} is repaired")
            on_finding(rest)
            return [*findings, rest]
    return findings


def _run(name: str, check: Callable[[_Subject], str], subject: _Subject) -> Finding:
    try:
        return Finding(name=name, state="ok", text=check(subject))
    except _Fault as e:
        return Finding(name=name, state="FAIL", text=str(e))
    except _Note as e:
        return Finding(name=name, state="note", text=str(e))
    except Exception as e:  # the encoder is foreign code and may raise anything
        lines = str(e).strip().splitlines() or [""]
        return Finding(name=name, state="FAIL", text=f"expected frames, found {type(e).__name__}: {lines[0][:300]}")


class _Subject:
    """The encoder and the sounds that it is called with; every call checks what comes back."""

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder

    @property
    def whole_clip(self) -> bool:
        return bool(getattr(self.encoder, "whole_clip", False))

    def sound(self, seconds: float, seed: int) -> np.ndarray:
        """Return a chord whose loudness wavers, in noise: no two stretches of it are alike."""
        rng = np.random.default_rng(seed)
        rate = self.encoder.sample_rate
        times = np.arange(max(1, round(seconds * rate))) / rate
        wave = 0.02 * rng.standard_normal(len(times))
        for hz in rng.uniform(100, min(3000, 0.4 * rate), size=3):
            wave += 0.08 * np.sin(2 * np.pi * hz * times) * (1 + np.sin(2 * np.pi * rng.uniform(0.3, 3) * times))
        return wave.astype(np.float32)

    def frames(self, *waves: np.ndarray) -> list[np.ndarray]:
        """Return the frames of the waves.

        Raises:
            _Fault: What came back is not a list of finite float32 arrays `[T, dim]`, one a wave.
        """
        answer = self.encoder.frames(list(waves))
        if not isinstance(answer, list | tuple) or len(answer) != len(waves):
            found = f"{len(answer)} entries" if isinstance(answer, list | tuple) else type(answer).__name__
            raise _Fault(f"expected a list with one array for each of {len(waves)} waves, found {found}")
        for wave, frames in zip(waves, answer, strict=True):
            self._check_frames(frames, f"a wave of {len(wave) / self.encoder.sample_rate:.2f} s")
        return list(answer)

    def _check_frames(self, frames: Any, where: str) -> None:
        if not isinstance(frames, np.ndarray):
            raise _Fault(
                f"expected a numpy array for {where}, found {type(frames).__name__}: "
                "return tensor.float().cpu().numpy() of each clip"
            )
        if frames.ndim != 2 or frames.shape[1] != self.encoder.dim:
            raise _Fault(
                f"expected [T, {self.encoder.dim}] for {where}, found {list(frames.shape)}: check dim and axes"
            )
        if frames.dtype != np.float32:
            raise _Fault(f"expected float32 for {where}, found {frames.dtype}: cast with .astype(numpy.float32)")
        if len(frames) == 0:
            raise _Fault(f"expected at least one frame for {where}, found none: pad what is shorter than one frame")
        bad = int(np.size(frames) - np.isfinite(frames).sum())
        if bad:
            raise _Fault(f"expected finite values for {where}, found {bad} NaN or infinite of {frames.size}")

    def expected(self, wave: np.ndarray) -> float:
        """Return how many hops the wave lasts, a fraction included."""
        return len(wave) / self.encoder.sample_rate * 1000 / self.encoder.hop_ms


def _check_attributes(subject: _Subject) -> str:
    faults = []
    for name, kind in (("name", str), ("fingerprint", str), ("sample_rate", int), ("dim", int), ("hop_ms", float)):
        value = getattr(subject.encoder, name, None)
        numbers = (int, float, np.floating) if kind is float else (int, np.integer)
        if value is None:
            faults.append(f"expected an attribute {name} ({kind.__name__}), found none")
        elif kind is str:
            if not isinstance(value, str) or not value:
                faults.append(f"expected {name} to be a text, found {value!r}")
        elif isinstance(value, bool) or not isinstance(value, numbers):
            faults.append(f"expected {name} to be {kind.__name__}, found {value!r} ({type(value).__name__})")
        elif not math.isfinite(value) or (value <= 0 and not (name == "hop_ms" and subject.whole_clip)):
            faults.append(f"expected {name} above 0, found {value}")
    if not callable(getattr(subject.encoder, "frames", None)):
        faults.append("expected a method frames(waves) that returns one [T, dim] array a wave, found none")
    if faults:
        raise _Fault("; ".join(faults))
    e = subject.encoder
    note = getattr(e, "fingerprint_note", "")
    if note:
        raise _Note(f"{e.name}: fingerprint {note}")
    every = "one row a clip" if subject.whole_clip else f"a frame every {e.hop_ms:g} ms"
    return f"{e.name}: {e.sample_rate} Hz, {e.dim} values, {every}"


def _check_rate(subject: _Subject) -> str:
    low, high = _RATES_HZ
    rate = subject.encoder.sample_rate
    if not low <= rate <= high:
        raise _Fault(f"expected sample_rate in Hz between {low} and {high}, found {rate}: is it in kHz?")
    return f"{rate} Hz"


def _check_output(subject: _Subject) -> str:
    first, second = subject.frames(subject.sound(2.37, 0), subject.sound(2.37, 1))
    if first.shape == second.shape and np.array_equal(first, second):
        raise _Fault("expected two different sounds to give different frames, found the same: is the input used?")
    return f"float32, finite, [{len(first)}, {first.shape[1]}] for 2.37 s"


def _check_count(subject: _Subject) -> str:
    if subject.whole_clip:
        return _one_row(subject)
    counts = []
    for seconds in _LENGTHS_S:
        wave = subject.sound(seconds, 0)
        counts.append((seconds, len(subject.frames(wave)[0]), subject.expected(wave)))
    wrong = [
        f"{found} frames for {s:g} s (expected {hops:.1f} +- 1)" for s, found, hops in counts if abs(found - hops) > 1
    ]
    if not wrong:
        return ", ".join(f"{found} for {s:g} s" for s, found, _ in counts)
    text = f"expected duration / hop_ms ({subject.encoder.hop_ms:g}) frames within one, found {', '.join(wrong)}"
    (short_s, few, _), (long_s, many, _) = counts[0], counts[-1]
    if few == many:
        raise _Fault(f"{text}: every length gives {few}, so the clip is padded; return the frames of the clip alone")
    hop_ms = 1000 * (long_s - short_s) / (many - few)
    raise _Fault(f"{text}: between these lengths a frame lasts {hop_ms:.4g} ms; is hop_ms right, or padding returned?")


def _one_row(subject: _Subject) -> str:
    counts = [len(frames) for seconds in _LENGTHS_S for frames in subject.frames(subject.sound(seconds, 0))]
    if set(counts) != {1}:
        raise _Fault(f"expected one row a clip (whole_clip is set), found {counts} for {list(_LENGTHS_S)} s")
    return "one row a clip, as whole_clip says"


def _check_neighbours(subject: _Subject) -> str:
    short, long, as_short = subject.sound(1.3, 2), subject.sound(5.0, 3), subject.sound(1.3, 12)
    alone = subject.frames(short)[0]
    advice = "the average of a batch is used; do not normalise over clips"
    _same(alone, subject.frames(short, as_short)[0], "a clip of 1.3 s alone", "beside one of 1.3 s", advice)
    together = subject.frames(short, long)[0]
    return _same(
        alone,
        together,
        "a clip of 1.3 s alone",
        "beside one of 5 s",
        "its padding is heard; mask it or group equal lengths",
    )


def _check_order(subject: _Subject) -> str:
    waves = [subject.sound(seconds, seed) for seed, seconds in enumerate((1.0, 3.1, 1.7))]
    forward, backward = subject.frames(*waves), subject.frames(*waves[::-1])[::-1]
    advice = "return frames in the order of the waves"
    return [
        _same(one, other, "a list of clips", "its reverse", advice)
        for one, other in zip(forward, backward, strict=True)
    ][-1]


def _same(one: np.ndarray, other: np.ndarray, first: str, second: str, advice: str) -> str:
    """Return how alike two answers are, or raise where they are not."""
    if one.shape != other.shape:
        raise _Fault(
            f"expected the same frames for {first} and {second}, found {one.shape} and {other.shape}: {advice}"
        )
    difference = _difference(one, other)
    cosine = _cosine(one.mean(axis=0), other.mean(axis=0))
    if difference > _TOLERANCE or cosine < _LEAST_COSINE:
        raise _Fault(
            f"expected the same frames for {first} and {second}, found them {difference:.2g} of the largest "
            f"value apart (allowed {_TOLERANCE:g}), cosine of the means {cosine:.6f}: {advice}"
        )
    return f"differs by {difference:.1g} of the largest value, cosine {cosine:.6f}"


def _difference(one: np.ndarray, other: np.ndarray) -> float:
    largest = max(float(np.abs(one).max()), float(np.abs(other).max()), 1e-30)
    return float(np.abs(one - other).max()) / largest


def _cosine(one: np.ndarray, other: np.ndarray) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / norms if norms else float(np.array_equal(a, b))


def _check_repetition(subject: _Subject) -> str:
    wave = subject.sound(2.0, 4)
    one, other = subject.frames(wave)[0], subject.frames(wave)[0]
    if one.shape == other.shape and np.array_equal(one, other):
        return "twice the same, bit by bit"
    _same(
        one,
        other,
        "a first call",
        "a second with the same clip",
        "call .eval(); is there dropout, dither or a random crop?",
    )
    raise _Note("twice the same up to rounding, not bit by bit")


def _check_input(subject: _Subject) -> str:
    wave = subject.sound(1.0, 5)
    before = wave.copy()
    subject.frames(wave)
    if not np.array_equal(wave, before):
        raise _Fault("expected the wave to be as before the call, found it changed: copy before working in place")
    return "left as it was"


def _check_silence(subject: _Subject) -> str:
    rate = subject.encoder.sample_rate
    frames = subject.frames(np.zeros(rate, dtype=np.float32))[0]
    return f"1 s of zeros: finite, largest value {float(np.abs(frames).max()):.3g}"


def _check_short(subject: _Subject) -> str:
    frames = subject.frames(subject.sound(_SHORT_S, 6))[0]
    return f"{_SHORT_S:g} s: {_count(frames)}"


def _count(frames: np.ndarray) -> str:
    return f"{len(frames)} {'frame' if len(frames) == 1 else 'frames'}"


def _check_level(subject: _Subject) -> str:
    wave = subject.sound(2.0, 7)
    loud, soft = subject.frames(wave)[0], subject.frames(0.5 * wave)[0]
    if len(loud) != len(soft):
        raise _Fault(f"expected as many frames at half the level, found {len(soft)} instead of {len(loud)}")
    cosine = _cosine(loud.mean(axis=0), soft.mean(axis=0))
    if cosine < 0.5:
        raise _Note(f"half the level gives another vector (cosine {cosine:.3f}): are samples in [-1, 1] expected?")
    return f"half the level: cosine {cosine:.3f}"


def _check_times(subject: _Subject) -> str:
    """Replace a tenth of a second by another sound and see which frames change most."""
    if subject.whole_clip:
        raise _Note("one row a clip has no times; tasks with times cannot be run")
    rate, hop_s = subject.encoder.sample_rate, subject.encoder.hop_ms / 1000
    plain = subject.sound(3.0, 8)
    before = subject.frames(plain)[0]
    slack_s = max(_TIME_SLACK_S, 2 * hop_s)
    found = []
    for at_s in _BURSTS_S:
        changed = plain.copy()
        burst = slice(round(at_s * rate), round((at_s + _BURST_S) * rate))
        changed[burst] = np.random.default_rng(9).uniform(-0.3, 0.3, burst.stop - burst.start)
        after = subject.frames(changed)[0]
        num_frames = min(len(before), len(after))
        change = np.linalg.norm(after[:num_frames] - before[:num_frames], axis=1)
        centres_s = (np.arange(num_frames) + 0.5) * hop_s
        peak_s = float(centres_s[change.argmax()])
        middle_s = at_s + _BURST_S / 2
        near = change[np.abs(centres_s - middle_s) <= max(_BURST_S / 2, hop_s)]
        if abs(peak_s - middle_s) > slack_s and near.mean() <= change.mean():
            raise _Fault(
                f"expected a sound at {middle_s:.2f} s to change the frames there, found the greatest change at "
                f"{peak_s:.2f} s: frame n must be centred at (n + 0.5) * hop_ms"
            )
        found.append(f"{middle_s:.2f} s at {peak_s:.2f} s")
    return "sound " + ", ".join(found)


def _check_long(subject: _Subject) -> str:
    wave = np.tile(subject.sound(30.0, 10), round(_LONG_S / 30))
    before = _peak_gb()
    began = time.perf_counter()
    frames = subject.frames(wave)[0]
    seconds = time.perf_counter() - began
    grown = None if before is None else (_peak_gb() or 0.0) - before
    text = f"{_count(frames)} in {seconds:.1f} s" + ("" if grown is None else f", {grown:.2f} GB more memory")
    hops = 1.0 if subject.whole_clip else subject.expected(wave)
    if abs(len(frames) - hops) > 1 + _LONG_DRIFT * hops:
        raise _Fault(f"expected {hops:.0f} frames within 1 %, found {text}: is the clip cut, or are windows padded?")
    if grown is not None and grown > _LONG_GB:
        raise _Fault(f"expected at most {_LONG_GB:g} GB more memory, found {text}: encode it in windows")
    if seconds > _LONG_S:
        raise _Note(f"{text}: slower than the sound itself")
    return text


def _peak_gb() -> float | None:
    """Return the most memory that this process has held so far, where the system says it."""
    import sys

    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


_CHECKS: Sequence[tuple[str, Callable[[_Subject], str]]] = (
    ("attributes", _check_attributes),
    ("sample rate", _check_rate),
    ("output", _check_output),
    ("frame count", _check_count),
    ("neighbours", _check_neighbours),
    ("order", _check_order),
    ("repetition", _check_repetition),
    ("input", _check_input),
    ("silence", _check_silence),
    ("short clip", _check_short),
    ("level", _check_level),
    ("times", _check_times),
    ("ten minutes", _check_long),
)
_BASIC = ("attributes", "sample rate", "output")
