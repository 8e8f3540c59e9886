"""Draw results as a plain-text table for the terminal: scores in per cent, 95 % intervals, differences to a baseline.

Reads: results, and a baseline's. Returns: text without colours or control characters; nothing is recomputed but the
paired differences.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from uniwhisper.evaluate.bootstrap import Interval
from uniwhisper.evaluate.compare import Comparison, compare
from uniwhisper.evaluate.results import Absent, Contamination, Mean, Results

__all__ = ["render_table"]


def render_table(results: Results, baseline: Results | None = None) -> str:
    """Return a table with a row a task and a row a mean, the failures and the notes.

    With a baseline, every score is followed by its difference to it, and `*` marks the differences whose interval
    excludes zero.

    Raises:
        ReportError: The baseline cannot be compared.
    """
    comparison = compare(baseline, results) if baseline else None
    header = ["task", "domain", "metric", "test clips", "chance", "kNN", "probe"]
    if comparison:
        header = [*header[:6], "delta kNN", "probe", "delta probe"]
    lines = _align([header, *_rows(results, comparison)])
    lines.insert(1, "-" * len(lines[0]))
    title = f"{results.encoder.name}, protocol {results.protocol['name']}: per cent, with 95 % intervals"
    footer = _footer(results, comparison)
    return "\n".join([title + (f"; against {comparison.a}" if comparison else ""), "", *lines, *footer]) + "\n"


def _rows(results: Results, comparison: Comparison | None) -> list[list[str]]:
    deltas = {task.name: (task.knn, task.probe) for task in comparison.tasks} if comparison else {}
    rows = []
    for task in results.tasks:
        chance = "" if task.chance is None else f"{100 * task.chance:.1f}"
        facts = [task.name, task.domain, task.metric, str(task.num_test_clips), chance]
        rows.append(facts + _cells(task.knn, task.probe, deltas.get(task.name), comparison is not None))
    rows += _mean_rows("mean", results.means, comparison.means if comparison else None)
    return rows + _mean_rows("weighted", results.weighted, comparison.weighted if comparison else None)


def _mean_rows(kind: str, means: Mapping[str, Mean], deltas: Mapping[str, Mean] | None) -> list[list[str]]:
    rows = []
    for name, mean in means.items():
        delta = (deltas or {}).get(name)
        same_tasks = delta is not None and delta.tasks == mean.tasks
        pair = (delta.knn, delta.probe) if delta is not None and same_tasks else None
        facts = [f"{kind}, {len(mean.tasks)} task{'s' if len(mean.tasks) > 1 else ''}", name, "", "", ""]
        rows.append(facts + _cells(mean.knn, mean.probe, pair, deltas is not None))
    return rows


def _cells(
    knn: Interval | None, probe: Interval, delta: tuple[Interval | None, Interval] | None, has_baseline: bool
) -> list[str]:
    if not has_baseline:
        return [_score(knn), _score(probe)]
    if delta is None:
        return [_score(knn), "-", _score(probe), "-"]
    return [_score(knn), _delta(delta[0]), _score(probe), _delta(delta[1])]


def _score(value: Interval | None) -> str:
    return "-" if value is None else f"{100 * value.score:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _delta(value: Interval | None) -> str:
    if value is None:
        return "-"
    mark = "*" if value.low > 0 or value.high < 0 else ""
    return f"{100 * value.score:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]{mark}"


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _footer(results: Results, comparison: Comparison | None) -> list[str]:
    lines = [f"failed: {failure.task}: {failure.error}" for failure in results.failures]
    if results.absent:
        lines.append("not tried: " + ", ".join(one.task for one in results.absent))
        lines += [f"  {one.source}: {one.placement.splitlines()[0]}" for one in _once_a_source(results.absent)]
        if any("https://" in one.placement for one in results.absent):
            lines.append("  `uniwhisper sources show NAME` says what to place where")
    if comparison:
        lines.append("* the interval of the difference excludes zero (paired: both encoders on the same draws)")
        missing = [f"only {comparison.a} has: {', '.join(comparison.only_a)}"] if comparison.only_a else []
        lines += missing + ([f"only {comparison.b} has: {', '.join(comparison.only_b)}"] if comparison.only_b else [])
    shared = [(task.name, task.contamination) for task in results.tasks]
    lines += [f"contamination: {name}: {_shared(found)}" for name, found in shared if found and _is_hit(found)]
    lines += [f"note: {task.name}: {note}" for task in results.tasks for note in task.notes]
    return ["", *lines] if lines else []


def _once_a_source(absent: Iterable[Absent]) -> list[Absent]:
    return list({one.source: one for one in absent}.values())


def _is_hit(found: Contamination) -> bool:
    return bool(found.corpora or any(found.clips.values()))


def _shared(found: Contamination) -> str:
    parts = [f"trained on {', '.join(found.corpora)}"] if found.corpora else []
    return "; ".join([*parts, *(f"{count} test clips by {how}" for how, count in found.clips.items() if count)])
