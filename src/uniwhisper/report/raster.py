"""A drawing as PNG, by Pillow.

Reads a drawing, returns the bytes of a PNG on white. Guarantees: marks lie where the SVG has them; a text that is wider
than its box (the font is Pillow's own) is made smaller until it fits.
"""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Iterator

from PIL import Image, ImageDraw, ImageFont

from uniwhisper.report.drawing import LOOKS, Box, Dot, Drawing, Look, Mark, Shape, Words, baselines

__all__ = ["to_png"]

_SMOOTH = 3  # Pillow draws without smoothing: everything but text is drawn this much larger and scaled down
_MIN_TEXT_PX = 4.0
_MINUS = ("\u2212", "-")  # Pillow's font has no minus sign


def to_png(drawing: Drawing, *, scale: float = 2.0) -> bytes:
    """Return the drawing as PNG, `scale` pixels a unit."""
    size = (math.ceil(drawing.box.width * scale), math.ceil(drawing.box.height * scale))
    image = Image.new("RGB", (size[0] * _SMOOTH, size[1] * _SMOOTH), "#ffffff")
    for mark in drawing.marks:
        if not isinstance(mark, Words):
            _draw(image, mark, LOOKS[mark.look], _Frame(drawing.box, scale * _SMOOTH))
    image = image.resize(size, Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(image)
    for mark in drawing.marks:
        if isinstance(mark, Words):
            _write(pen, mark, _Frame(drawing.box, scale))
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True, dpi=(scale * 96, scale * 96))
    return file.getvalue()


class _Frame:
    """From drawing units to pixels."""

    def __init__(self, box: Box, scale: float) -> None:
        self._box, self.scale = box, scale

    def at(self, x: float, y: float) -> tuple[float, float]:
        return ((x - self._box.left) * self.scale, (y - self._box.top) * self.scale)


def _draw(image: Image.Image, mark: Mark, look: Look, frame: _Frame) -> None:
    pen = ImageDraw.Draw(image)
    if isinstance(mark, Dot):
        (x, y), r = frame.at(mark.x, mark.y), mark.radius * frame.scale
        pen.ellipse((x - r, y - r, x + r, y + r), fill=look.fill)
    elif isinstance(mark, Shape):
        points = [frame.at(x, y) for x, y in mark.points]
        if mark.closed and look.fill and len(points) > 2:
            mask = Image.new("L", image.size)
            ImageDraw.Draw(mask).polygon(points, fill=round(255 * look.fill_opacity))
            image.paste(look.fill, mask=mask)
        if look.stroke:
            ends = [*points, points[0]] if mark.closed else points
            width = max(1, round(look.width * frame.scale))
            for part in _dashes(ends, [d * frame.scale for d in look.dash]):
                pen.line(part, fill=look.stroke, width=width, joint="curve")


def _dashes(points: list[tuple[float, float]], dash: list[float]) -> Iterator[list[tuple[float, float]]]:
    """Yield the pieces of a line that are drawn; all of it where there is no dash."""
    if not dash:
        yield points
        return
    turn, left = 0, dash[0]
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length, done = math.hypot(x1 - x0, y1 - y0), 0.0
        while done < length:
            step = min(left, length - done)
            if turn % 2 == 0:
                yield [
                    (x0 + (x1 - x0) * share / length, y0 + (y1 - y0) * share / length) for share in (done, done + step)
                ]
            done, left = done + step, left - step
            if left <= 0:
                turn += 1
                left = dash[turn % len(dash)]


def _write(pen: ImageDraw.ImageDraw, words: Words, frame: _Frame) -> None:
    size_px = words.size_px
    while size_px > _MIN_TEXT_PX and _widest(words, size_px * frame.scale) > words.box.width * frame.scale:
        size_px -= 0.5
    font = ImageFont.load_default(size_px * frame.scale)
    anchor = {"start": "ls", "middle": "ms", "end": "rs"}[words.anchor]
    for line, y in zip(words.lines, baselines(words), strict=True):
        weight = max(1, round(frame.scale / 4)) if words.bold else 0
        place, fill = frame.at(words.x, y), LOOKS[words.look].fill
        pen.text(
            place, line.replace(*_MINUS), font=font, anchor=anchor, fill=fill, stroke_width=weight, stroke_fill=fill
        )


def _widest(words: Words, size_px: float) -> float:
    font = ImageFont.load_default(size_px)
    return max((font.getlength(line) for line in words.lines), default=0.0)
