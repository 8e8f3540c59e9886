from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest

from uniwhisper.report.figures import (
    Line,
    LineChart,
    interval_bar,
    interval_span,
    line_chart,
    ticks,
)


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
