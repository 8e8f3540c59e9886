"""What the page shows, free of file formats: scores of every task for every encoder, differences, facts, failures.

`read_view` in `reading.py` fills it from results; `tables.py`, `sections.py`, `paper_tables.py` and `page.py` draw it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from uniwhisper.report.figures import Trend

__all__ = ["METHODS", "Absence", "Estimate", "Fact", "Failure", "Overlap", "Row", "Training", "View"]

METHODS = {"knn": "kNN", "probe": "Probe"}
"""Key of each way to judge an encoder -> its heading."""

Training = Literal["overlap", "none found", "unknown"]
"""What is known about an encoder's training and a task: it shares recordings, or nothing was found, or no one knows."""


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

    @property
    def half_width(self) -> float:
        """The larger distance from the value to an end of its interval."""
        return max(abs(self.value - self.low), abs(self.high - self.value))


@dataclass(frozen=True, kw_only=True, slots=True)
class Overlap:
    """What an encoder's training shares with a task's corpus."""

    state: Training
    words: str = ""
    """Which corpora, and how many test clips were found how."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One task, or a mean over tasks. Encoders are in the view's order; None where nothing was measured."""

    name: str
    title: str
    """As a reader is told; the name where the task has no other."""
    about: str
    """Metric, number of clips and classes, in words; of a mean, what it covers."""
    scores: dict[str, tuple[Estimate | None, ...]]
    """Method -> score of each encoder."""
    deltas: dict[str, tuple[Estimate | None, ...]]
    """Method -> difference of every encoder after the first from the first."""
    domain: str = ""
    kind: str = "clip"
    metric: str = "accuracy"
    unit: str = ""
    """What the intervals resample: `group` or `clip`."""
    weights: dict[str, float | None]
    """Method -> weight in the weighted average; None where it is in none."""
    is_mean: bool = False
    missing: tuple[str, ...] = ()
    """Titles of the tasks that a mean should cover and that have no score."""
    overlaps: tuple[Overlap | None, ...] = ()
    """One an encoder; None where it was not judged on the task."""


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
class Absence:
    """A task that encoders were not judged on because its corpus was not there."""

    task: str
    encoders: tuple[str, ...]
    title: str
    source: str
    placement: str
    """What to place where."""


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """Everything that the page shows of the results; the first encoder is the baseline."""

    encoders: tuple[str, ...]
    protocol: str
    rows: tuple[Row, ...]
    """By domain, speech first, in the order of the results."""
    means: tuple[Row, ...]
    """Over all tasks first, then by domain; tasks that every encoder was judged on. Empty where there are none."""
    weighted: tuple[Row, ...]
    """The same, weighted as in the paper; `about` says over how many of the tasks."""
    intervals: str
    """How the intervals were made, in one or two sentences."""
    facts: tuple[Fact, ...]
    failures: tuple[Failure, ...]
    absences: tuple[Absence, ...]
    notes: tuple[str, ...]
    """What a reader of the scores should know."""

    @property
    def coverage(self) -> str:
        """What the weighted average covers and which tasks it lacks, in a sentence; empty where there is none."""
        if not self.weighted:
            return ""
        row = self.weighted[0]
        missing = f"; missing: {', '.join(row.missing)}" if row.missing else ""
        return f"{row.title}: {row.about}{missing}."

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
