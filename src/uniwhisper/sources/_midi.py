"""Reader of Standard MIDI Files: the notes of a file in seconds, as they sound.

Reads one `.mid` or `.midi` file through mido. Guarantees: notes sorted by onset, then pitch, every one of them longer
than 0; nothing of a file that cannot be read whole is used. The rules, where the format leaves them open:

* Time: one tempo map for the file, from the tempo events of all tracks; 120 beats a minute before the first. Files
  with SMPTE time or with songs one after the other (format 2) are refused.
* A note-on of velocity 0 is a note-off. A note-off ends every note of its track, channel and key that began before
  it, as samplers do; one without such a note means nothing. Notes of one key may therefore overlap.
* A note that is never ended lasts to the end of its track. A note without duration makes no sound and is left out.
* Sustain pedal (`pedal=True`): while controller 64 of a channel is at 64 or more, a released note sounds on, until the
  pedal comes up, the key is struck again, or the track ends. Without it a note ends when its key is released.

Source: Standard MIDI Files 1.0 (RP-001); pairing of note-on and note-off as in pretty_midi 0.2.11; the pedal as in
note_seq's `apply_sustain_control_changes`, which Onsets and Frames (arXiv 1710.11153), MAESTRO's own baselines
(arXiv 1810.12247) and MT3 (arXiv 2111.03017) train on.
"""

from __future__ import annotations

import itertools
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mido
from mido.midifiles.meta import KeySignatureError

from uniwhisper.errors import LayoutError
from uniwhisper.types import Note

__all__ = ["read_notes"]

_DEFAULT_TEMPO_US = 500_000
"""Microseconds per beat before the first tempo event. Source: RP-001, Set Tempo."""
_SUSTAIN = 64
_PEDAL_DOWN = 64
"""Controller number, and the value from which the pedal counts as down. Source: MIDI 1.0, controllers 64-69."""
_DECIMALS = 4
"""Times are kept to 0.1 ms: a tenth of the finest resolution that the corpora claim."""

_Span = tuple[int, int, int]
"""Onset and offset in ticks, and pitch."""


def read_notes(path: Path, *, instrument: str = "", pedal: bool = False) -> tuple[Note, ...]:
    """Return the notes of the MIDI file at `path`.

    Args:
        path: The file.
        instrument: What every note is played on; percussion is not known here, so leave it out before.
        pedal: Whether the sustain pedal lengthens notes.

    Raises:
        LayoutError: The file is missing, broken, or counts time in another way than in beats; the message names it.
    """
    midi = _load(path)
    seconds = _clock(midi, path)
    spans = itertools.chain.from_iterable(_spans(track, pedal) for track in midi.tracks)
    notes = (
        Note(pitch=pitch, onset_s=seconds(onset), offset_s=seconds(offset), instrument=instrument)
        for onset, offset, pitch in spans
    )
    return tuple(
        sorted(
            (note for note in notes if note.offset_s > note.onset_s),
            key=lambda note: (note.onset_s, note.pitch, note.offset_s),
        )
    )


def _load(path: Path) -> mido.MidiFile:
    try:
        midi = mido.MidiFile(path)
    except FileNotFoundError as e:
        raise LayoutError(f"expected the MIDI file {path}, found none: unpack the corpus again") from e
    except (OSError, EOFError, ValueError, LookupError, TypeError, KeySignatureError) as e:
        found = f"{type(e).__name__}: {e}" if str(e) else type(e).__name__
        raise LayoutError(f"{path}: expected a Standard MIDI File, found a broken one ({found})") from e
    if midi.type not in (0, 1):
        raise LayoutError(f"{path}: expected tracks that play together (format 0 or 1), found format {midi.type}")
    if midi.ticks_per_beat <= 0:
        raise LayoutError(f"{path}: expected time in ticks per beat, found SMPTE frames ({midi.ticks_per_beat})")
    return midi


def _timed(track: Iterable[Any]) -> Iterator[tuple[int, Any]]:
    """Yield (tick, message); the file has only the ticks between messages."""
    tick = 0
    for message in track:
        tick += message.time
        yield tick, message


def _clock(midi: mido.MidiFile, path: Path) -> Callable[[int], float]:
    """Return the function from ticks to seconds."""
    tempos = {0: _DEFAULT_TEMPO_US}
    for tick, message in sorted(
        ((tick, message) for track in midi.tracks for tick, message in _timed(track) if message.type == "set_tempo"),
        key=lambda item: item[0],
    ):
        if message.tempo <= 0:
            raise LayoutError(f"{path}: expected a tempo above 0 at tick {tick}, found {message.tempo} us per beat")
        tempos[tick] = message.tempo
    ticks = list(tempos)
    starts_us = [0.0]
    for (tick, tempo), following in zip(tempos.items(), ticks[1:], strict=False):
        starts_us.append(starts_us[-1] + (following - tick) * tempo / midi.ticks_per_beat)

    def seconds(tick: int) -> float:
        index = bisect_right(ticks, tick) - 1
        rest_us = (tick - ticks[index]) * tempos[ticks[index]] / midi.ticks_per_beat
        return round((starts_us[index] + rest_us) / 1e6, _DECIMALS)

    return seconds


@dataclass(kw_only=True, slots=True)
class _Channel:
    """What sounds on a channel: onsets in ticks by key."""

    held: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    ringing: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Released keys that the pedal holds."""
    pedal_down: bool = False

    def strike(self, key: int, tick: int) -> Iterator[_Span]:
        """Begin a note; what still rings of the key ends."""
        for onset in self.ringing.pop(key, ()):
            yield onset, tick, key
        self.held[key].append(tick)

    def release(self, key: int, tick: int) -> Iterator[_Span]:
        """End the notes of a key, or hand them to the pedal; one that begins at this tick is the next one."""
        ended = [onset for onset in self.held[key] if onset < tick]
        starting = [onset for onset in self.held.pop(key) if onset == tick]
        if starting and ended:
            self.held[key] = starting
        if self.pedal_down:
            self.ringing[key] += ended
        else:
            yield from ((onset, tick, key) for onset in ended)

    def press_pedal(self, down: bool, tick: int) -> Iterator[_Span]:
        """Move the pedal; when it comes up, what it held ends."""
        self.pedal_down = down
        if not down:
            yield from self._end(self.ringing, tick)

    def stop(self, tick: int) -> Iterator[_Span]:
        """End everything."""
        yield from self._end(self.held, tick)
        yield from self._end(self.ringing, tick)

    @staticmethod
    def _end(sounding: dict[int, list[int]], tick: int) -> Iterator[_Span]:
        for key, onsets in sounding.items():
            yield from ((onset, tick, key) for onset in onsets)
        sounding.clear()


def _spans(track: Iterable[Any], pedal: bool) -> Iterator[_Span]:
    """Yield the notes of one track, in the order in which they end."""
    channels: dict[int, _Channel] = defaultdict(_Channel)
    tick = 0
    for tick, message in _timed(track):
        if message.type == "note_on" and message.velocity > 0:
            yield from channels[message.channel].strike(message.note, tick)
        elif message.type in ("note_on", "note_off"):
            yield from channels[message.channel].release(message.note, tick)
        elif pedal and message.type == "control_change" and message.control == _SUSTAIN:
            yield from channels[message.channel].press_pedal(message.value >= _PEDAL_DOWN, tick)
    for channel in channels.values():
        yield from channel.stop(tick)
