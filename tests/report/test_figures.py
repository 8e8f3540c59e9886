from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from itertools import combinations

import pytest

from uniwhisper.report.figures import (
    Line,
    LineChart,
    interval_bar,
    interval_span,
    line_chart,
    place_labels,
    radar,
    ticks,
)


@pytest.mark.parametrize("count", range(3, 29))
def test_radar_labels_never_overlap(count: int) -> None:
    anchors = [
        (117 * math.sin(2 * math.pi * i / count), -117 * math.cos(2 * math.pi * i / count)) for i in range(count)
    ]
    boxes = place_labels(anchors, [(14 * 6.4, 28.0)] * count)
    assert not [pair for pair in combinations(boxes, 2) if pair[0].overlaps(pair[1])]


def test_radar_is_wellformed_and_shows_every_value() -> None:
    names = ["a<b", "librispeech_speaker_identification", "c", "d"]
    series = [("before", [0.1, 0.2, None, 0.4]), ("after", [0.5, 1.7, 0.3, 0.2])]
    root = ET.fromstring(radar(id="r", title="t & t", axes=names, series=series))
    areas = [e for e in root if "area" in e.get("class", "")]
    assert [len(a.get("points", "").split()) for a in areas] == [3, 4]
    outer = max(math.hypot(*map(float, p.split(","))) for p in areas[1].get("points", "").split())
    assert outer == pytest.approx(108, abs=0.2)  # a value above 1 is drawn at the rim
    assert {t.text for t in root.iter("title")} == set(names)


def test_interval_bar_places_zero_value_and_bounds_on_one_axis() -> None:
    span = interval_span([-0.1, 0.3])
    root = ET.fromstring(interval_bar(0.1, -0.1, 0.3, span=span, trend="unclear"))
    zero, whisker, dot = root
    assert float(whisker.get("x1", "")) < float(zero.get("x1", "")) < float(dot.get("cx", ""))
    assert float(dot.get("cx", "")) < float(whisker.get("x2", "")) <= float(root.get("width", ""))
    assert interval_span([]) == 1.0


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0, 0.00031), (3, 19_000), (-2, 2), (0.96, 0.97)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    values = ticks(low, high)
    assert 2 <= len(values) <= 7
    assert all(low - 1e-9 <= value <= high + 1e-9 for value in values)


def test_line_chart_skips_what_was_not_measured() -> None:
    line = Line(name="x<y", y=(1.0, None, 0.0, 0.1))
    chart = LineChart(id="c", title="t", x=(0, 1, 2, 3), lines=(line,), y_label="")
    assert lines_of(line_chart(chart)) == [3]
    logarithmic = LineChart(id="c", title="t", x=(0, 1, 2, 3), lines=(line,), y_label="", is_log=True)
    assert lines_of(line_chart(logarithmic)) == [2]
    empty = LineChart(id="c", title="t", x=(5,), lines=(Line(name="n", y=(None,)),), y_label="")
    assert lines_of(line_chart(empty)) == [0]
    flat = LineChart(id="c", title="t", x=(5,), lines=(Line(name="n", y=(0.0,)),), y_label="", is_log=True)
    assert not re.search("nan|inf", line_chart(flat))


def lines_of(svg: str) -> list[int]:
    return [len(e.get("points", "").split()) for e in ET.fromstring(svg) if e.get("class", "").startswith("s ")]
