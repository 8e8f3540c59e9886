"""Results files become the report's view: the one module here that knows how results are stored.

Reads `results.json` of each encoder and, to compare them, the stored predictions beside it. Guarantees: scores are
taken as they stand, differences are paired, and every mean covers the same tasks for every encoder.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.bootstrap import Interval, replicate
from uniwhisper.evaluate.compare import Comparison, TaskDelta, compare, means, weighted_means
from uniwhisper.evaluate.results import Mean, Results, TaskResult, load_predictions, read_results
from uniwhisper.evaluate.tasks import get_task, list_tasks
from uniwhisper.report.view import METHODS, Absence, Estimate, Fact, Failure, Overlap, Row, View

__all__ = ["make_view", "read_all"]

_MISSING = "\u2013"
_DOMAINS = ("speech", "music", "sound")
_METRICS = {"accuracy": "accuracy", "map": "mAP", "segment_f1": "segment F1", "iwer": "1 \u2212 WER"}


def read_all(paths: Sequence[Path]) -> list[Results]:
    """Return the results in each file or folder, checked to be of one protocol and to share a task.

    Raises:
        ReportError: A file is missing or malformed, or the encoders cannot be compared.
    """
    results = [read_results(path) for path in paths]
    protocols = {str(one.protocol.get("name", "")): one for one in results}
    if len(protocols) > 1:
        listed = "; ".join(f"{one.folder}: {name}" for name, one in protocols.items())
        raise ReportError(
            f"expected results of one protocol, found {listed}. Scores of different protocols cannot be compared: "
            "write one report for each"
        )
    if len(results) > 1 and not _shared(results):
        listed = "; ".join(f"{one.folder}: {[task.name for task in one.tasks]}" for one in results)
        raise ReportError(f"expected a task that every encoder was judged on, found none: {listed}")
    return results


def make_view(results: Sequence[Results]) -> View:
    """Return the view of one or more results; the first is the baseline.

    Raises:
        ReportError: The encoders cannot be compared, or stored predictions are missing.
    """
    names = _ordered(results)
    shared = _shared(results)
    encoders = _distinct([one.encoder.name for one in results])
    restricted = [_restricted(one, shared) for one in results]
    comparisons = [compare(restricted[0], other) for other in restricted[1:]]
    titles = _titles(results)
    mean_rows, weighted_rows = _mean_rows(restricted, comparisons, titles)
    deltas = [
        {delta.name: delta for delta in (*one.tasks, *_others(results[0], other, shared))}
        for one, other in zip(comparisons, results[1:], strict=True)
    ]
    return View(
        encoders=encoders,
        protocol=str(results[0].protocol.get("name", "")),
        rows=tuple(_task_row(name, results, [one.get(name) for one in deltas]) for name in names),
        means=mean_rows,
        weighted=weighted_rows,
        intervals=_interval_words(results),
        facts=tuple(_facts(results, names)),
        failures=tuple(
            Failure(encoder=encoder, task=titles.get(failure.task, failure.task), reason=failure.error)
            for encoder, one in zip(encoders, results, strict=True)
            for failure in one.failures
        ),
        absences=_absences(results, encoders),
        notes=tuple(
            dict.fromkeys(f"{task.title}: {note}" for one in results for task in one.tasks for note in task.notes)
        ),
    )


def _ordered(results: Sequence[Results]) -> list[str]:
    """Return the names of all tasks, by domain and otherwise in the order of the results."""
    domains: dict[str, str] = {}
    for task in (task for one in results for task in one.tasks):
        domains.setdefault(task.name, task.domain)
    return sorted(domains, key=lambda name: (*_DOMAINS, domains[name]).index(domains[name]))


def _shared(results: Sequence[Results]) -> list[str]:
    """Return the tasks that every encoder was judged on."""
    return [name for name in _ordered(results) if all(_find(one, name) for one in results)]


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
    stored = load_predictions(results, names)
    replicates = {task.name: replicate(stored[task.name], metric=task.metric) for task in tasks}
    return replace(
        results,
        tasks=tasks,
        means=means(tasks, replicates),
        weighted=weighted_means(tasks, replicates),
    )


def _others(a: Results, b: Results, shared: Sequence[str]) -> tuple[TaskDelta, ...]:
    """Return the differences on the tasks that these two have, and another encoder has not."""
    both = {task.name for task in a.tasks} & {task.name for task in b.tasks} - set(shared)
    if not both:
        return ()
    pair = [replace(one, tasks=tuple(task for task in one.tasks if task.name in both)) for one in (a, b)]
    return compare(*pair).tasks


def _absences(results: Sequence[Results], encoders: Sequence[str]) -> tuple[Absence, ...]:
    found = {one.task: one for result in results for one in result.absent}
    return tuple(
        Absence(
            task=one.task,
            encoders=tuple(
                name for name, of in zip(encoders, results, strict=True) if any(a.task == one.task for a in of.absent)
            ),
            title=one.title,
            source=one.source,
            placement=one.placement,
        )
        for one in found.values()
    )


def _estimate(interval: Interval | None) -> Estimate | None:
    return None if interval is None else Estimate(value=interval.score, low=interval.low, high=interval.high)


def _task_row(name: str, results: Sequence[Results], deltas: Sequence[TaskDelta | None]) -> Row:
    tasks = [_find(one, name) for one in results]
    first = next(task for task in tasks if task is not None)
    return Row(
        name=name,
        title=first.title or name,
        about=_about(first),
        scores={method: tuple(_estimate(getattr(task, method, None)) for task in tasks) for method in METHODS},
        deltas={method: tuple(_estimate(getattr(delta, method, None)) for delta in deltas) for method in METHODS},
        domain=first.domain,
        kind=first.kind,
        metric=_METRICS.get(first.metric, first.metric),
        unit=first.resampling_unit,
        weights={"knn": first.knn_weight, "probe": first.weight},
        overlaps=tuple(_overlap(one, task) for one, task in zip(results, tasks, strict=True)),
    )


def _overlap(results: Results, task: TaskResult | None) -> Overlap | None:
    if task is None:
        return None
    found = task.contamination
    parts = [] if found is None else list(found.corpora)
    if found is not None:
        parts += [f"{count:,} test clips by {how}" for how, count in found.clips.items() if count]
    if parts:
        return Overlap(state="overlap", words=", ".join(parts))
    return Overlap(state="none found" if results.encoder.training_known or (found and found.clips) else "unknown")


def _about(task: TaskResult) -> str:
    parts = [] if task.metric == "accuracy" else [_METRICS.get(task.metric, task.metric)]
    folds = f", {task.num_folds} folds" if task.num_folds > 1 else ""
    classes = f", {task.num_classes} classes" if task.num_classes else ""
    parts.append(f"{task.num_test_clips:,} clips{classes}{folds}")
    if task.chance is not None:
        parts.append(f"chance {task.chance:.2g}")
    if task.resampling_unit == "group":
        parts.append("whole groups resampled")
    return ", ".join(parts)


def _titles(results: Sequence[Results]) -> dict[str, str]:
    """Return what tasks are called, those too that nobody was judged on."""
    titles = {name: get_task(name).title for name in list_tasks()}
    titles |= {one.task: one.title for result in results for one in result.absent}
    return titles | {task.name: task.title or task.name for result in results for task in result.tasks}


def _mean_rows(
    results: Sequence[Results], comparisons: Sequence[Comparison], titles: Mapping[str, str]
) -> tuple[tuple[Row, ...], tuple[Row, ...]]:
    """Return the rows of the plain and of the weighted means."""
    tasks = results[0].tasks
    with_knn = [task.name for task in tasks if all(_knn(one, task.name) is not None for one in results)]
    plain = [
        _mean_row(name, [one.means[name] for one in results], [one.means[name] for one in comparisons], with_knn)
        for name in _mean_names([one.means for one in results])
    ]
    counted = [name for name in with_knn if results[0].task(name).knn_weight is not None]
    weighted = []
    for name in _mean_names([one.weighted for one in results]):
        every, deltas = [one.weighted[name] for one in results], [one.weighted[name] for one in comparisons]
        row = _mean_row(name, every, deltas, counted)
        weighted.append(_weighted_row(row, every[0], counted, titles))
    return tuple(plain), tuple(weighted)


def _knn(results: Results, name: str) -> Interval | None:
    return results.task(name).knn


def _mean_names(every: Sequence[Mapping[str, Mean]]) -> list[str]:
    """Return `all` and then the domains that every encoder has; a lone domain's mean is the mean of all."""
    names = [name for name in every[0] if all(name in one for one in every)]
    ordered = sorted(names, key=lambda name: ("all", *_DOMAINS, name).index(name))
    if len(ordered) == 2 and len(every[0][ordered[1]].tasks) == len(every[0]["all"].tasks):
        return ["all"]
    return ordered


