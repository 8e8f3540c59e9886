from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uniwhisper.report.players import EXCERPT_S, encode, excerpt, make_players

from .inputs import make_tones


def test_excerpt_is_the_loudest_part_at_one_level() -> None:
    wave = np.full(80_000, 0.001, dtype=np.float32)
    wave[50_000:60_000] = 0.2
    short = excerpt(wave)
    assert len(short) == int(EXCERPT_S * 16_000)
    assert np.count_nonzero(short > 0.5) == pytest.approx(10_000, abs=400)
    assert short.max() == pytest.approx(0.9, rel=1e-5)
    assert short[0] == short[-1] == 0
    assert not excerpt(np.zeros(5, dtype=np.float32)).any()


def test_encoded_sound_is_small_ogg_and_sounds_the_same() -> None:
    time_s = np.arange(32_000) / 16_000
    text = encode(np.asarray(0.5 * np.sin(2 * np.pi * 440 * time_s), dtype=np.float32))
    assert len(text) < 12_000
    wave, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(text)))
    assert len(wave) / sample_rate == pytest.approx(2.0, abs=0.05)
    peak_hz = np.abs(np.fft.rfft(wave)).argmax() * sample_rate / len(wave)
    assert peak_hz == pytest.approx(440, abs=2)


def test_players_stay_in_budget_and_count_what_is_missing(tmp_path: Path) -> None:
    names = [f"{i}.wav" for i in range(6)]
    make_tones(tmp_path, names)
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    files = [tmp_path / name for name in ["bad.wav", "gone.wav", *names, "0.wav"]]
    everything = make_players(files)
    assert (len(everything.audio), everything.num_missing, everything.num_unreadable) == (6, 1, 1)
    budget = len("".join(everything.audio[:3]))
    some = make_players(files, budget_bytes=budget + 10)
    assert len(some.audio) == 3
    assert some.num_over_budget == 3
    assert len("".join(some.audio)) <= budget + 10
