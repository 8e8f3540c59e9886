"""Small figures as inline SVG: interval bars, line charts and legend swatches.

Reads plain numbers, returns strings of SVG that take every colour from the page's style sheet, so that one drawing
serves the light and the dark theme. Every text is escaped here. A chart carries a title for readers who cannot see it.
The larger figures are drawings (drawing.py): radar.py and forest.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from uniwhisper.report.drawing import Box

__all__ = [
    "Line",
    "LineChart",
    "Trend",
    "interval_bar",
    "interval_span",
    "line_chart",
    "line_swatch",
    "plot_box",
    "ticks",
    "x_range",
]

Trend = Literal["up", "down", "unclear"]
"""Whether a difference's interval lies above zero, below zero or holds it."""

_DASHES = ("", "6 3", "2 3")
_NUM_COLOURS = 8


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
