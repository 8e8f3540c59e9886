"""What the page shows, free of file formats: scores of every task for every encoder, differences, facts, failures.

`read_view` in `reading.py` fills it from results; `tables.py`, `sections.py` and `page.py` draw it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from uniwhisper.report.figures import Trend

__all__ = ["METHODS", "Estimate", "Fact", "Failure", "Row", "View"]

METHODS = {"knn": "kNN", "probe": "Probe"}
"""Key of each way to judge an encoder -> its heading."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Estimate:
    """A score or a difference of scores with its 95 % interval."""

    value: float
    low: float
    high: float

    @property
    def trend(self) -> Trend:
        """Whether the interval lies above zero, below zero or holds it; of use for differences."""
        return "up" if self.low > 0 else ("down" if self.high < 0 else "unclear")


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One task, or the mean over tasks. Encoders are in the view's order; None where nothing was measured."""

    name: str
    about: str
    """Metric, number of clips and classes, in words."""
    scores: dict[str, tuple[Estimate | None, ...]]
    """Method -> score of each encoder."""
    deltas: dict[str, tuple[Estimate | None, ...]]
    """Method -> difference of every encoder after the first from the first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fact:
    """A line of the provenance: the same thing of every encoder."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A task that an encoder was not judged on, and why."""

    encoder: str
    task: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Everything that the page shows of the results; the first encoder is the baseline."""

    encoders: tuple[str, ...]
    rows: tuple[Row, ...]
    means: tuple[Row, ...]
    """Over all tasks first, then by domain; tasks that every encoder was judged on. Empty where there are none."""
    num_mean_tasks: int
    """Tasks in the mean over all."""
    intervals: str
    """How the intervals were made, in one or two sentences."""
    facts: tuple[Fact, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    """What a reader of the scores should know."""

    @property
    def mean(self) -> Row | None:
        """The mean over all tasks."""
        return self.means[0] if self.means else None

    def trends(self, method: str, encoder: int) -> dict[Trend, int]:
        """Return how many tasks went up, down or stayed unclear for an encoder (counted from 1) against the first."""
        counts: dict[Trend, int] = {"up": 0, "down": 0, "unclear": 0}
        for delta in self._deltas(method, encoder):
            counts[delta.trend] += 1
        return counts

    def _deltas(self, method: str, encoder: int) -> Iterable[Estimate]:
        return (delta for row in self.rows if (delta := row.deltas[method][encoder - 1]) is not None)
