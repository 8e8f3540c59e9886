"""Compare two encoders on the tasks that both have scores for: paired differences with intervals of their own.

Reads: two results and their stored predictions. Returns: differences `b - a` by task and in the mean.
Guarantees: both encoders are resampled with the same draws; comparing the other way round changes the signs only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.bootstrap import Interval, Replicates, interval, replicate_pair
from uniwhisper.evaluate.results import Mean, Results, TaskResult, load_predictions

__all__ = ["Comparison", "TaskDelta", "compare", "means"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDelta:
    """The differences on one task."""

    name: str
    domain: str
    knn: Interval
    probe: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How encoder `b` differs from encoder `a`; positive differences favour `b`."""

    a: str
    b: str
    tasks: tuple[TaskDelta, ...]
    means: dict[str, Mean]
    """Mean differences by `all` and by domain."""
    only_a: tuple[str, ...]
    """Tasks that only `a` has a score for: in no difference."""
    only_b: tuple[str, ...]


def compare(a: Results, b: Results) -> Comparison:
    """Return the differences `b - a` on every task that both have.

    Raises:
        ReportError: They share no task, were judged by different protocols or on different clips, or predictions are
            missing.
    """
    names = [task.name for task in a.tasks if task.name in {other.name for other in b.tasks}]
    if not names:
        raise ReportError(f"expected tasks in common, found none in {a.folder} and {b.folder}")
    _check_protocols(a, b)
    stored_a, stored_b = load_predictions(a, names), load_predictions(b, names)
    replicates: dict[str, Replicates] = {}
    for name in names:
        try:
            first, second = replicate_pair(stored_a[name], stored_b[name])
        except ReportError as e:
            raise ReportError(f"task {name!r} of {a.folder} and {b.folder}: {e}") from e
        replicates[name] = Replicates(knn=second.knn - first.knn, probe=second.probe - first.probe)
    deltas = [_delta(a.task(name), b.task(name), replicates[name]) for name in names]
    return Comparison(
        a=a.encoder.name,
        b=b.encoder.name,
        tasks=tuple(deltas),
        means=means(deltas, replicates),
        only_a=tuple(task.name for task in a.tasks if task.name not in names),
        only_b=tuple(task.name for task in b.tasks if task.name not in names),
    )


def means(scores: Iterable[TaskResult | TaskDelta], replicates: Mapping[str, Replicates]) -> dict[str, Mean]:
    """Return unweighted means over all tasks and over every domain, with intervals.

    A mean's replicate is the mean of the tasks' replicates of the same index, so their widths are not added up.
    """
    tasks = list(scores)
    domains = ["all", *sorted({task.domain for task in tasks} - {""})]
    picked = {name: [task for task in tasks if name in ("all", task.domain)] for name in domains}
    return {name: _mean(chosen, replicates) for name, chosen in picked.items() if chosen}


def _mean(tasks: list[TaskResult | TaskDelta], replicates: Mapping[str, Replicates]) -> Mean:
    def over(score: Callable[[TaskResult | TaskDelta], Interval], rows: list[np.ndarray]) -> Interval:
        return interval(float(np.mean([score(task).score for task in tasks])), np.mean(rows, axis=0))

    return Mean(
        tasks=tuple(task.name for task in tasks),
        knn=over(lambda task: task.knn, [replicates[task.name].knn for task in tasks]),
        probe=over(lambda task: task.probe, [replicates[task.name].probe for task in tasks]),
    )


def _delta(a: TaskResult, b: TaskResult, replicates: Replicates) -> TaskDelta:
    return TaskDelta(
        name=a.name,
        domain=b.domain or a.domain,
        knn=interval(b.knn.score - a.knn.score, replicates.knn),
        probe=interval(b.probe.score - a.probe.score, replicates.probe),
    )


def _check_protocols(a: Results, b: Results) -> None:
    """Refuse different protocols; which frames are pooled belongs to the encoder and may differ."""
    different = [
        key
        for key in sorted(a.protocol.keys() | b.protocol.keys())
        if key != "frames" and a.protocol.get(key) != b.protocol.get(key)
    ]
    if different:
        found = "; ".join(f"{key}: {a.protocol.get(key)} and {b.protocol.get(key)}" for key in different)
        raise ReportError(f"expected one protocol, found {a.folder} and {b.folder} differ in {found}. Evaluate again")
