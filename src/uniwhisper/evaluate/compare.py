"""Compare two encoders on the tasks that both have scores for: paired differences with intervals of their own.

Reads: two results and their stored predictions. Returns: differences `b - a` by task and in the means.
Guarantees: both encoders are resampled with the same draws; comparing the other way round changes the signs only; a
mean's replicate is the mean of the tasks' replicates of the same index, so widths are not added up.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.averages import weighted_average
from uniwhisper.evaluate.bootstrap import Interval, Replicates, interval, replicate_pair
from uniwhisper.evaluate.published import published_tasks
from uniwhisper.evaluate.results import Mean, Results, TaskResult, load_predictions

__all__ = ["Comparison", "TaskDelta", "compare", "means", "weighted_means"]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskDelta:
    """The differences on one task."""

    name: str
    domain: str
    weight: float | None
    knn_weight: float | None
    knn: Interval | None
    """None where one of the two has no kNN score."""
    probe: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """How encoder `b` differs from encoder `a`; positive differences favour `b`."""

    a: str
    b: str
    tasks: tuple[TaskDelta, ...]
    means: dict[str, Mean]
    """Mean differences by `all` and by domain."""
    weighted: dict[str, Mean]
    """Weighted mean differences by `all` and by domain."""
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
    for name in names:
        if a.task(name).metric != b.task(name).metric:
            found = f"{a.task(name).metric} in {a.folder} and {b.task(name).metric} in {b.folder}"
            raise ReportError(f"expected one metric for task {name!r}, found {found}. Evaluate again")
    stored_a, stored_b = load_predictions(a, names), load_predictions(b, names)
    replicates: dict[str, Replicates] = {}
    for name in names:
        try:
            first, second = replicate_pair(stored_a[name], stored_b[name], metric=a.task(name).metric)
        except ReportError as e:
            raise ReportError(f"task {name!r} of {a.folder} and {b.folder}: {e}") from e
        knn = None if first.knn is None or second.knn is None else second.knn - first.knn
        replicates[name] = Replicates(knn=knn, probe=second.probe - first.probe)
    deltas = [_delta(a.task(name), b.task(name), replicates[name]) for name in names]
    return Comparison(
        a=a.encoder.name,
        b=b.encoder.name,
        tasks=tuple(deltas),
        means=means(deltas, replicates),
        weighted=weighted_means(deltas, replicates),
        only_a=tuple(task.name for task in a.tasks if task.name not in names),
        only_b=tuple(task.name for task in b.tasks if task.name not in names),
    )


def means(scores: Iterable[TaskResult | TaskDelta], replicates: Mapping[str, Replicates]) -> dict[str, Mean]:
    """Return unweighted means over all tasks and over every domain, with intervals; kNN over the tasks that have it."""
    return _means(list(scores), replicates, weighted=False, missing=())


def weighted_means(
    scores: Iterable[TaskResult | TaskDelta],
    replicates: Mapping[str, Replicates],
    *,
    missing: Iterable[str] | None = None,
) -> dict[str, Mean]:
    """Return weighted means over all tasks and over every domain, with intervals; without those that have no weight.

    Args:
        scores: Scores or differences by task.
        replicates: Their replicates by task.
        missing: Tasks that the means should cover; those of the paper's among them that have no score are named in
            `Mean.missing`. By default all of the paper's tasks.
    """
    tasks = list(scores)
    wanted = {task.name for task in published_tasks()} if missing is None else set(missing)
    return _means(tasks, replicates, weighted=True, missing=wanted - {task.name for task in tasks})


def _means(
    tasks: list[TaskResult | TaskDelta], replicates: Mapping[str, Replicates], *, weighted: bool, missing: Iterable[str]
) -> dict[str, Mean]:
    absent = [task for task in published_tasks() if task.name in set(missing)]
    found = {}
    for name in ["all", *sorted({task.domain for task in tasks} - {""})]:
        chosen = [task for task in tasks if name in ("all", task.domain)]
        mean = _mean(chosen, replicates, weighted, tuple(one.name for one in absent if name in ("all", one.domain)))
        if mean is not None:
            found[name] = mean
    return found


def _mean(
    tasks: list[TaskResult | TaskDelta], replicates: Mapping[str, Replicates], weighted: bool, missing: tuple[str, ...]
) -> Mean | None:
    """Return the mean over `tasks`; None where none of them counts."""
    weights = {task.name: task.weight if weighted else 1.0 for task in tasks}
    knn_weights = {task.name: task.knn_weight if weighted else 1.0 for task in tasks}
    used = tuple(name for name, weight in weights.items() if weight is not None)
    probe = _average({task.name: task.probe for task in tasks}, weights, {n: r.probe for n, r in replicates.items()})
    knn = _average({task.name: task.knn for task in tasks}, knn_weights, {n: r.knn for n, r in replicates.items()})
    return None if probe is None else Mean(tasks=used, missing=missing, knn=knn, probe=probe)


def _average(
    scores: Mapping[str, Interval | None],
    weights: Mapping[str, float | None],
    replicates: Mapping[str, np.ndarray | None],
) -> Interval | None:
    average = weighted_average({name: None if one is None else one.score for name, one in scores.items()}, weights)
    if average.score is None:
        return None
    total, rows = 0.0, np.zeros(())
    for name in average.used:
        weight, row = weights[name], replicates[name]
        if weight is None or row is None:
            raise ReportError(f"expected replicates of every score, found none for task {name!r}")
        total, rows = total + weight, rows + weight * row
    return interval(average.score, rows / total)


def _delta(a: TaskResult, b: TaskResult, replicates: Replicates) -> TaskDelta:
    knn = None
    if a.knn is not None and b.knn is not None and replicates.knn is not None:
        knn = interval(b.knn.score - a.knn.score, replicates.knn)
    return TaskDelta(
        name=a.name,
        domain=b.domain or a.domain,
        weight=b.weight,
        knn_weight=b.knn_weight,
        knn=knn,
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
