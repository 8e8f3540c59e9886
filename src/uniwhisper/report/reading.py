"""Results files become the report's view: the one module here that knows how results are stored.

Reads `results.json` of each encoder and, to compare them, the stored predictions beside it. Guarantees: scores are
taken as they stand, differences are paired, and every mean covers the same tasks for every encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.bootstrap import Interval, replicate
from uniwhisper.evaluate.compare import Comparison, compare, means
from uniwhisper.evaluate.results import KnnScore, Mean, ProbeScore, Results, TaskResult, load_predictions, read_results
from uniwhisper.report.view import METHODS, Estimate, Fact, Failure, Row, View

__all__ = ["read_view"]

_MISSING = "\u2013"


def read_view(paths: Sequence[Path]) -> View:
    """Return the view of one or more results files; the first is the baseline.

    Raises:
        ReportError: A file is missing or malformed, or the encoders cannot be compared.
    """
    results = [read_results(path) for path in paths]
    names = list(dict.fromkeys(task.name for one in results for task in one.tasks))
    shared = [name for name in names if all(_find(one, name) for one in results)]
    others = results[1:]
    if others and not shared:
        listed = "; ".join(f"{one.folder}: {[task.name for task in one.tasks]}" for one in results)
        raise ReportError(f"expected a task that every encoder was judged on, found none: {listed}")
    comparisons = [compare(results[0], other) for other in others]
    encoders = _distinct([one.encoder.name for one in results])
    return View(
        encoders=encoders,
        rows=tuple(_task_row(name, results, comparisons) for name in names),
        means=_mean_rows([_restricted(one, shared) for one in results]),
        num_mean_tasks=len(shared),
        intervals=_interval_words(results),
        facts=tuple(_facts(results, names)),
        failures=tuple(
            Failure(encoder=encoder, task=failure.task, reason=failure.error)
            for encoder, one in zip(encoders, results, strict=True)
            for failure in one.failures
        ),
        notes=tuple(
            dict.fromkeys(f"{task.name}: {note}" for one in results for task in one.tasks for note in task.notes)
        ),
    )


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, numbered where two encoders bear the same."""
    return tuple(f"{name} ({i})" if names.count(name) > 1 else name for i, name in enumerate(names, start=1))


def _find(results: Results, name: str) -> TaskResult | None:
    return next((task for task in results.tasks if task.name == name), None)


def _restricted(results: Results, names: Sequence[str]) -> Results:
    """Return the results on the named tasks only, with means over exactly those."""
    tasks = tuple(task for task in results.tasks if task.name in names)
    if len(tasks) == len(results.tasks):
        return results
    replicates = {name: replicate(stored) for name, stored in load_predictions(results, names).items()}
    return replace(results, tasks=tasks, means=means(tasks, replicates))


def _estimate(interval: Interval | KnnScore | ProbeScore | None) -> Estimate | None:
    return None if interval is None else Estimate(value=interval.score, low=interval.low, high=interval.high)


def _task_row(name: str, results: Sequence[Results], comparisons: Sequence[Comparison]) -> Row:
    tasks = [_find(one, name) for one in results]
    deltas = [next((delta for delta in one.tasks if delta.name == name), None) for one in comparisons]
    return Row(
        name=name,
        about=_about(next(task for task in tasks if task is not None)),
        scores={method: tuple(_estimate(getattr(task, method, None)) for task in tasks) for method in METHODS},
        deltas={method: tuple(_estimate(getattr(delta, method, None)) for delta in deltas) for method in METHODS},
    )


def _about(task: TaskResult) -> str:
    folds = f", {task.num_folds} folds" if task.num_folds > 1 else ""
    clips = f"{task.num_test_clips:,} clips, {task.num_classes} classes{folds}"
    metric = "" if task.metric == "accuracy" else f"{task.metric}, "
    return f"{metric}{clips}, chance {task.chance:.2g}"


def _mean_rows(results: Sequence[Results]) -> tuple[Row, ...]:
    comparisons = [compare(results[0], other) for other in results[1:]]
    domains = [name for name in results[0].means if all(name in one.means for one in results)]
    ordered = sorted(domains, key=lambda name: name != "all")
    if len(ordered) == 2:  # one domain only: its mean is the mean of all
        ordered = [
            name for name in ordered if name == "all" or _num(results[0].means[name]) != _num(results[0].means["all"])
        ]
    return tuple(_mean_row(name, results, comparisons) for name in ordered)


def _num(mean: Mean) -> int:
    return len(mean.tasks)


def _mean_row(name: str, results: Sequence[Results], comparisons: Sequence[Comparison]) -> Row:
    count = _num(results[0].means[name])
    return Row(
        name="Mean" if name == "all" else f"Mean of {name}",
        about=f"{count} task" + ("" if count == 1 else "s"),
        scores={method: tuple(_estimate(getattr(one.means[name], method)) for one in results) for method in METHODS},
        deltas={
            method: tuple(_estimate(getattr(one.means[name], method)) for one in comparisons) for method in METHODS
        },
    )


def _interval_words(results: Sequence[Results]) -> str:
    count = results[0].protocol.get("bootstrap", {}).get("num_replicates")
    words = "Intervals are 95\u00a0% bootstrap intervals over test clips (whole groups where a task has enough of them)"
    words = f"Scores are accuracies on test clips where a task names no other metric. {words}"
    words += " and probe seeds" + (f", {count:,} replicates." if isinstance(count, int) else ".")
    if len(results) > 1:
        words += " Differences are paired: both encoders are resampled with the same draws."
        words += " The colour of a difference says whether its interval lies above zero, below zero, or holds it."
    return words


def _facts(results: Sequence[Results], names: Sequence[str]) -> list[Fact]:
    facts = [
        Fact(name="Encoder", values=tuple(one.encoder.name for one in results)),
        Fact(name="Fingerprint", values=tuple(one.encoder.fingerprint or _MISSING for one in results)),
        Fact(name="Width", values=tuple(str(one.encoder.dim) for one in results)),
    ]
    protocol = list(dict.fromkeys(key for one in results for key in one.protocol))
    facts.extend(
        Fact(name=f"Protocol: {_spoken(key)}", values=tuple(_plain(one.protocol.get(key)) for one in results))
        for key in protocol
    )
    versions = list(dict.fromkeys(key for one in results for key in one.environment))
    facts.extend(
        Fact(name=f"Version: {key}", values=tuple(one.environment.get(key, _MISSING) for one in results))
        for key in versions
    )
    for name in names:
        found = [_find(one, name) for one in results]
        hashes = tuple(task.table_sha256 if task else _MISSING for task in found)
        facts.append(Fact(name=f"Data: {name} (sha256)", values=hashes))
    return facts


def _spoken(key: str) -> str:
    return key.replace("_", " ")


def _plain(value: Any) -> str:
    """Return a configuration value as a reader writes it down: no quotes, no braces."""
    if isinstance(value, dict):
        return ", ".join(f"{_spoken(str(key))} {_plain(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return " ".join(_plain(item) for item in value) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "default" if value is None else str(value)
