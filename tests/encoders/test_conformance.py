from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tiny import tiny_whisper
from uniwhisper.embed import load
from uniwhisper.encoders import conformance
from uniwhisper.encoders.conformance import Finding, check_encoder

RATE = 16_000
HOP = 640
NAMES = (
    "attributes",
    "sample rate",
    "output",
    "frame count",
    "neighbours",
    "order",
    "repetition",
    "input",
    "silence",
    "short clip",
    "level",
    "times",
    "ten minutes",
)


class Good:
    """Magnitudes of four bands of every 40 ms."""

    name = "good"
    fingerprint = "0123456789abcdef"
    sample_rate = RATE
    dim = 4
    hop_ms = 40.0

    def frames(self, waves: list[np.ndarray]) -> list[Any]:
        return [self.one(wave) for wave in waves]

    def one(self, wave: np.ndarray) -> np.ndarray:
        count = max(1, round(len(wave) / HOP))
        padded = np.pad(wave, (0, max(0, count * HOP - len(wave))))[: count * HOP]
        spectrum = np.abs(np.fft.rfft(padded.reshape(count, HOP)))[:, :320]
        return spectrum.reshape(count, 4, 80).mean(axis=2).astype(np.float32)


def state(findings: list[Finding], name: str) -> Finding:
    return next(finding for finding in findings if finding.name == name)


def broken(change: Callable[[Any], None] | None = None, **attributes: Any) -> Any:
    """Return a good encoder with attributes or methods replaced."""
    made = type("Broken", (Good,), attributes)()
    if change:
        change(made)
    return made


@pytest.fixture(autouse=True)
def short_long_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "_LONG_S", 60.0)


def test_a_good_encoder_passes() -> None:
    seen: list[Finding] = []
    findings = check_encoder(Good(), on_finding=seen.append)
    assert [finding.state for finding in findings] == ["ok"] * len(NAMES), findings
    assert tuple(finding.name for finding in findings) == NAMES
    assert seen == findings
    assert state(findings, "attributes").text == "good: 16000 Hz, 4 values, a frame every 40 ms"
    assert state(findings, "frame count").text == "25 for 1 s, 59 for 2.37 s, 125 for 5 s"
    assert state(findings, "ten minutes").text.startswith("1500 frames in ")


def test_the_long_clip_can_be_left_out() -> None:
    finding = check_encoder(Good(), long_clip=False)[-1]
    assert (finding.name, finding.state) == ("ten minutes", "note")


def test_our_own_encoder_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIWHISPER_HOME", str(tmp_path / "home"))
    findings = check_encoder(load(tiny_whisper(tmp_path / "whisper", width=32, heads=2, layers=1)), long_clip=False)
    assert {finding.state for finding in findings[:-1]} == {"ok"}, findings


