"""Pitch contours as notes: what a contour of frames says, at the resolution of semitones.

Reads CSV files of frames: a time, then the frequency of every line of music, 0 where it pauses. A note begins after a
pause and where the line settles on another semitone; it lasts to the next one or to the pause. Our own rule, made to be
plain: contours are annotated, notes are not.

* The pitch of a frame is the median of the frames within 50 ms around it in the same phrase, so that vibrato and the
  slides between notes do not count as notes.
* It belongs to the semitone that it is nearest to; the note before keeps it up to a fifth of a semitone beyond the
  border, so that a pitch on the border does not flicker.
* What lasts less than 60 ms is part of the note that it leads to, or at the end of a phrase of the one before. A phrase
  that settles nowhere is one note of its median pitch, and none if it is as short.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import number, read_csv
from uniwhisper.types import Note

__all__ = ["contour_notes", "read_contours"]

_REACH_S = 0.05
_HYSTERESIS = 0.2
"""Semitones."""
_SHORTEST_S = 0.06
_SHORTEST_HOP_S = 1e-4  # published contours have hops of 2.9 and 5.8 ms
_HIGHEST_HZ = 12_543.0
"""MIDI pitch 127."""
_MAX_HOPS = 1.5
"""Frames further apart than this many hops are parted by a pause: some contours leave unvoiced frames out."""


def read_contours(ctx: Context, path: Path, *, instrument: str = "", lines: int | None = None) -> tuple[Note, ...]:
    """Return the notes of all contours in a file without a header, by onset.

    Args:
        ctx: Counts the rows.
        path: Rows of a time in seconds and, for every line, a frequency in Hz; rows may be of different length.
        instrument: What the lines are played on.
        lines: How many lines there are, where further cells are something else.

    Raises:
        LayoutError: The file is missing, a cell is not a number or above MIDI, or times do not ascend; the message
            names file and row.
    """
    frames = [
        (
            row.number("time_s", low=0),
            [number(cell, f"{row.where}: frequency", high=_HIGHEST_HZ) for cell in row["hz"].split(",")[:lines]],
        )
        for row in read_csv(ctx, path, names=("time_s", "hz"), quoting=False, strict=False)
    ]
    times_s = [time_s for time_s, _ in frames]
    hops_s = np.diff(times_s)
    if hops_s.min(initial=1.0) < _SHORTEST_HOP_S:
        row = int(np.argmin(hops_s)) + 2
        raise LayoutError(
            f"{path}: row {row}: expected its time to be at least {_SHORTEST_HOP_S:g} s after that of the row before, "
            f"found {times_s[row - 1]:g} s after {times_s[row - 2]:g} s"
        )
    notes: list[Note] = []
    for line in range(max((len(hz) for _, hz in frames), default=0)):
        contour = [hz[line] if line < len(hz) else 0.0 for _, hz in frames]
        notes += contour_notes(times_s, contour, instrument=instrument)
    return tuple(sorted(notes, key=lambda note: (note.onset_s, note.pitch, note.offset_s)))


def contour_notes(times_s: Sequence[float], frequencies_hz: Sequence[float], *, instrument: str = "") -> list[Note]:
    """Return the notes of one contour.

    Args:
        times_s: Time of every frame, ascending.
        frequencies_hz: Fundamental frequency of every frame; 0 or less = unvoiced.
        instrument: What the line is played on.
    """
    if len(times_s) < 2:
        return []
    times, frequencies = np.asarray(times_s, dtype=np.float64), np.asarray(frequencies_hz, dtype=np.float64)
    hop_s = float(median(np.diff(times).tolist()))
    voiced = np.flatnonzero(frequencies > 0)
    pitches = 69 + 12 * np.log2(frequencies[voiced] / 440)  # MIDI: A4 is 69
    breaks = np.flatnonzero(np.diff(times[voiced]) > _MAX_HOPS * hop_s) + 1
    notes: list[Note] = []
    for phrase in np.split(np.arange(len(voiced)), breaks):
        for pitch, first, last in _steps(pitches[phrase], hop_s):
            onset_s, offset_s = times[voiced[phrase[first]]], times[voiced[phrase[last]]] + hop_s
            notes.append(
                Note(
                    pitch=max(pitch, 0),
                    onset_s=round(float(onset_s), 4),
                    offset_s=round(float(offset_s), 4),
                    instrument=instrument,
                )
            )
    return notes


def _steps(pitches: np.ndarray, hop_s: float) -> list[tuple[int, int, int]]:
    """Return (MIDI pitch, first frame, last frame) of the notes in a phrase [frames] of fractional pitches."""
    if not len(pitches):
        return []
    reach = int(_REACH_S / hop_s)
    smooth = np.median(sliding_window_view(np.pad(pitches, reach, mode="edge"), 2 * reach + 1), axis=-1)
    steps: list[list[int]] = []
    for frame, pitch in enumerate(smooth.tolist()):
        if not steps or abs(pitch - steps[-1][0]) > 0.5 + _HYSTERESIS:
            steps.append([round(pitch), frame, frame])
        else:
            steps[-1][2] = frame
    shortest = _SHORTEST_S / hop_s
    settled = [step for step in steps if step[2] - step[1] + 1 >= shortest]
    if not settled and len(pitches) >= shortest:
        settled = [[round(float(np.median(pitches))), 0, 0]]
    kept: list[tuple[int, int, int]] = []
    for index, (pitch, _, last) in enumerate(settled):
        last = last if index + 1 < len(settled) else len(pitches) - 1
        if kept and kept[-1][0] == pitch:
            kept[-1] = (pitch, kept[-1][1], last)
        else:
            kept.append((pitch, kept[-1][2] + 1 if kept else 0, last))
    return kept
