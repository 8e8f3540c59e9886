"""Draw results as a plain-text table for the terminal: scores in per cent, 95 % intervals, differences to a baseline.

Reads: results, and a baseline's. Returns: text without colours or control characters; nothing is recomputed but the
paired differences.
"""

from __future__ import annotations

from uniwhisper.evaluate.bootstrap import Interval
from uniwhisper.evaluate.compare import Comparison, compare
from uniwhisper.evaluate.results import Results

__all__ = ["render_table"]

_Row = tuple[str, str, Interval, Interval]


def render_table(results: Results, baseline: Results | None = None) -> str:
    """Return a table with a row a task and a row a mean, the failures and the notes.

    With a baseline, every score is followed by its difference to it, and `*` marks the differences whose interval
    excludes zero.

    Raises:
        ReportError: The baseline cannot be compared.
    """
    comparison = compare(baseline, results) if baseline else None
    header = ["task", "domain", "test clips", "chance", "kNN", "probe"]
    if comparison:
        header = [*header[:5], "delta kNN", "probe", "delta probe"]
    lines = _align([header, *_rows(results, comparison)])
    lines.insert(1, "-" * len(lines[0]))
    title = f"{results.encoder.name}: per cent, with 95 % intervals"
    footer = _footer(results, comparison)
    return "\n".join([title + (f"; against {comparison.a}" if comparison else ""), "", *lines, *footer]) + "\n"


def _rows(results: Results, comparison: Comparison | None) -> list[list[str]]:
    deltas = {task.name: (task.knn, task.probe) for task in comparison.tasks} if comparison else {}
    rows = []
    for task in results.tasks:
        facts = [task.name, task.domain, str(task.num_test_clips), f"{100 * task.chance:.1f}"]
        rows.append(facts + _cells(task.knn, task.probe, deltas.get(task.name), comparison is not None))
    for name, mean in results.means.items():
        delta = comparison.means.get(name) if comparison else None
        same_tasks = delta is not None and delta.tasks == mean.tasks
        pair = (delta.knn, delta.probe) if delta is not None and same_tasks else None
        facts = [f"mean of {len(mean.tasks)}", name, "", ""]
        rows.append(facts + _cells(mean.knn, mean.probe, pair, comparison is not None))
    return rows


def _cells(knn: Interval, probe: Interval, delta: tuple[Interval, Interval] | None, has_baseline: bool) -> list[str]:
    if not has_baseline:
        return [_score(knn), _score(probe)]
    if delta is None:
        return [_score(knn), "-", _score(probe), "-"]
    return [_score(knn), _delta(delta[0]), _score(probe), _delta(delta[1])]


def _score(value: Interval) -> str:
    return f"{100 * value.score:.1f} [{100 * value.low:.1f}, {100 * value.high:.1f}]"


def _delta(value: Interval) -> str:
    mark = "*" if value.low > 0 or value.high < 0 else ""
    return f"{100 * value.score:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]{mark}"


def _align(rows: list[list[str]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _footer(results: Results, comparison: Comparison | None) -> list[str]:
    lines = [f"failed: {failure.task}: {failure.error}" for failure in results.failures]
    if comparison:
        lines.append("* the interval of the difference excludes zero (paired: both encoders on the same draws)")
        missing = [f"only {comparison.a} has: {', '.join(comparison.only_a)}"] if comparison.only_a else []
        lines += missing + ([f"only {comparison.b} has: {', '.join(comparison.only_b)}"] if comparison.only_b else [])
    lines += [f"note: {task.name}: {note}" for task in results.tasks for note in task.notes]
    return ["", *lines] if lines else []