def _mean_row(name: str, every: Sequence[Mean], deltas: Sequence[Mean], with_knn: Sequence[str]) -> Row:
    """Return a mean's row; `with_knn` are the tasks that its kNN score covers."""
    count = len(every[0].tasks)
    return Row(
        name=f"mean:{name}",
        title="Mean" if name == "all" else f"Mean of {name}",
        about=f"{count} task{'' if count == 1 else 's'}{_of_knn(every[0], with_knn)}",
        scores={method: tuple(_estimate(getattr(one, method)) for one in every) for method in METHODS},
        deltas={method: tuple(_estimate(getattr(one, method)) for one in deltas) for method in METHODS},
        domain="" if name == "all" else name,
        weights={},
        is_mean=True,
    )


def _of_knn(mean: Mean, with_knn: Sequence[str]) -> str:
    """Return words on how many tasks the kNN's mean covers, where they are fewer than the probe's."""
    count = sum(task in with_knn for task in mean.tasks)
    return "" if count == len(mean.tasks) else f", kNN over {count}"


def _weighted_row(row: Row, mean: Mean, with_knn: Sequence[str], titles: Mapping[str, str]) -> Row:
    total = len(mean.tasks) + len(mean.missing)
    about = f"weighted over {len(mean.tasks)} of {total} tasks{_of_knn(mean, with_knn)}"
    missing = tuple(titles.get(task, task) for task in mean.missing)
    title = f"Weighted average of {row.domain}" if row.domain else "Weighted average"
    return replace(row, name=row.name.replace("mean:", "weighted:", 1), title=title, about=about, missing=missing)


