"""Cutting: a recording longer than the encoder's window becomes several clips, cut where its annotation has gaps.

Reads and writes nothing; a piece names the same audio file as the recording, with a later start. Guarantees: pieces
lie end to end and cover the recording to the microsecond, none is longer than the limit or shorter than a second,
every event and note that sounds in the recording is in at least one piece, and no time in a piece lies outside of it.
Rules:

* Recordings with events or notes are cut in the second half of the window, where the fewest of them sound, and there
  as late as possible: shortly before the next one begins. What sounds across a cut is in both pieces, clipped; a
  rest of less than 20 ms is left out of the piece where it lies.
* Others become pieces of equal length.
* A piece inherits captions, attributes, votes and metadata, and its recording's labels; of labels that are the labels
  of events only those whose events it has. Questions are not inherited: "how many", "what comes first" and the like
  have another answer in a part.
* A transcript or a translation has no times, so what has one is not cut but refused.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from uniwhisper import identifiers
from uniwhisper.audio import WINDOW_S
from uniwhisper.errors import ConfigError
from uniwhisper.types import Annotation, Clip, Event, Note

__all__ = ["Uncuttable", "cut", "part"]

_Timed = TypeVar("_Timed", Event, Note)

_US = 1_000_000  # cut points are whole microseconds: a sixteenth of a sample at 16 kHz, and short to write down
_SLIVER_US = 20_000
_MARGIN_US = 250_000
"""A cut keeps this distance from the next onset, because annotated onsets are late by up to some tens of ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Uncuttable:
    """A clip that is too long and cannot be cut; the caller lists it."""

    clip_id: str
    reason: str


def cut(
    clip: Clip, *, max_s: float = float(WINDOW_S), min_s: float = 1.0, tolerance_s: float = 1.0
) -> list[Clip] | Uncuttable:
    """Return the pieces of `clip`, or `[clip]` itself where it is not longer than `max_s`, or why it cannot be cut.

    Piece n has the id `<id>#000n`, counted from 1, and the recording's group, or its id where it has none.

    Args:
        clip: A clip; its times are checked only if it has to be cut.
        max_s: The longest a piece may be.
        min_s: The shortest a piece may be.
        tolerance_s: Events and notes may end, or begin, this long after the recording's end: their rest is cut off.

    Raises:
        ConfigError: `max_s` is not at least twice `min_s`, or `min_s` is not above 0.
    """
    if not 0 < 2 * min_s <= max_s:
        raise ConfigError(f"cut: expected 0 < 2 * min_s <= max_s, found min_s {min_s} and max_s {max_s}")
    duration_us, max_us, min_us = (round(value * _US) for value in (clip.duration_s, max_s, min_s))
    if duration_us <= max_us:
        return [clip]
    reason = _refusal(clip, tolerance_s)
    if reason:
        return Uncuttable(clip_id=clip.id, reason=reason)
    items = (*clip.annotation.events, *clip.annotation.notes)
    bounds = _gaps(items, duration_us, max_us, min_us) if items else _equal(duration_us, max_us)
    return [_piece(clip, number, start, end) for number, (start, end) in enumerate(itertools.pairwise(bounds), start=1)]


def part(annotation: Annotation, start_s: float, end_s: float) -> Annotation:
    """Return what `annotation` says about the span from `start_s` to `end_s`, on the span's own clock.

    Everything but events, notes and the labels of events stays as it is.
    """
    start, end = round(start_s * _US), round(end_s * _US)
    events = _within(annotation.events, start, end)
    timed, here = {event.label for event in annotation.events}, {event.label for event in events}
    return dataclasses.replace(
        annotation,
        events=events,
        notes=_within(annotation.notes, start, end),
        labels=tuple(label for label in annotation.labels if label not in timed or label in here),
    )


def _refusal(clip: Clip, tolerance_s: float) -> str:
    """Return why a clip that is too long cannot be cut, or nothing."""
    about = clip.annotation
    long = f"{clip.duration_s:.1f} s are too long for one clip, and"
    if about.transcript or about.translations:
        return f"{long} a transcript without times cannot be cut"
    for item in (*about.events, *about.notes):
        name = f"event {item.label!r}" if isinstance(item, Event) else f"note {item.pitch}"
        if not (math.isfinite(item.onset_s) and math.isfinite(item.offset_s) and 0 <= item.onset_s <= item.offset_s):
            return f"{long} {name} has impossible times: {item.onset_s} to {item.offset_s} s"
        if item.onset_s > clip.duration_s + tolerance_s:
            return f"{long} {name} begins at {item.onset_s:.2f} s, after the recording's end"
    if about.questions and about == Annotation(questions=about.questions, metadata=about.metadata):
        return f"{long} its questions are about the whole"
    return ""


