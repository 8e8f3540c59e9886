"""Events and notes as plain text with times, and the way back: `dog_bark 0.32-1.80; siren 1.02-3.44`, `C#4 0.32-1.80`.

Times are seconds with two decimals on a grid of 20 ms, Whisper's own resolution of time; items are sorted by onset,
then offset, then name. A list that was read back is equal to the quantised, sorted annotation.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable

from uniwhisper.errors import ManifestError
from uniwhisper.instructions.answers import SEPARATOR, clean_label, clean_text, read_text, split_items
from uniwhisper.instructions.config import PitchStyle
from uniwhisper.types import Event, Note

__all__ = [
    "TICKS_PER_SECOND",
    "note_name",
    "note_pitch",
    "quantise_events",
    "quantise_notes",
    "read_events",
    "read_notes",
    "write_events",
    "write_notes",
]

TICKS_PER_SECOND = 50
"""Times are multiples of 20 ms. Source: the time tokens of Whisper, arXiv 2212.04356, section 2.3."""

_PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
_NAMES = tuple(f"{_PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}" for pitch in range(128))
"""MIDI numbers 0-127 as names, C-1 to G9, with sharps only; 60 is C4."""
_PITCHES = {name: pitch for pitch, name in enumerate(_NAMES)} | {str(pitch): pitch for pitch in range(128)}
_TIMED = re.compile(r"(.+) (\d+)\.(\d\d)-(\d+)\.(\d\d)", re.ASCII)


def note_name(pitch: int) -> str:
    """Return the name of a MIDI pitch: 60 -> `C4`, 61 -> `C#4`.

    Raises:
        ManifestError: The pitch is not from 0 to 127.
    """
    if not 0 <= pitch <= 127:
        raise ManifestError(f"expected a MIDI pitch from 0 to 127, found {pitch}")
    return _NAMES[pitch]


def note_pitch(text: str) -> int:
    """Return the MIDI pitch of a name (`C#4`, sharps only) or of a number (`61`).

    Raises:
        ManifestError: It is neither.
    """
    if text not in _PITCHES:
        raise ManifestError(f"expected a note from C-1 to G9 (sharps as '#') or a number from 0 to 127, found {text!r}")
    return _PITCHES[text]


def _ticks(onset_s: float, offset_s: float, name: str) -> tuple[int, int]:
    if not (0 <= onset_s <= offset_s < math.inf):  # false for NaN too
        raise ManifestError(f"{name!r}: expected 0 <= onset <= offset in seconds, found {onset_s} and {offset_s}")
    return round(onset_s * TICKS_PER_SECOND), round(offset_s * TICKS_PER_SECOND)


def _clock(ticks: int) -> str:
    seconds, rest = divmod(ticks, TICKS_PER_SECOND)
    return f"{seconds}.{rest * 100 // TICKS_PER_SECOND:02d}"


def _write(items: Iterable[tuple[int, int, str]]) -> str:
    return SEPARATOR.join(f"{text} {_clock(onset)}-{_clock(offset)}" for onset, offset, text in items)


def _read(answer: str) -> list[tuple[str, float, float]]:
    found: list[tuple[str, float, float]] = []
    for item in split_items(read_text(answer)):
        match = _TIMED.fullmatch(item)
        if match is None:
            raise ManifestError(f"expected an item like 'name 0.32-1.80', found {item!r} in {answer[:200]!r}")
        onset_s, offset_s = float(f"{match[2]}.{match[3]}"), float(f"{match[4]}.{match[5]}")
        onset, offset = _ticks(onset_s, offset_s, item)  # a decoder may answer with times off the grid
        found.append((match[1], onset / TICKS_PER_SECOND, offset / TICKS_PER_SECOND))
    return found


def write_events(events: Iterable[Event]) -> str:
    """Return `dog_bark 0.32-1.80; siren 1.02-3.44`.

    Raises:
        ManifestError: A label is blank or contains `;`, or times are negative, reversed or not finite.
    """
    items = []
    for event in events:
        label = clean_label(event.label, "event label")
        items.append((*_ticks(event.onset_s, event.offset_s, label), label))
    return _write(sorted(items))


def _sort_events(events: Iterable[Event]) -> tuple[Event, ...]:
    return tuple(sorted(events, key=lambda event: (event.onset_s, event.offset_s, event.label)))


def read_events(answer: str) -> tuple[Event, ...]:
    """Return the events of an answer, sorted; a malformed answer is a ManifestError."""
    return _sort_events(Event(label=label, onset_s=onset, offset_s=offset) for label, onset, offset in _read(answer))


def quantise_events(events: Iterable[Event]) -> tuple[Event, ...]:
    """Return `events` as an answer can say them: times on the grid, sorted; what is refused is a ManifestError."""
    found: list[Event] = []
    for event in events:
        label = clean_label(event.label, "event label")
        onset, offset = _ticks(event.onset_s, event.offset_s, label)
        found.append(Event(label=label, onset_s=onset / TICKS_PER_SECOND, offset_s=offset / TICKS_PER_SECOND))
    return _sort_events(found)


def _clean_instrument(instrument: str) -> str:
    return clean_label(instrument, "instrument") if clean_text(instrument) else ""


def write_notes(notes: Iterable[Note], pitch_style: PitchStyle = "name") -> str:
    """Return `C#4 0.32-1.80; E4 piano 0.50-1.00`; the instrument is written where it is known.

    Raises:
        ManifestError: A pitch is not from 0 to 127, an instrument contains `;`, or times are negative, reversed or not
            finite.
    """
    items = []
    for note in notes:
        name = note_name(note.pitch)
        onset, offset = _ticks(note.onset_s, note.offset_s, name)
        items.append((onset, offset, note.pitch, _clean_instrument(note.instrument), name))
    items.sort()
    named = pitch_style == "name"
    return _write(
        (onset, offset, f"{name if named else pitch} {instrument}".rstrip())
        for onset, offset, pitch, instrument, name in items
    )


def _sort_notes(notes: Iterable[Note]) -> tuple[Note, ...]:
    return tuple(sorted(notes, key=lambda note: (note.onset_s, note.offset_s, note.pitch, note.instrument)))


def read_notes(answer: str) -> tuple[Note, ...]:
    """Return the notes of an answer in either pitch style, sorted; a malformed answer is a ManifestError."""
    found: list[Note] = []
    for text, onset_s, offset_s in _read(answer):
        pitch, _, instrument = text.partition(" ")
        found.append(Note(pitch=note_pitch(pitch), onset_s=onset_s, offset_s=offset_s, instrument=instrument))
    return _sort_notes(found)


def quantise_notes(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Return `notes` as an answer can say them: times on the grid, sorted; what is refused is a ManifestError."""
    found: list[Note] = []
    for note in notes:
        onset, offset = _ticks(note.onset_s, note.offset_s, note_name(note.pitch))
        found.append(
            Note(
                pitch=note.pitch,
                onset_s=onset / TICKS_PER_SECOND,
                offset_s=offset / TICKS_PER_SECOND,
                instrument=_clean_instrument(note.instrument),
            )
        )
    return _sort_notes(found)
