"""Weighted averages: tasks without a score count in neither sum."""

from __future__ import annotations

import pytest

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.averages import weighted_average


def test_a_missing_task_is_dropped_from_both_sums_and_named():
    average = weighted_average({"a": 0.5, "b": 1.0, "c": None, "x": 0.9}, {"a": 1, "b": 3, "c": 10, "d": 5, "x": None})
    assert average.score == pytest.approx(3.5 / 4)
    assert average.used == ("a", "b")
    assert average.missing == ("c", "d")


def test_a_zero_score_counts():
    assert weighted_average({"a": 0.0, "b": 1.0}, {"a": 1, "b": 1}).score == 0.5


def test_nothing_to_average():
    assert weighted_average({"a": None}, {"a": 1.0}).score is None
    assert weighted_average({"a": 1.0}, {"a": None}).missing == ()


@pytest.mark.parametrize(("score", "weight"), [(0.5, -1.0), (0.5, float("nan")), (float("nan"), 1.0)])
def test_bad_numbers(score, weight):
    with pytest.raises(ReportError, match="task 'a'"):
        weighted_average({"a": score}, {"a": weight})
