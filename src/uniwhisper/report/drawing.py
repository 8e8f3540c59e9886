"""Drawings as plain marks, and how to put them down: SVG for the page, SVG of its own (and PNG, in raster.py).

A drawing says what is where and what it stands for (its `look`); colours come last: from the page's style sheet, so
that one drawing serves the light and the dark theme, or from `LOOKS`, so that a file needs nothing else. Every text
is escaped here. Guarantees: every way shows the same marks at the same places.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from html import escape

__all__ = [
    "LINE_PX",
    "LOOKS",
    "TEXT_PX",
    "Box",
    "Dot",
    "Drawing",
    "Look",
    "Mark",
    "Shape",
    "Words",
    "baselines",
    "beside",
    "moved",
    "text_width",
    "to_page",
    "to_svg",
]

TEXT_PX = 12
LINE_PX = 14

_WIDE, _NARROW, _CAPITAL, _SMALL = 0.98, 0.36, 0.76, 0.61
_ESTIMATES = {**dict.fromkeys("MWmw@%", _WIDE), **dict.fromkeys("ijlft.,:;|!'()[] I", _NARROW)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Box:
    """A rectangle in drawing units, y downwards."""

    left: float
    right: float
    top: float
    bottom: float

    @property
    def width(self) -> float:
        """From left to right."""
        return self.right - self.left

    @property
    def height(self) -> float:
        """From top to bottom."""
        return self.bottom - self.top

    def overlaps(self, other: Box) -> bool:
        """Return whether the two rectangles share area."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.bottom <= other.top or other.bottom <= self.top)


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """How marks look where there is no style sheet."""

    stroke: str = ""
    fill: str = ""
    width: float = 1.0
    dash: tuple[float, ...] = ()
    fill_opacity: float = 1.0


_INK, _SOFT, _LINE, _GRID = "#1a1f29", "#566072", "#d9dee6", "#e6e9ee"
_SERIES = ("#6b7688", "#0072b2", "#d55e00", "#00866a", "#b0489a")
LOOKS: dict[str, Look] = {
    "ring": Look(stroke=_GRID),
    "axis": Look(stroke=_LINE),
    "rule": Look(stroke=_GRID),
    "leader": Look(stroke=_LINE),
    "zero": Look(stroke=_SOFT),
    "ink": Look(fill=_INK),
    "tick": Look(fill=_SOFT),
    "whisker up": Look(stroke=_SERIES[1], width=3),
    "whisker down": Look(stroke=_SERIES[2], width=3),
    "whisker unclear": Look(stroke=_SOFT, width=3),
    "dot up": Look(fill=_SERIES[1]),
    "dot down": Look(fill=_SERIES[2]),
    "dot unclear": Look(fill=_SOFT),
    "band": Look(fill="#f6f7f9"),
    **{f"e{e}": Look(stroke=colour, fill=colour) for e, colour in enumerate(_SERIES)},
    **{
        f"area e{e}": Look(stroke=colour, fill=colour, width=2, fill_opacity=0.1, dash=(5, 4) if e == 0 else ())
        for e, colour in enumerate(_SERIES)
    },
    **{f"line e{e}": Look(stroke=colour, width=2) for e, colour in enumerate(_SERIES)},
    **{f"published e{e}": Look(stroke=colour, width=1.5, dash=(1.5, 3)) for e, colour in enumerate(_SERIES)},
}
"""Look -> the light theme's colours; `report.css` has the same names."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Shape:
    """Straight lines through points, closed to a polygon or not."""

    look: str
    points: tuple[tuple[float, float], ...]
    closed: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Dot:
    """A filled circle."""

    look: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Words:
    """Lines of text inside a box; `anchor` says at which of its sides they stand."""

    look: str
    lines: tuple[str, ...]
    box: Box
    anchor: str = "start"
    """`start`, `middle` or `end`."""
    title: str = ""
    """Shown whole to whoever points at a shortened text."""
    size_px: float = TEXT_PX
    bold: bool = False

    @property
    def x(self) -> float:
        """Where the anchor is."""
        middle = (self.box.left + self.box.right) / 2
        return {"start": self.box.left, "middle": middle, "end": self.box.right}[self.anchor]


Mark = Shape | Dot | Words


@dataclass(frozen=True, kw_only=True, slots=True)
class Drawing:
    """Marks, the rectangle that holds them, and the words for readers who cannot see it."""

    title: str
    box: Box
    marks: tuple[Mark, ...]


def text_width(text: str, *, size_px: float = TEXT_PX) -> float:
    """Return a width that `text` stays below in the usual sans-serif fonts (Arial's widths and a tenth more)."""
    each = (_ESTIMATES.get(c, _CAPITAL if c.isupper() else _SMALL) for c in text)
    return size_px * sum(1.0 if ord(c) > 0x2E80 else width for c, width in zip(text, each, strict=True))


def moved(marks: Iterable[Mark], dx: float, dy: float) -> tuple[Mark, ...]:
    """Return the marks, shifted."""
    return tuple(_moved(mark, dx, dy) for mark in marks)


def _moved(mark: Mark, dx: float, dy: float) -> Mark:
    if isinstance(mark, Shape):
        return replace(mark, points=tuple((x + dx, y + dy) for x, y in mark.points))
    if isinstance(mark, Dot):
        return replace(mark, x=mark.x + dx, y=mark.y + dy)
    return replace(mark, box=_shifted(mark.box, dx, dy))


def _shifted(box: Box, dx: float, dy: float) -> Box:
    return Box(left=box.left + dx, right=box.right + dx, top=box.top + dy, bottom=box.bottom + dy)


def beside(drawings: Sequence[Drawing], *, gap: float = 24) -> Drawing:
    """Return the drawings side by side, their tops in one line."""
    marks: list[Mark] = []
    left, height = 0.0, 0.0
    for one in drawings:
        marks.extend(moved(one.marks, left - one.box.left, -one.box.top))
        left += one.box.right - one.box.left + gap
        height = max(height, one.box.bottom - one.box.top)
    title = "; ".join(one.title for one in drawings)
    return Drawing(title=title, box=Box(left=0, right=left - gap, top=0, bottom=height), marks=tuple(marks))


def to_page(drawing: Drawing, *, id: str) -> str:
    """Return SVG to stand in the page: classes instead of colours."""
    body = "".join(_svg_mark(mark, f'class="{_classes(mark.look)}"') for mark in drawing.marks)
    return (
        f'<svg id="{escape(id)}" role="img" aria-label="{escape(drawing.title)}" viewBox="{_view(drawing.box)}">'
        f"{body}</svg>"
    )


def _classes(look: str) -> str:
    return "" if look == "ink" else escape(look)


def to_svg(drawing: Drawing) -> str:
    """Return an SVG file of its own, with its colours as attributes (many editors read no style sheets)."""
    box, width, height = drawing.box, drawing.box.width, drawing.box.height
    body = "\n".join(_svg_mark(mark, _attributes(mark)) for mark in drawing.marks)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="{_view(box)}" font-family="Helvetica, Arial, sans-serif">\n<title>{escape(drawing.title)}</title>\n'
        f'<rect x="{box.left:.1f}" y="{box.top:.1f}" width="{width:.1f}" height="{height:.1f}" fill="#ffffff"/>\n'
        f"{body}\n</svg>\n"
    )


