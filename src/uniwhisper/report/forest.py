"""Differences per task as a forest plot: a dot and a whisker an encoder, around a rule at zero.

Reads plain numbers, returns a drawing. Guarantees: every interval lies inside the plot, all rows share one axis, and
the sign and the ticks carry what the colours say.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from uniwhisper.report.drawing import LINE_PX, Box, Dot, Drawing, Mark, Shape, Words, text_width
from uniwhisper.report.figures import Trend, interval_span, ticks

__all__ = ["Delta", "ForestRow", "forest"]

_LABEL_PX, _PLOT_PX, _MARGIN = 164, 210, 6
_ROW_PX, _EACH_PX = 12, 12
_NUM_COLOURS = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Delta:
    """A difference with its interval."""

    value: float
    low: float
    high: float
    trend: Trend


@dataclass(frozen=True, kw_only=True, slots=True)
class ForestRow:
    """One task: a difference for each encoder after the first, None where there is none."""

    name: str
    deltas: tuple[Delta | None, ...]
    is_mean: bool = False


def forest(rows: Sequence[ForestRow], *, title: str, unit: str = "") -> Drawing:
    """Return the plot; with one encoder colours say up, down or unclear, with more they say which encoder.

    Args:
        rows: Top to bottom.
        title: Read out instead of the drawing.
        unit: Words under the axis.
    """
    bounds = [b for row in rows for d in row.deltas if d is not None for b in (d.low, d.high, d.value)]
    span = interval_span(bounds)
    num_encoders = max((len(row.deltas) for row in rows), default=1)
    height = _ROW_PX + _EACH_PX * num_encoders

    def x(value: float) -> float:
        return _LABEL_PX + _PLOT_PX / 2 + value / span * (_PLOT_PX / 2 - 4)

    bottom = len(rows) * height
    marks: list[Mark] = [_band(i, height) for i in range(0, len(rows), 2)]
    for tick in ticks(-span, span):
        look = "zero" if tick == 0 else "rule"
        marks.append(Shape(look=look, points=((x(tick), 0.0), (x(tick), float(bottom)))))
        box = Box(left=x(tick) - 24, right=x(tick) + 24, top=bottom + 3, bottom=bottom + 3 + LINE_PX)
        text = "0" if tick == 0 else f"{tick:+.3g}".replace("-", "\u2212")
        marks.append(Words(look="tick", lines=(text,), box=box, anchor="middle", size_px=11))
    for i, row in enumerate(rows):
        marks.append(_name(row, i, height))
        for e, delta in enumerate(row.deltas):
            if delta is not None:
                y = i * height + _ROW_PX / 2 + _EACH_PX * (e + 0.5)
                marks.extend(_whisker(delta, x(delta.low), x(delta.value), x(delta.high), y, e, num_encoders))
    if unit:
        box = Box(left=_LABEL_PX, right=_LABEL_PX + _PLOT_PX, top=bottom + 19, bottom=bottom + 19 + LINE_PX)
        marks.append(Words(look="tick", lines=(unit,), box=box, anchor="middle", size_px=11))
    right = _LABEL_PX + _PLOT_PX + 22
    return Drawing(title=title, box=Box(left=-2, right=right, top=-_MARGIN, bottom=bottom + 38), marks=tuple(marks))


def _band(row: int, height: float) -> Shape:
    left, right, top = -2.0, float(_LABEL_PX + _PLOT_PX + 22), row * height
    corners = ((left, top), (right, top), (right, top + height), (left, top + height))
    return Shape(look="band", points=corners, closed=True)


def _name(row: ForestRow, i: int, height: float) -> Words:
    text = row.name
    while len(text) > 2 and text_width(text) > _LABEL_PX - 8:
        text = text.rstrip("\u2026")[:-1] + "\u2026"
    top = i * height + (height - LINE_PX) / 2
    box = Box(left=2, right=_LABEL_PX - 4, top=top, bottom=top + LINE_PX)
    return Words(look="ink", lines=(text,), box=box, title=row.name, bold=row.is_mean)


def _whisker(delta: Delta, low: float, value: float, high: float, y: float, e: int, num_encoders: int) -> list[Mark]:
    colour = f"e{(e + 1) % _NUM_COLOURS}"
    line, dot = (f"line {colour}", colour) if num_encoders > 1 else (f"whisker {delta.trend}", f"dot {delta.trend}")
    return [Shape(look=line, points=((low, y), (high, y))), Dot(look=dot, x=value, y=y, radius=3.5)]
