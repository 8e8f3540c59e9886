from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from importlib import resources

import numpy as np
import pytest
from PIL import Image, ImageFont

from uniwhisper.report.drawing import (
    LOOKS,
    TEXT_PX,
    Box,
    Dot,
    Drawing,
    Mark,
    Shape,
    Words,
    beside,
    text_width,
    to_page,
    to_svg,
)
from uniwhisper.report.raster import to_png

SVG = "{http://www.w3.org/2000/svg}"


def drawing(*marks: Mark, title: str = "t & <t>") -> Drawing:
    return Drawing(title=title, box=Box(left=-10, right=90, top=-20, bottom=30), marks=marks)


def everything() -> Drawing:
    corners = ((0.0, 0.0), (40.0, 0.0), (40.0, 20.0), (0.0, 20.0))
    return drawing(
        Shape(look="area e1", points=corners, closed=True),
        Shape(look="published e2", points=corners, closed=True),
        Shape(look="zero", points=((60.0, 0.0), (60.0, 20.0))),
        Dot(look="dot up", x=80, y=10, radius=4),
        Words(look="ink", lines=("a<b", "c"), box=Box(left=0, right=30, top=-18, bottom=10), title="a<b & c"),
    )


def test_both_kinds_of_svg_show_the_same_marks_and_escape_every_text() -> None:
    page = ET.fromstring(to_page(everything(), id='i"d'))
    alone = ET.fromstring(to_svg(everything()))
    assert page.get("aria-label") == alone.findtext(f"{SVG}title") == "t & <t>"
    assert page.get("viewBox") == alone.get("viewBox")

    def geometry(root: ET.Element) -> list[tuple[str | None, ...]]:
        marks = [e for e in root if e.tag.rpartition("}")[2] not in ("title", "rect")]
        return [(e.tag.rpartition("}")[2], *(e.get(k) for k in ("points", "cx", "cy", "r"))) for e in marks]

    assert geometry(page) == geometry(alone)
    for root in (page, alone):
        assert [e.text for e in root.iter() if e.tag.endswith("tspan")] == ["a<b", "c"]
    assert not [e for e in page.iter() if e.get("fill") or e.get("stroke")]
    assert not [e for e in alone.iter() if e.get("class")]


def test_the_style_sheet_has_the_colours_of_the_files() -> None:
    css = (resources.files("uniwhisper.report") / "assets" / "report.css").read_text(encoding="utf-8")
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", css.partition("@media")[0]))
    series = [LOOKS[f"e{e}"].fill for e in range(5)]
    assert series == [light[name] for name in ("base", "after", "c1", "c2", "c3")]
    assert (LOOKS["ink"].fill, LOOKS["tick"].fill) == (light["ink"], light["soft"])
    assert (LOOKS["axis"].stroke, LOOKS["ring"].stroke) == (light["line"], light["grid"])
    for look in LOOKS:
        for name in look.split():
            assert name == "ink" or re.search(rf"\.{name}\b", css), name


def test_png_has_the_marks_where_the_drawing_has_them() -> None:
    image = Image.open(io.BytesIO(to_png(everything(), scale=2)))
    assert image.size == (200, 100)
    pixels = np.asarray(image.convert("RGB")).astype(int)

    def at(x: float, y: float) -> tuple[int, ...]:
        return tuple(pixels[int((y + 20) * 2), int((x + 10) * 2)])

    assert at(80, 10) == tuple(bytes.fromhex(LOOKS["dot up"].fill[1:]))
    assert at(89, -19) == (255, 255, 255)
    inside = at(20, 10)
    assert inside != (255, 255, 255)  # a tenth of the colour
    assert min(inside) > 200
    assert at(60, 10) != (255, 255, 255)
    assert (pixels[4:60, 20:60] < 200).any(), "no text"
    assert to_png(everything(), scale=2) == to_png(everything(), scale=2)


def test_dashes_leave_gaps() -> None:
    line = Shape(look="published e0", points=((0.0, 0.0), (80.0, 0.0)))
    row = np.asarray(Image.open(io.BytesIO(to_png(drawing(line), scale=2))).convert("L"))[40, 20:180]
    assert 10 < np.count_nonzero(np.diff((row < 200).astype(int)) == 1) < 30


@pytest.mark.parametrize(
    "text", ["ASV2015", "Fluent Speech Commands", "WWWMMM", "illicit", "NSynth-Instruments", "12.5 %"]
)
def test_estimated_widths_hold_the_text(text: str) -> None:
    assert ImageFont.load_default(TEXT_PX * 10).getlength(text) / 10 <= text_width(text)


def test_drawings_beside_each_other_do_not_overlap() -> None:
    joined = beside([everything(), everything()], gap=10)
    assert joined.box == Box(left=0, right=210, top=0, bottom=50)
    dots = [mark.x for mark in joined.marks if isinstance(mark, Dot)]
    assert dots == [90, 200]