def padded_to_30_s(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    return [Good.one(self, np.pad(wave, (0, 30 * RATE - len(wave)))) for wave in waves]


def padded_batch(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    """The mean over everything, padding included, is taken off every frame."""
    longest = max(map(len, waves))
    means = [np.pad(wave, (0, longest - len(wave))).std() for wave in waves]
    return [self.one(wave) + np.float32(mean) for wave, mean in zip(waves, means, strict=True)]


def batch_normalised(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    """Clips of one length are normalised over the clips."""
    level = {n: np.float32(np.mean([w.std() for w in waves if len(w) == n])) for n in {len(w) for w in waves}}
    return [self.one(wave) / level[len(wave)] for wave in waves]


def sorted_by_length(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    return [self.one(wave) for wave in sorted(waves, key=len, reverse=True)]


def with_dropout(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    return [(self.one(w) * np.random.default_rng().integers(0, 2, (1, 4))).astype(np.float32) for w in waves]


def in_place(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    found = [self.one(wave) for wave in waves]
    for wave in waves:
        wave *= 0.5
    return found


def nan_for_silence(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    with np.errstate(invalid="ignore"):
        return [self.one(wave) / np.float32(np.abs(wave).max()) for wave in waves]


def nothing_for_short(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    return [self.one(wave)[(len(wave) < 4000 and 99) or 0 :] for wave in waves]


def reversed_time(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    return [self.one(wave)[::-1] for wave in waves]


def cut_at_30_s(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    return [self.one(wave[: 30 * RATE]) for wave in waves]


def fewer_when_soft(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
    return [self.one(wave)[(np.abs(wave).max() < 0.25) * 10 :] for wave in waves]


@pytest.mark.parametrize(
    ("frames", "check", "text"),
    [
        (padded_to_30_s, "frame count", "every length gives 750, so the clip is padded"),
        (padded_batch, "neighbours", "its padding is heard"),
        (batch_normalised, "neighbours", "do not normalise over clips"),
        (sorted_by_length, "order", "return frames in the order of the waves"),
        (with_dropout, "repetition", "call .eval()"),
        (in_place, "input", "found it changed: copy before working in place"),
        (nan_for_silence, "silence", "found 100 NaN or infinite of 100"),
        (nothing_for_short, "short clip", "expected at least one frame for a wave of 0.10 s, found none"),
        (reversed_time, "times", "expected a sound at 0.65 s to change the frames there"),
        (cut_at_30_s, "ten minutes", "expected 1500 frames within 1 %, found 750 frames"),
        (fewer_when_soft, "level", "expected as many frames at half the level"),
    ],
)
def test_each_fault_is_named(frames: Any, check: str, text: str) -> None:
    finding = state(check_encoder(broken(frames=frames)), check)
    assert finding.state == "FAIL"
    assert text in finding.text


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"dim": "512"}, "expected dim to be int, found '512' (str)"),
        ({"dim": 4.0}, "expected dim to be int, found 4.0 (float)"),
        ({"dim": True}, "expected dim to be int, found True (bool)"),
        ({"hop_ms": 0.0}, "expected hop_ms above 0, found 0.0"),
        ({"hop_ms": float("nan")}, "expected hop_ms above 0, found nan"),
        ({"name": None}, "expected an attribute name (str), found none"),
        ({"fingerprint": ""}, "expected fingerprint to be a text, found ''"),
        ({"frames": None}, "expected a method frames(waves)"),
        ({"sample_rate": -1}, "expected sample_rate above 0, found -1"),
    ],
)
def test_bad_attributes_end_the_check(attributes: dict[str, Any], text: str) -> None:
    findings = check_encoder(broken(**attributes))
    assert [(f.name, f.state) for f in findings] == [("attributes", "FAIL"), ("the rest", "note")]
    assert text in findings[0].text


def test_a_rate_in_khz() -> None:
    finding = state(check_encoder(broken(sample_rate=16)), "sample rate")
    assert finding.state == "FAIL"
    assert finding.text.endswith("found 16: is it in kHz?")


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        (lambda self, waves: np.zeros((1, 25, 4)), "expected a list with one array for each of 2 waves, found ndarray"),
        (lambda self, waves: [self.one(waves[0])], "found 1 entries"),
        (lambda self, waves: [self.one(w).T for w in waves], "expected [T, 4] for a wave of 2.37 s, found [4, 59]"),
        (lambda self, waves: [self.one(w).astype(np.float64) for w in waves], "found float64: cast with"),
        (lambda self, waves: [self.one(w).tolist() for w in waves], "found list: return tensor.float().cpu().numpy()"),
        (lambda self, waves: [np.ones((59, 4), np.float32) for _ in waves], "found the same: is the input used?"),
        (lambda self, waves: 1 / 0, "expected frames, found ZeroDivisionError: division by zero"),
    ],
)
def test_wrong_output_ends_the_check(frames: Any, text: str) -> None:
    findings = check_encoder(broken(frames=frames))
    assert [(f.name, f.state) for f in findings[2:]] == [("output", "FAIL"), ("the rest", "note")]
    assert text in findings[2].text


def test_a_wrong_hop_is_measured() -> None:
    finding = state(check_encoder(broken(hop_ms=20.0), long_clip=False), "frame count")
    assert finding.state == "FAIL"
    assert "between these lengths a frame lasts 40 ms" in finding.text


def test_noise_in_the_last_bits_is_only_noted() -> None:
    calls = iter(range(1000))

    def frames(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
        return [self.one(wave) * np.float32(1 + 1e-7 * next(calls)) for wave in waves]

    assert state(check_encoder(broken(frames=frames), long_clip=False), "repetition").state == "note"


def test_a_fingerprint_that_covers_too_little_is_noted() -> None:
    finding = check_encoder(broken(fingerprint_note="made from the source file alone"), long_clip=False)[0]
    assert (finding.state, finding.text) == ("note", "good: fingerprint made from the source file alone")


def test_one_row_a_clip() -> None:
    def frames(self: Good, waves: list[np.ndarray]) -> list[np.ndarray]:
        return [self.one(wave).mean(axis=0, keepdims=True) for wave in waves]

    findings = check_encoder(broken(frames=frames, whole_clip=True, hop_ms=0.0))
    assert {finding.name for finding in findings if finding.state != "ok"} == {"times"}
    assert state(findings, "times").state == "note"
    finding = state(check_encoder(broken(whole_clip=True), long_clip=False), "frame count")
    assert (finding.state, "expected one row a clip" in finding.text) == ("FAIL", True)


def test_memory_of_the_long_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    held = iter((1.0, 9.0))
    monkeypatch.setattr(conformance, "_peak_gb", lambda: next(held))
    finding = state(check_encoder(Good()), "ten minutes")
    assert finding.state == "FAIL"
    assert finding.text.endswith("8.00 GB more memory: encode it in windows")
