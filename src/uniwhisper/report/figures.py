"""Figures as inline SVG: interval bars, radar charts, line charts and legend swatches.

Reads plain numbers, returns strings of SVG that take every colour from the page's style sheet, so that one drawing
serves the light and the dark theme. Every text is escaped here. Guarantees: radar labels never overlap, and a figure
carries a title for readers who cannot see it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

__all__ = [
    "Box",
    "Line",
    "LineChart",
    "Trend",
    "interval_bar",
    "interval_span",
    "line_chart",
    "line_swatch",
    "place_labels",
    "plot_box",
    "radar",
    "ticks",
    "x_range",
]

Trend = Literal["up", "down", "unclear"]
"""Whether a difference's interval lies above zero, below zero or holds it."""

_CHARACTER_PX = 6.4
_LINE_PX = 14
_RADIUS_PX = 108
_DASHES = ("", "6 3", "2 3")
_NUM_COLOURS = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle in drawing units: the space that a text takes."""

    left: float
    right: float
    top: float
    bottom: float

    def overlaps(self, other: Box) -> bool:
        """Return whether the two rectangles share area."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One line of a chart; `None` where nothing was measured (the line passes over it)."""

    name: str
    y: tuple[float | None, ...]
    css: str = ""
    """Classes of the style sheet; empty takes the next colour of the palette."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LineChart:
    """Lines over one x axis of training steps."""

    id: str
    title: str
    x: tuple[int, ...]
    lines: tuple[Line, ...]
    y_label: str
    is_log: bool = False


def interval_span(bounds: Sequence[float]) -> float:
    """Return half the width of an axis around zero that holds all `bounds`; never 0."""
    return max((abs(bound) for bound in bounds), default=0.0) * 1.05 or 1.0


def interval_bar(value: float, low: float, high: float, *, span: float, trend: Trend) -> str:
    """Return a small bar: the interval as a whisker, the value as a dot, and a rule at zero.

    Args:
        value: The difference.
        low: Lower end of its interval.
        high: Upper end of its interval.
        span: Half the width of the axis (`interval_span`), shared by all bars of a column so that they compare.
        trend: Decides the colour.
    """
    width, height = 108, 12

    def x(v: float) -> float:
        return round(width / 2 + v / span * (width / 2 - 4), 1)

    middle = height / 2
    return (
        f'<svg class="bar {trend}" width="{width}" height="{height}" viewBox="0 0 {width} {height}" aria-hidden="true">'
        f'<line class="zero" x1="{x(0)}" x2="{x(0)}" y1="0" y2="{height}"/>'
        f'<line class="whisker" x1="{x(low)}" x2="{x(high)}" y1="{middle}" y2="{middle}"/>'
        f'<circle class="dot" cx="{x(value)}" cy="{middle}" r="3.5"/></svg>'
    )


def radar(*, id: str, title: str, axes: Sequence[str], series: Sequence[tuple[str, Sequence[float | None]]]) -> str:
    """Return a radar chart from 0 at the centre to 1 at the rim, one axis per task and one polygon per encoder.

    Args:
        id: Unique in the page.
        title: Read out instead of the drawing.
        axes: Task names, clockwise from the top.
        series: Name and one value per axis for each encoder; the first is the baseline (dashed). `None` leaves the
            axis out of the polygon; values outside 0..1 are drawn at the nearest end.
    """
    angles = [2 * math.pi * i / len(axes) - math.pi / 2 for i in range(len(axes))]

    def at(i: int, share: float) -> str:
        return f"{_RADIUS_PX * share * math.cos(angles[i]):.1f},{_RADIUS_PX * share * math.sin(angles[i]):.1f}"

    parts: list[str] = []
    for share in (0.25, 0.5, 0.75, 1.0):
        corners = " ".join(at(i, share) for i in range(len(axes)))
        parts.append(f'<polygon class="{"axis" if share == 1 else "ring"}" points="{corners}"/>')
    for i in range(len(axes)):
        parts.append(f'<polyline class="ring" points="0,0 {at(i, 1)}"/>')
    for e, (_, values) in enumerate(series):
        shown = [(i, min(max(v, 0.0), 1.0)) for i, v in enumerate(values) if v is not None]
        corners = " ".join(at(i, v) for i, v in shown)
        parts.append(f'<polygon class="area e{e % 5}" points="{corners}"/>')
        parts.extend(_radar_mark(at(i, v), e) for i, v in shown)
    for share in (0.5, 1.0):
        parts.append(f'<text class="tick" x="4" y="{-_RADIUS_PX * share + 11:.1f}">{share:g}</text>')
    boxes, texts = _radar_labels(axes, angles)
    parts.extend(texts)
    left, right = min([-_RADIUS_PX - 10, *(b.left for b in boxes)]), max([_RADIUS_PX + 10, *(b.right for b in boxes)])
    half = max(-left, right, 190)
    top, bottom = min(b.top for b in boxes) - 4, max([_RADIUS_PX, *(b.bottom for b in boxes)]) + 4
    view = f"{-half:.0f} {top:.0f} {2 * half:.0f} {bottom - top:.0f}"
    return _svg(id, title, view, parts)


def _radar_mark(place: str, encoder: int) -> str:
    x, y = place.split(",")
    if encoder == 0:  # squares for the baseline: told apart without colour
        return f'<rect class="e0" x="{float(x) - 3:.1f}" y="{float(y) - 3:.1f}" width="6" height="6"/>'
    return f'<circle class="e{encoder % 5}" cx="{x}" cy="{y}" r="3.2"/>'


def _wrap(name: str, width: int = 14) -> list[str]:
    """Split a task name at underscores, hyphens and spaces into lines of at most `width` characters."""
    lines: list[str] = []
    for word in re.findall(r"[^_\-\s]+[_\-\s]*", name) or [name]:
        piece = word.rstrip() if len(word.rstrip("_- ")) <= width else word[: width - 1] + "\u2026"
        if lines and len(lines[-1]) + len(piece) + 1 <= width:
            lines[-1] += piece if lines[-1].endswith(("_", "-")) else f" {piece}"
        else:
            lines.append(piece)
    return lines if len(lines) <= 3 else [*lines[:2], lines[2][: width - 1] + "\u2026"]


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
        box = Box(left=left, right=left + width, top=top, bottom=top + height)
        step = 2 if y > 0 else -2
        while any(box.overlaps(other) for other in placed.values()):
            box = Box(left=box.left, right=box.right, top=box.top + step, bottom=box.bottom + step)
        placed[i] = box
    return [placed[i] for i in range(len(anchors))]


def _radar_labels(axes: Sequence[str], angles: Sequence[float]) -> tuple[list[Box], list[str]]:
    wrapped = [_wrap(name) for name in axes]
    sizes = [(max(map(len, lines)) * _CHARACTER_PX + 4, len(lines) * _LINE_PX) for lines in wrapped]
    reach = _RADIUS_PX + 9
    boxes = place_labels([(reach * math.cos(a), reach * math.sin(a)) for a in angles], sizes)
    texts = []
    for name, lines, angle, box in zip(axes, wrapped, angles, boxes, strict=True):
        x = reach * math.cos(angle)
        anchor = "middle" if abs(x) < 8 else ("start" if x > 0 else "end")
        at = {"middle": (box.left + box.right) / 2, "start": box.left, "end": box.right}[anchor]
        spans = "".join(
            f'<tspan x="{at:.1f}" y="{box.top + 11 + _LINE_PX * i:.1f}">{escape(line)}</tspan>'
            for i, line in enumerate(lines)
        )
        texts.append(f'<text text-anchor="{anchor}"><title>{escape(name)}</title>{spans}</text>')
    return boxes, texts


_WIDTH, _HEIGHT = 370, 240


def plot_box() -> Box:
    """Return the rectangle of a line chart that the lines fill, in drawing units."""
    return Box(left=52, right=_WIDTH - 12, top=12, bottom=_HEIGHT - 40)


def x_range(chart: LineChart) -> tuple[int, int]:
    """Return the first and last step that the x axis shows."""
    return min(chart.x, default=0), max(chart.x, default=0)


def ticks(low: float, high: float, *, count: int = 4) -> list[float]:
    """Return about `count` round numbers within `low` .. `high`."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    unit = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    """Return the powers of ten between two exponents, with 2 and 5 times them where the range is short."""
    factors = (1,) if high - low > 2 else (1, 2, 5)
    values = [factor * 10.0**t for t in range(math.floor(low), math.floor(high) + 1) for factor in factors]
    return [value for value in values if low <= math.log10(value) + 1e-9 and math.log10(value) <= high]


def _tick_text(value: float) -> str:
    if value and not 0.001 <= abs(value) < 100_000:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Scale:
    """From a step and a value to a place in the drawing."""

    box: Box
    first: int
    last: int
    low: float
    high: float
    is_log: bool

    def x(self, step: float) -> float:
        return self.box.left + (step - self.first) / ((self.last - self.first) or 1) * (self.box.right - self.box.left)

    def y(self, value: float) -> float:
        value = math.log10(value) if self.is_log else value
        return self.box.bottom - (value - self.low) / (self.high - self.low) * (self.box.bottom - self.box.top)


def _scale(chart: LineChart) -> _Scale:
    values = [y for line in chart.lines for y in line.y if y is not None and (y > 0 or not chart.is_log)]
    low, high = (min(values), max(values)) if values else (1.0, 1.0)
    if chart.is_log:
        low, high = math.log10(low), math.log10(high)
    elif 0 < low < 0.5 * high:
        low = 0.0  # an axis that nearly reaches zero starts there
    low, high = (low, high) if high > low else (low - 0.5, high + 0.5)
    first, last = x_range(chart)
    high += 0.04 * (high - low)
    return _Scale(box=plot_box(), first=first, last=last, low=low, high=high, is_log=chart.is_log)


def line_chart(chart: LineChart) -> str:
    """Return the chart as SVG: grid, axes with units, and one polyline per line."""
    scale = _scale(chart)
    parts = _grid(scale)
    for i, line in enumerate(chart.lines):
        pairs = zip(chart.x, line.y, strict=True)
        shown = [(x, y) for x, y in pairs if y is not None and (y > 0 or not chart.is_log)]
        points = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y in shown)
        parts.append(f'<polyline {_line_style(line, i)} points="{points}"/>')
    names = ", ".join(line.name for line in chart.lines)
    return _svg(chart.id, f"{chart.title} over training steps: {names}", f"0 0 {_WIDTH} {_HEIGHT}", parts)


def _grid(scale: _Scale) -> list[str]:
    box = scale.box
    values = _log_ticks(scale.low, scale.high) if scale.is_log else ticks(scale.low, scale.high)
    parts = [
        f'<line class="rule" x1="{box.left}" x2="{box.right}" y1="{scale.y(t):.1f}" y2="{scale.y(t):.1f}"/>'
        f'<text class="tick" text-anchor="end" x="{box.left - 7}" y="{scale.y(t) + 4:.1f}">{_tick_text(t)}</text>'
        for t in values
    ]
    parts.append(f'<polyline class="axis" points="{box.left},{box.bottom} {box.right},{box.bottom}"/>')
    parts.extend(
        f'<text class="tick" text-anchor="middle" x="{scale.x(t):.1f}" y="{box.bottom + 16}">{_tick_text(t)}</text>'
        for t in ticks(scale.first, scale.last)
        if t == int(t)
    )
    middle = (box.left + box.right) / 2
    parts.append(f'<text class="tick" text-anchor="middle" x="{middle}" y="{_HEIGHT - 6}">training step</text>')
    return parts


def _line_style(line: Line, index: int) -> str:
    css = line.css or f"s c{index % _NUM_COLOURS}"
    dash = "" if line.css else _DASHES[index // _NUM_COLOURS % len(_DASHES)]
    return f'class="{css}"' + (f' stroke-dasharray="{dash}"' if dash else "")


def line_swatch(line: Line, index: int) -> str:
    """Return the legend's sample of a chart's line."""
    return (
        '<svg width="22" height="10" viewBox="0 0 22 10" aria-hidden="true">'
        f'<polyline {_line_style(line, index)} points="1,5 21,5"/></svg>'
    )


def _svg(id: str, title: str, view: str, parts: Sequence[str]) -> str:
    body = "".join(parts)
    return f'<svg id="{escape(id)}" role="img" aria-label="{escape(title)}" viewBox="{view}">{body}</svg>'
