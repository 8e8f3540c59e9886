"""Figure 1 of the paper from measured scores: a radar of tasks, one polygon an encoder.

Reads plain numbers, returns drawings. Guarantees: labels never overlap each other or the circle, whatever the tasks are
called; a name too long for its place is shortened with an ellipsis and kept whole in the label's title.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

from uniwhisper.report.drawing import LINE_PX, TEXT_PX, Box, Dot, Drawing, Mark, Shape, Words, beside, moved, text_width

__all__ = ["MIN_AXES", "Series", "figure1", "legend", "place_labels", "radar"]

MIN_AXES = 3
"""Fewer axes make no polygon."""
_RADIUS = 108
_LABEL_PX = 100  # widest line of a label
_STEP = 2
_MAX_LINES = 3
_NUM_COLOURS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One polygon."""

    name: str
    values: tuple[float | None, ...]
    """One an axis, 0 to 1; None leaves the axis out, values outside are drawn at the nearest end."""
    published: bool = False
    """Taken from a publication: drawn as a thin dotted line."""


def radar(*, title: str, axes: Sequence[str], series: Sequence[Series]) -> Drawing:
    """Return a radar from 0 at the centre to 1 at the rim; the first series is the baseline (dashed, squares).

    Args:
        title: Read out instead of the drawing.
        axes: Task names, clockwise from the top; at least `MIN_AXES`.
        series: One polygon each.
    """
    angles = [2 * math.pi * i / len(axes) - math.pi / 2 for i in range(len(axes))]

    def at(i: int, share: float) -> tuple[float, float]:
        return (_RADIUS * share * math.cos(angles[i]), _RADIUS * share * math.sin(angles[i]))

    marks: list[Mark] = []
    for share in (0.25, 0.5, 0.75, 1.0):
        corners = tuple(at(i, share) for i in range(len(axes)))
        marks.append(Shape(look="axis" if share == 1 else "ring", points=corners, closed=True))
    marks.extend(Shape(look="ring", points=((0.0, 0.0), at(i, 1))) for i in range(len(axes)))
    for e, one in enumerate(series):
        shown = [at(i, min(max(v, 0.0), 1.0)) for i, v in enumerate(one.values) if v is not None]
        marks.extend(_polygon(shown, e, one.published))
    marks.extend(_scale())
    labels, boxes = _labels(axes, angles)
    marks.extend(labels)
    edges = [Box(left=-_RADIUS, right=_RADIUS, top=-_RADIUS, bottom=_RADIUS), *boxes]
    half = max(max(-box.left, box.right) for box in edges) + 4
    top, bottom = min(box.top for box in edges) - 4, max(box.bottom for box in edges) + 4
    return Drawing(title=title, box=Box(left=-half, right=half, top=top, bottom=bottom), marks=tuple(marks))


def _polygon(corners: Sequence[tuple[float, float]], e: int, published: bool) -> list[Mark]:
    colour = f"e{e % _NUM_COLOURS}"
    if published:
        return [Shape(look=f"published {colour}", points=tuple(corners), closed=True)]
    marks: list[Mark] = [Shape(look=f"area {colour}", points=tuple(corners), closed=True)]
    return [*marks, *(_mark(x, y, e) for x, y in corners)]


def _mark(x: float, y: float, e: int) -> Mark:
    if e == 0:  # squares for the baseline: told apart without colour
        corners = ((x - 3, y - 3), (x + 3, y - 3), (x + 3, y + 3), (x - 3, y + 3))
        return Shape(look="e0", points=corners, closed=True)
    return Dot(look=f"e{e % _NUM_COLOURS}", x=x, y=y, radius=3.2)


def _scale() -> list[Mark]:
    marks: list[Mark] = []
    for share in (0.5, 1.0):
        top = -_RADIUS * share + 2
        box = Box(left=4, right=24, top=top, bottom=top + LINE_PX)
        marks.append(Words(look="tick", lines=(f"{share:g}",), box=box, size_px=11))
    return marks


def _wrap(name: str) -> tuple[str, ...]:
    """Split a task name at underscores, hyphens and spaces into at most three lines that are narrow enough."""
    lines: list[str] = []
    for word in re.findall(r"[^_\-\s]+[_\-\s]*", name) or [name]:
        piece = _shortened(word.rstrip())
        joined = piece if not lines else lines[-1] + ("" if lines[-1].endswith(("_", "-")) else " ") + piece
        if lines and text_width(joined) <= _LABEL_PX:
            lines[-1] = joined
        else:
            lines.append(piece)
    if len(lines) > _MAX_LINES:
        lines = [*lines[: _MAX_LINES - 1], _shortened(lines[_MAX_LINES - 1] + "\u2026")]
    return tuple(lines)


def _shortened(text: str) -> str:
    while len(text) > 2 and text_width(text) > _LABEL_PX:
        text = text.rstrip("\u2026")[:-1] + "\u2026"
    return text


