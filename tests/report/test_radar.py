from __future__ import annotations

import math
import random
from itertools import combinations

import pytest
from PIL import ImageFont

from uniwhisper.report.drawing import Box, Dot, Drawing, Shape, Words
from uniwhisper.report.radar import Series, figure1, place_labels, radar

from .inputs import PAPER

TITLES = [fake.title for fake in PAPER.values()]
LONG = [f"A rather long name of task number {i} with_underscores-and-hyphens" for i in range(20)]


def labels(drawing: Drawing, look: str = "ink") -> list[Words]:
    return [mark for mark in drawing.marks if isinstance(mark, Words) and mark.look == look]


def make(names: list[str]) -> Drawing:
    return radar(title="r", axes=names, series=[Series(name="a", values=(0.5,) * len(names))])


@pytest.mark.parametrize("count", range(3, 29))
def test_placed_labels_never_overlap(count: int) -> None:
    anchors = [
        (117 * math.sin(2 * math.pi * i / count), -117 * math.cos(2 * math.pi * i / count)) for i in range(count)
    ]
    boxes = place_labels(anchors, [(14 * 6.4, 28.0)] * count)
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]


@pytest.mark.parametrize("count", range(3, 21))
@pytest.mark.parametrize("names", [TITLES, LONG], ids=["paper", "long"])
def test_labels_overlap_neither_each_other_nor_the_circle(count: int, names: list[str]) -> None:
    chosen = random.Random(count).sample(names, count)
    drawing = make(chosen)
    words = labels(drawing)
    assert [one.title for one in words] == chosen
    boxes = [one.box for one in words]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    for box in boxes:
        nearest = (min(max(0, box.left), box.right), min(max(0, box.top), box.bottom))
        assert math.hypot(*nearest) >= 108
        assert drawing.box.left <= box.left
        assert box.right <= drawing.box.right
        assert drawing.box.top <= box.top
        assert box.bottom <= drawing.box.bottom


def test_every_line_of_a_label_fits_its_box() -> None:
    font = ImageFont.load_default(120)
    for one in labels(make(TITLES)):
        assert max(font.getlength(line) for line in one.lines) / 10 <= one.box.width


def test_only_names_that_are_too_long_are_shortened() -> None:
    shown = ["".join(one.lines) for one in labels(make(TITLES))]
    assert not [text for text in shown if "\u2026" in text]
    assert all("\u2026" in "".join(one.lines) for one in labels(make(LONG)))


def test_values_lie_on_their_axes_and_missing_ones_are_left_out() -> None:
    series = [
        Series(name="before", values=(0.1, 0.2, None, 0.4)),
        Series(name="after", values=(0.5, 1.7, 0.3, -0.2)),
        Series(name="paper", values=(0.9, 0.9, 0.9, 0.9), published=True),
    ]
    drawing = radar(title="t", axes=["a", "b", "c", "d"], series=series)
    areas = {mark.look: mark.points for mark in drawing.marks if isinstance(mark, Shape) and len(mark.points) > 2}
    assert len(areas["area e0"]) == 3
    assert areas["area e1"][0] == pytest.approx((0, -54))
    assert areas["area e1"][1] == pytest.approx((108, 0))  # above 1 is drawn at the rim
    assert areas["area e1"][3] == pytest.approx((0, 0), abs=1e-9)
    assert areas["published e2"][2] == pytest.approx((0, 97.2))
    assert len([mark for mark in drawing.marks if isinstance(mark, Dot)]) == 4  # of the second encoder alone


def test_figure_of_two_radars_has_one_legend_and_no_overlaps() -> None:
    series = [Series(name=name, values=(0.5,) * 20) for name in ("whisper-base", "uniwhisper", "wav2vec2-large" * 5)]
    series.append(Series(name="uniwhisper", values=(0.7,) * 20, published=True))
    figure = figure1([("Probe", TITLES, series), ("kNN", TITLES, series)], title="f")
    words = labels(figure)
    assert [one.lines[0] for one in words if one.lines[0] in ("Probe", "kNN")] == ["Probe", "kNN"]
    assert [one.lines[0] for one in words][-1] == "uniwhisper (published)"
    boxes = [one.box for one in words]
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]
    outer: Box = figure.box
    assert all(outer.left <= b.left and b.right <= outer.right and b.bottom <= outer.bottom for b in boxes)
