from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uniwhisper.evaluate.neighbours import Recording
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
    files = [Recording(path=str(tmp_path / name)) for name in ["bad.wav", "gone.wav", *names, "0.wav"]]
    everything = make_players(files)
    assert (len(everything.audio), everything.num_missing, everything.num_unreadable) == (6, 1, 1)
    budget = len("".join(everything.audio[:3]))
    some = make_players(files, budget_bytes=budget + 10)
    assert len(some.audio) == 3
    assert some.num_over_budget == 3
    assert len("".join(some.audio)) <= budget + 10


def test_two_spans_of_one_file_are_two_excerpts(tmp_path: Path) -> None:
    time_s = np.arange(16_000) / 16_000
    tones = [np.sin(2 * np.pi * hz * time_s) for hz in (440, 880)]
    soundfile.write(tmp_path / "a.wav", 0.3 * np.concatenate(tones), 16_000)
    spans = [Recording(path=str(tmp_path / "a.wav"), start_s=start, duration_s=1.0) for start in (0.0, 1.0)]
    players = make_players(spans)
    assert [players.of(span) for span in spans] == [0, 1]
    assert players.of(Recording(path=str(tmp_path / "a.wav"))) == -1
    peaks = []
    for text in players.audio:
        wave, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(text)))
        peaks.append(np.abs(np.fft.rfft(wave)).argmax() * sample_rate / len(wave))
    assert peaks == pytest.approx([440, 880], abs=3)
