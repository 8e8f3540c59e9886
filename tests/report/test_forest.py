from __future__ import annotations

from itertools import combinations

from uniwhisper.report.drawing import Dot, Drawing, Shape, Words
from uniwhisper.report.forest import Delta, ForestRow, forest

UP = Delta(value=0.1, low=0.05, high=0.2, trend="up")
DOWN = Delta(value=-0.3, low=-0.4, high=-0.1, trend="down")


def whiskers(drawing: Drawing) -> list[Shape]:
    return [mark for mark in drawing.marks if isinstance(mark, Shape) and mark.look.startswith(("whisker", "line"))]


def test_intervals_lie_on_one_axis_around_zero() -> None:
    drawing = forest([ForestRow(name="a", deltas=(UP,)), ForestRow(name="b", deltas=(DOWN,))], title="t", unit="score")
    zero = next(mark.points[0][0] for mark in drawing.marks if isinstance(mark, Shape) and mark.look == "zero")
    up, down = whiskers(drawing)
    dots = [mark for mark in drawing.marks if isinstance(mark, Dot)]
    assert [one.look for one in (up, down)] == ["whisker up", "whisker down"]
    assert zero < up.points[0][0] < dots[0].x < up.points[1][0]
    assert down.points[0][0] < dots[1].x < down.points[1][0] < zero
    assert (dots[1].x - zero) / (dots[0].x - zero) == -3 or abs((dots[1].x - zero) / (dots[0].x - zero) + 3) < 1e-9
    for x, _ in (*up.points, *down.points):
        assert drawing.box.left < x < drawing.box.right


def test_several_encoders_have_rows_and_colours_of_their_own_and_a_missing_one_none() -> None:
    rows = [ForestRow(name="a", deltas=(UP, DOWN)), ForestRow(name="b", deltas=(None, UP))]
    drawing = forest(rows, title="t")
    assert [mark.look for mark in whiskers(drawing)] == ["line e1", "line e2", "line e2"]
    heights = [mark.points[0][1] for mark in whiskers(drawing)]
    assert len(set(heights)) == 3
    assert heights == sorted(heights)


def test_long_names_are_shortened_and_stay_off_the_plot() -> None:
    rows = [ForestRow(name="an endless name of a task that goes on and on", deltas=(DOWN,)) for _ in range(20)]
    drawing = forest(rows, title="t")
    names = [mark for mark in drawing.marks if isinstance(mark, Words) and mark.title]
    assert all(one.lines[0].endswith("\u2026") and one.title == rows[0].name for one in names)
    assert max(one.box.right for one in names) < min(mark.points[0][0] for mark in whiskers(drawing))
    ticks = [mark.box for mark in drawing.marks if isinstance(mark, Words) and mark.look == "tick"]
    assert not [pair for pair in combinations(ticks, 2) if pair[0].overlaps(pair[1])]


def test_no_difference_at_all_is_drawn_on_an_axis() -> None:
    same = Delta(value=0.0, low=0.0, high=0.0, trend="unclear")
    drawing = forest([ForestRow(name="a", deltas=(same,))], title="t")
    assert [mark.points[0] for mark in whiskers(drawing)] == [mark.points[1] for mark in whiskers(drawing)]