def _view(box: Box) -> str:
    return f"{box.left:.1f} {box.top:.1f} {box.width:.1f} {box.height:.1f}"


def _attributes(mark: Mark) -> str:
    look = LOOKS[mark.look]
    if isinstance(mark, Words):
        return f'fill="{look.fill}"'
    fill = look.fill if isinstance(mark, Dot) or mark.closed else ""
    parts = [f'fill="{fill or "none"}"']
    if fill and look.fill_opacity < 1:
        parts.append(f'fill-opacity="{look.fill_opacity:g}"')
    if look.stroke and not isinstance(mark, Dot):
        parts.append(f'stroke="{look.stroke}" stroke-width="{look.width:g}"')
    if look.dash and not isinstance(mark, Dot):
        parts.append(f'stroke-dasharray="{" ".join(f"{d:g}" for d in look.dash)}"')
    return " ".join(parts)


def _svg_mark(mark: Mark, style: str) -> str:
    if isinstance(mark, Dot):
        return f'<circle {style} cx="{mark.x:.1f}" cy="{mark.y:.1f}" r="{mark.radius:g}"/>'
    if isinstance(mark, Shape):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark.points)
        return f'<{"polygon" if mark.closed else "polyline"} {style} points="{points}"/>'
    spans = "".join(
        f'<tspan x="{mark.x:.1f}" y="{y:.1f}">{escape(line)}</tspan>'
        for line, y in zip(mark.lines, baselines(mark), strict=True)
    )
    title = f"<title>{escape(mark.title)}</title>" if mark.title else ""
    size = f'font-size="{mark.size_px:g}"' + (' font-weight="bold"' if mark.bold else "")
    return f'<text {style} {size} text-anchor="{mark.anchor}">{title}{spans}</text>'


def baselines(words: Words) -> list[float]:
    """Return the height of each line's baseline."""
    line = LINE_PX * words.size_px / TEXT_PX
    return [words.box.top + line * (i + 0.79) for i in range(len(words.lines))]