def place_labels(anchors: Sequence[tuple[float, float]], sizes: Sequence[tuple[float, float]]) -> list[Box]:
    """Return a rectangle for each label so that none overlaps another.

    A label lies outside its anchor; those at the sides are placed first, and one that would overlap moves up (in the
    upper half) or down until it is free.

    Args:
        anchors: Point around the origin at which each label belongs, y downwards.
        sizes: Width and height of each label.
    """
    placed: dict[int, Box] = {}
    for i in sorted(range(len(anchors)), key=lambda i: -abs(anchors[i][0])):
        (x, y), (width, height) = anchors[i], sizes[i]
        left = x - width / 2 if abs(x) < 8 else (x if x > 0 else x - width)
        lean = y / max(math.hypot(x, y), 1e-9)  # -1 at the top, 1 at the bottom
        top = y - height / 2 + lean * height / 2
        step = _STEP if y > 0 else -_STEP
        box = Box(left=left, right=left + width, top=top, bottom=top + height)
        while any(box.overlaps(other) for other in placed.values()):
            box = Box(left=box.left, right=box.right, top=box.top + step, bottom=box.bottom + step)
        placed[i] = box
    return [placed[i] for i in range(len(anchors))]


def _labels(axes: Sequence[str], angles: Sequence[float]) -> tuple[list[Mark], list[Box]]:
    wrapped = [_wrap(name) for name in axes]
    sizes = [(max(map(text_width, lines)) + 2, len(lines) * LINE_PX) for lines in wrapped]
    reach = _RADIUS + 9
    anchors = [(reach * math.cos(a), reach * math.sin(a)) for a in angles]
    boxes = place_labels(anchors, sizes)
    marks: list[Mark] = []
    for name, lines, (x, y), box in zip(axes, wrapped, anchors, boxes, strict=True):
        anchor = "middle" if abs(x) < 8 else ("start" if x > 0 else "end")
        near = (x, min(max(y, box.top), box.bottom))
        if math.hypot(near[0] - x, near[1] - y) > LINE_PX:  # pushed away: a line shows where it belongs
            marks.append(Shape(look="leader", points=((x * _RADIUS / reach, y * _RADIUS / reach), near)))
        marks.append(Words(look="ink", lines=lines, box=box, anchor=anchor, title=name))
    return marks, boxes


def figure1(panels: Sequence[tuple[str, Sequence[str], Sequence[Series]]], *, title: str) -> Drawing:
    """Return radars side by side under their headings, with one legend below: a figure of its own.

    Args:
        panels: Heading, axes and series of each radar; all have the same series.
        title: Read out instead of the drawing.
    """
    drawings = []
    for heading, axes, series in panels:
        one = radar(title=heading, axes=axes, series=series)
        head = Box(left=one.box.left, right=one.box.right, top=one.box.top - 24, bottom=one.box.top - 4)
        words = Words(look="ink", lines=(heading,), box=head, anchor="middle", size_px=15, bold=True)
        box = Box(left=one.box.left, right=one.box.right, top=head.top, bottom=one.box.bottom)
        drawings.append(Drawing(title=heading, box=box, marks=(*one.marks, words)))
    joined = beside(drawings)
    below = legend(panels[0][2], joined.box.right)
    marks = (*joined.marks, *moved(below, 0, joined.box.bottom + 10))
    rows = max((mark.box.bottom for mark in below if isinstance(mark, Words)), default=0.0)
    box = Box(left=-8, right=joined.box.right + 8, top=-8, bottom=joined.box.bottom + rows + 18)
    return Drawing(title=title, box=box, marks=marks)


def legend(series: Sequence[Series], width: float, *, first: int = 0) -> list[Mark]:
    """Return names beside samples of their lines, from the origin on, broken into rows of `width`.

    Args:
        series: What to name.
        width: Of the drawing that it belongs to.
        first: Place of the first of them among the encoders: decides the colours.
    """
    marks: list[Mark] = []
    x = y = 0.0
    for e, one in enumerate(series, start=first):
        name = one.name + (" (published)" if one.published else "")
        length = text_width(name) + 2
        if x > 0 and x + 34 + length > width:
            x, y = 0.0, y + LINE_PX + 6
        middle, colour = y + LINE_PX / 2, f"e{e % _NUM_COLOURS}"
        ends = ((x, middle), (x + 26, middle))
        marks.append(Shape(look=f"published {colour}" if one.published else f"line {colour}", points=ends))
        if not one.published:
            marks.append(_mark(x + 13, middle, e))
        box = Box(left=x + 32, right=x + 32 + length, top=y, bottom=y + LINE_PX)
        marks.append(Words(look="ink", lines=(name,), box=box, size_px=TEXT_PX))
        x += 32 + length + 22
    return marks