def _equal(duration_us: int, max_us: int) -> list[int]:
    """Return the bounds of the fewest pieces of equal length."""
    count = -(-duration_us // max_us)
    length = -(-duration_us // count)
    return [*range(0, length * (count - 1) + 1, length), duration_us]


def _gaps(items: tuple[Event | Note, ...], duration_us: int, max_us: int, min_us: int) -> list[int]:
    """Return the bounds of pieces, each cut where the fewest items sound."""
    times = np.array([(item.onset_s, item.offset_s) for item in items]) * _US
    onsets, offsets = np.rint(np.clip(times, 0, duration_us)).astype(np.int64).T
    sounding = offsets > onsets
    timeline = _Timeline(np.sort(onsets[sounding]), np.sort(offsets[sounding]), duration_us)
    bounds = [0]
    while duration_us - bounds[-1] > max_us:
        first = bounds[-1] + max(min_us, max_us // 2)
        last = min(bounds[-1] + max_us, duration_us - min_us)
        bounds.append(timeline.best_cut(first, last))
    return [*bounds, duration_us]


class _Timeline:
    """Onsets and offsets of a recording, each sorted, in microseconds."""

    def __init__(self, onsets: np.ndarray, offsets: np.ndarray, end: int) -> None:
        self._onsets, self._offsets = onsets, offsets
        self._changes = np.unique(np.concatenate([[0], onsets, offsets, [end]]))

    def crossing(self, points: np.ndarray) -> np.ndarray:
        """Return how many items sound both before and after each point."""
        begun = np.searchsorted(self._onsets, points, side="left")
        return begun - np.searchsorted(self._offsets, points, side="right")

    def best_cut(self, first: int, last: int) -> int:
        """Return the point from `first` to `last` that the fewest items cross, the latest of several."""
        inside = self._changes[(self._changes > first) & (self._changes < last)]
        edges = np.concatenate([[first], inside, [last]])
        # Between two changes the count is constant, and at a change it can only be lower than on either side.
        points = np.sort(np.concatenate([edges, (edges[:-1] + edges[1:]) // 2]))
        counts = self.crossing(points)
        best = int(points[np.flatnonzero(counts == counts.min())[-1]])
        left = int(self._changes[np.searchsorted(self._changes, best, side="left") - 1])
        right = int(self._changes[np.searchsorted(self._changes, best, side="left")])
        # The gap from `left` to `right` holds `best`, or ends there; where only `best` itself is so good, it is taken.
        if best == right and self.crossing(np.array([(left + right) // 2]))[0] > counts.min():
            return best
        return max(first, min(last, right - min(_MARGIN_US, (right - left) // 2)))


def _piece(clip: Clip, number: int, start: int, end: int) -> Clip:
    start_s, end_s = start / _US, end / _US
    return dataclasses.replace(
        clip,
        id=f"{clip.id}#{number:04d}",
        start_s=round(clip.start_s + start_s, 6),
        duration_s=(end - start) / _US,
        group=clip.group or clip.id,
        upstream_ids=tuple(_narrowed(text, start_s, end_s) for text in clip.upstream_ids),
        annotation=dataclasses.replace(part(clip.annotation, start_s, end_s), questions=()),
    )


def _within(items: tuple[_Timed, ...], start: int, end: int) -> tuple[_Timed, ...]:
    """Return the items that sound between `start` and `end`, clipped and on that span's clock."""
    found = []
    first_s, last_s = start / _US - 1e-6, end / _US
    for item in items:
        if item.offset_s < first_s or item.onset_s > last_s:  # most items of a long recording, without more ado
            continue
        onset, offset = round(item.onset_s * _US), round(item.offset_s * _US)
        left, right = max(onset, start), min(offset, end)
        if _belongs(onset, offset, left, right, start, end):
            found.append(dataclasses.replace(item, onset_s=(left - start) / _US, offset_s=(right - start) / _US))
    return tuple(found)


def _belongs(onset: int, offset: int, left: int, right: int, start: int, end: int) -> bool:
    """Return whether the span from `left` to `right` of an item is worth keeping."""
    if onset == offset:
        return start <= onset < end
    whole = left == onset and right == offset
    # The longest rest of an item that is cut is never thrown away: it is at least half of it, or a whole piece.
    return left < right and (whole or right - left >= _SLIVER_US or 2 * (right - left) >= offset - onset)


def _narrowed(text: str, start_s: float, end_s: float) -> str:
    """Return the identifier of a piece: of a YouTube span the part of the span."""
    whole = identifiers.parse(text)
    if whole.namespace != "youtube" or whole.start_s is None or whole.end_s is None:
        return text
    first, last = whole.start_s + start_s, min(whole.end_s, whole.start_s + end_s)
    return identifiers.youtube(whole.key, first, last) if round(first, 3) < round(last, 3) else text
