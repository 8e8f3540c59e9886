"""Pitch contours as notes: what is one note, what are two, and what is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._contours import contour_notes, read_contours

HOP_S = 256 / 44_100


def frames(duration_s: float) -> np.ndarray:
    return np.arange(round(duration_s / HOP_S)) * HOP_S


def sung(times_s: np.ndarray, pitches: np.ndarray, voiced: np.ndarray | None = None) -> list[tuple[int, float, float]]:
    frequencies = 440 * 2 ** ((pitches - 69) / 12)
    notes = contour_notes(times_s.tolist(), np.where(voiced if voiced is not None else True, frequencies, 0.0).tolist())
    return [(note.pitch, note.onset_s, note.offset_s) for note in notes]


@pytest.mark.parametrize("depth", [0.6, 1.0])
def test_vibrato_is_one_note(depth: float) -> None:
    times_s = frames(1.0)
    pitches = 64 + depth * np.sin(2 * np.pi * 5.5 * times_s)
    assert sung(times_s, pitches) == [(64, 0.0, pytest.approx(1.0, abs=0.01))]


def test_a_pitch_between_two_semitones_is_one_note() -> None:
    times_s = frames(1.0)
    assert len(sung(times_s, 64.45 + 0.1 * np.sin(2 * np.pi * 2 * times_s))) == 1


def test_a_step_begins_a_note() -> None:
    times_s = frames(1.0)
    first, second = sung(times_s, np.where(times_s < 0.4, 60.2, 61.0))
    assert (first[0], second[0]) == (60, 61)
    assert first[2] == second[1] == pytest.approx(0.4, abs=0.02)


def test_a_pause_begins_a_note_of_the_same_pitch() -> None:
    times_s = frames(1.0)
    expected = [(60, 0.0, pytest.approx(0.4, abs=0.01)), (60, pytest.approx(0.5, abs=0.01), pytest.approx(1, abs=0.01))]
    voiced = (times_s < 0.4) | (times_s >= 0.5)
    assert sung(times_s, np.full(len(times_s), 60.0), voiced) == expected
    left_out = times_s[voiced]  # some files have no rows where nothing is sung
    assert sung(left_out, np.full(len(left_out), 60.0)) == expected


def test_a_slide_is_no_note() -> None:
    times_s = frames(1.0)
    assert [pitch for pitch, _, _ in sung(times_s, np.clip(60 + (times_s - 0.5) * 20, 60, 62))] == [60, 62]


def test_the_beginning_from_below_is_part_of_the_note() -> None:
    times_s = frames(0.5)
    assert sung(times_s, np.where(times_s < 0.05, 58.0, 60.0)) == [(60, 0.0, pytest.approx(0.5, abs=0.01))]


def test_an_ornament_does_not_part_a_note() -> None:
    times_s = frames(1.0)
    ornament = (times_s > 0.4) & (times_s < 0.455)
    assert sung(times_s, np.where(ornament, 62.0, 60.0)) == [(60, 0.0, pytest.approx(1.0, abs=0.01))]


def test_a_phrase_that_settles_nowhere_is_one_note() -> None:
    times_s = frames(0.2)
    assert [pitch for pitch, _, _ in sung(times_s, 60 + 30 * times_s)] == [63]


def test_what_is_too_short_is_no_note() -> None:
    times_s = frames(1.0)
    assert sung(times_s, np.full(len(times_s), 60.0), (times_s > 0.5) & (times_s < 0.55)) == []
    assert sung(times_s[:1], np.array([60.0])) == []
    assert sung(times_s, np.full(len(times_s), 60.0), times_s < 0) == []


def test_every_column_is_a_line_and_remarks_are_none(tmp_path: Path) -> None:
    path = tmp_path / "lines.csv"
    path.write_text("".join(f"{time},440.0,{660.0 if time < 0.2 else 0},0.0\n" for time in frames(0.4)), "utf-8")
    ctx = Context(source="x", out_dir=tmp_path)
    assert [note.pitch for note in read_contours(ctx, path, instrument="melody")] == [69, 76]
    path.write_text("".join(f"{time},440.0,[5] \n" for time in frames(0.4)), "utf-8")
    assert [note.pitch for note in read_contours(ctx, path, lines=1)] == [69]
    assert ctx.rows[path] == 2 * len(frames(0.4))
    for cell in ("[5]", "20000"):
        path.write_text(f"0.0,{cell}\n", "utf-8")
        with pytest.raises(LayoutError, match=r"lines\.csv:1: frequency: expected a number .*to 12543, found"):
            read_contours(ctx, path)


@pytest.mark.parametrize("times", [(0.0, 0.1, 0.1), (0.0, 0.2, 0.1), (0.0, 0.1, 0.10001)])
def test_times_that_do_not_ascend_are_named(tmp_path: Path, times: tuple[float, ...]) -> None:
    path = tmp_path / "a.csv"
    path.write_text("".join(f"{time},440\n" for time in times))
    with pytest.raises(LayoutError, match=r"a\.csv: row 3: expected its time to be at least 0\.0001 s after"):
        read_contours(Context(source="toy", out_dir=tmp_path), path)
