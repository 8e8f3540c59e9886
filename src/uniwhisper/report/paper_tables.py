"""The paper's Table 3 (scores) and Table 4 (how sure they are) from measured results, free of any format.

Reads a view and published scores, returns tables that `paper_text.py` writes as Markdown, CSV, LaTeX and HTML.
Guarantees: published columns are marked, stand after ours and take no part in what is best; a weighted average of a
published column covers the tasks that ours covers, and is a dash where the publication lacks one of them.
Source: the layout is that of Tables 3 and 4 of the UniWhisper paper: per cent, probe before kNN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from uniwhisper.report.view import METHODS, Estimate, Row, View

__all__ = ["DAGGER", "Cell", "Column", "Line", "PaperTable", "Published", "table3", "table4"]

Published = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Model -> task -> `probe` and `knn` -> per cent."""

DAGGER = "\u2020"
_METHODS = ("probe", "knn")
_DECIMALS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """One encoder judged in one way."""

    encoder: str
    method: str
    published: bool

    @property
    def heading(self) -> str:
        """The encoder, marked where its scores are taken from a publication."""
        return f"{self.encoder} (published)" if self.published else self.encoder


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """A score in per cent; None where there is none."""

    value: float | None
    low: float | None = None
    high: float | None = None
    best: bool = False
    """The highest of its row among our encoders, as far as the printed decimals tell; ties are all best."""
    overlap: str = ""
    """What the encoder's training shares with the task; empty where nothing is known to be."""

    @property
    def half_width(self) -> float | None:
        """The larger distance from the value to an end of its interval."""
        if self.value is None or self.low is None or self.high is None:
            return None
        return max(abs(self.value - self.low), abs(self.high - self.value))


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One task, or an average over them."""

    domain: str
    name: str
    title: str
    metric: str
    unit: str
    cells: tuple[Cell, ...]
    is_average: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PaperTable:
    """Lines of cells under columns; `notes` are the sentences below it."""

    caption: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    with_intervals: bool = False


def table3(view: View, published: Published) -> PaperTable:
    """Return every task's scores, ours and then the published ones, and the averages.

    Args:
        view: What was measured.
        published: Columns to set beside it, in this order.
    """
    columns = [Column(encoder=name, method=m, published=False) for name in view.encoders for m in _METHODS]
    columns += [Column(encoder=name, method=m, published=True) for name in published for m in _METHODS]
    lines = [_line(row, view, published) for row in view.rows]
    lines += [_average(row, view, published) for row in (*view.weighted, *view.means)]
    return PaperTable(
        caption=f"Scores in per cent under protocol {view.protocol}; higher is better.",
        columns=tuple(columns),
        lines=tuple(lines),
        notes=tuple(_notes(view, published)),
    )


def table4(view: View) -> PaperTable:
    """Return our scores with their 95 % intervals; the published Table 4 is not repeated beside them.

    Its deviations are smaller than drawing the test clips alone allows (800 clips at 57 % cannot be within 1.3 points).
    """
    columns = [Column(encoder=name, method=m, published=False) for name in view.encoders for m in _METHODS]
    lines = [_line(row, view, {}) for row in view.rows]
    lines += [_average(row, view, {}) for row in (*view.weighted, *view.means)]
    return PaperTable(
        caption=f"Scores in per cent with 95 % intervals under protocol {view.protocol}.",
        columns=tuple(columns),
        lines=tuple(replace(one, cells=tuple(replace(cell, best=False) for cell in one.cells)) for one in lines),
        notes=(
            *([view.coverage] if view.coverage else []),
            view.intervals,
            "\u00b1 is the larger distance from the score to an end of its interval.",
        ),
        with_intervals=True,
    )


def _line(row: Row, view: View, published: Published) -> Line:
    ours = _best(_measured(row, view))
    theirs = [Cell(value=_of(published[name], row.name, m)) for name in published for m in _METHODS]
    return Line(
        domain=row.domain,
        name=row.name,
        title=row.title,
        metric=row.metric,
        unit=row.unit,
        cells=(*ours, *theirs),
    )


def _of(model: Mapping[str, Mapping[str, float | None]], task: str, method: str) -> float | None:
    return model.get(task, {}).get(method)


def _measured(row: Row, view: View) -> list[Cell]:
    cells = []
    for e in range(len(view.encoders)):
        overlap = row.overlaps[e] if row.overlaps else None
        words = overlap.words if overlap is not None and overlap.state == "overlap" else ""
        cells.extend(_cell(row.scores[m][e], words) for m in _METHODS)
    return cells


def _cell(score: Estimate | None, overlap: str) -> Cell:
    if score is None:
        return Cell(value=None)
    return Cell(value=100 * score.value, low=100 * score.low, high=100 * score.high, overlap=overlap)


def _best(cells: Sequence[Cell]) -> list[Cell]:
    """Mark the best of each method; a method that only one encoder was judged by has no best."""
    marked = list(cells)
    for m in range(len(_METHODS)):
        places = [i for i in range(m, len(cells), len(_METHODS)) if cells[i].value is not None]
        rounded = {i: round(value, _DECIMALS) for i in places if (value := cells[i].value) is not None}
        for i in places:
            if len(places) > 1 and rounded[i] == max(rounded.values()):
                marked[i] = replace(cells[i], best=True)
    return marked


def _average(row: Row, view: View, published: Published) -> Line:
    weighted = row in view.weighted
    theirs = [
        Cell(value=_published_average(model, _covered(row, view, m), m, weighted=weighted))
        for model in published.values()
        for m in _METHODS
    ]
    return Line(
        domain="",
        name=row.name,
        title=row.title,
        metric=row.about,
        unit="",
        cells=(*_best(_measured(row, view)), *theirs),
        is_average=True,
    )


def _covered(average: Row, view: View, method: str) -> dict[str, float]:
    """Return the tasks that an average row of ours covers, with their weights."""
    weighted = average in view.weighted
    tasks = [row for row in view.rows if average.domain in ("", row.domain)]
    return {
        row.name: weight if weighted and (weight := row.weights.get(method)) is not None else 1.0
        for row in tasks
        if all(score is not None for score in row.scores[method])
        and (not weighted or row.weights.get(method) is not None)
    }


def _published_average(
    model: Mapping[str, Mapping[str, float | None]], tasks: Mapping[str, float], method: str, *, weighted: bool
) -> float | None:
    scores = {name: _of(model, name, method) for name in tasks}
    if not scores or any(score is None for score in scores.values()):
        return None
    weights = {name: weight if weighted else 1.0 for name, weight in tasks.items()}
    return sum(weights[name] * (scores[name] or 0.0) for name in tasks) / sum(weights.values())


def _notes(view: View, published: Published) -> list[str]:
    several = len(view.encoders) > 1
    notes = ["Bold: the best of its row among the measured encoders, probe and kNN each for itself."] if several else []
    if published:
        notes.append(
            "Published: copied from Table 3 of the UniWhisper paper (probe is its MLP), not measured here, and judged "
            "under X-ARES's protocol; averages cover the tasks that ours cover. They are never bold."
        )
    if view.coverage:
        notes.append(view.coverage)
    for e, name in enumerate(view.encoders):
        told = [
            f"{row.title}: {overlap.words}"
            for row in view.rows
            if row.overlaps and (overlap := row.overlaps[e]) is not None and overlap.state == "overlap"
        ]
        if told:
            notes.append(f"{DAGGER} {name} may have heard these recordings in training: {'; '.join(told)}.")
    if any(cell is None for row in view.rows for m in METHODS for cell in row.scores[m]):
        notes.append("A dash: the task has no such score, or the encoder was not judged on it.")
    return notes