def _interval_words(results: Sequence[Results]) -> str:
    count = results[0].protocol.get("bootstrap", {}).get("num_replicates")
    words = "Intervals are 95\u00a0% bootstrap intervals over test clips (whole groups where a task has enough of them)"
    words = f"Scores are accuracies on test clips where a task names no other metric. {words}"
    words += " and probe seeds" + (f", {count:,} replicates." if isinstance(count, int) else ".")
    return words


def _facts(results: Sequence[Results], names: Sequence[str]) -> list[Fact]:
    facts = [
        Fact(name="Encoder", values=tuple(one.encoder.name for one in results)),
        Fact(name="Fingerprint", values=tuple(one.encoder.fingerprint or _MISSING for one in results)),
        Fact(name="Width", values=tuple(str(one.encoder.dim) for one in results)),
        Fact(name="Frame every", values=tuple(_hop(one.encoder.hop_ms) for one in results)),
        Fact(name="Trained on", values=tuple(_training(one) for one in results)),
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
        hashes = tuple(task.data_sha256 if task else _MISSING for task in found)
        facts.append(Fact(name=f"Data: {name} (sha256)", values=hashes))
    return facts


def _hop(hop_ms: float) -> str:
    return f"{hop_ms:g} ms" if hop_ms else _MISSING


def _training(results: Results) -> str:
    """Return the corpora behind an encoder, and whether that is all of them."""
    named = ", ".join(results.encoder.trained_on)
    if results.encoder.training_known:
        return named or "nothing"
    return f"{named} and others that are not known" if named else "not known"


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
