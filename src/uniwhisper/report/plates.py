"""The view's scores as what the larger figures draw, and the figures as files of their own.

Reads a view and published scores; writes `figure1.svg`, `figure1.png`, `deltas.svg` and `deltas.png`. Guarantees: the
page and the files show the same numbers; a figure that its tasks are too few for is not written.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from uniwhisper.files import atomic_path, write_text
from uniwhisper.report.drawing import Box, Drawing, Words, beside, moved, to_svg
from uniwhisper.report.forest import Delta, ForestRow, forest
from uniwhisper.report.paper_tables import Published
from uniwhisper.report.radar import MIN_AXES, Series, figure1, legend
from uniwhisper.report.raster import to_png
from uniwhisper.report.view import METHODS, Row, View

__all__ = ["Panel", "delta_rows", "radar_panels", "write_figures"]

Panel = tuple[str, str, tuple[str, ...], tuple[Series, ...]]
"""Method, heading, axes and series of one radar."""
_METHODS = ("probe", "knn")


def radar_panels(view: View, published: Published | None = None) -> list[Panel]:
    """Return a radar for each method that at least `MIN_AXES` tasks have a score of."""
    panels = []
    for method in _METHODS:
        rows = [row for row in view.rows if any(score is not None for score in row.scores[method])]
        if len(rows) < MIN_AXES:
            continue
        series = [
            Series(name=name, values=tuple(_value(row, method, e) for row in rows))
            for e, name in enumerate(view.encoders)
        ]
        for name, model in (published or {}).items():
            values = tuple(_share(model.get(row.name, {}).get(method)) for row in rows)
            if sum(value is not None for value in values) >= MIN_AXES:
                series.append(Series(name=name, values=values, published=True))
        panels.append((method, METHODS[method], tuple(row.title for row in rows), tuple(series)))
    return panels


def _value(row: Row, method: str, e: int) -> float | None:
    score = row.scores[method][e]
    return None if score is None else score.value


def _share(per_cent: float | None) -> float | None:
    return None if per_cent is None else per_cent / 100


def delta_rows(view: View, method: str) -> list[ForestRow]:
    """Return the rows of a plot of differences: the tasks, then the mean; none where no task has a difference."""
    rows = [_forest_row(row, method, is_mean=False) for row in view.rows]
    rows = [row for row in rows if any(delta is not None for delta in row.deltas)]
    if rows and view.mean is not None:
        rows.append(_forest_row(view.mean, method, is_mean=True))
    return rows


def _forest_row(row: Row, method: str, *, is_mean: bool) -> ForestRow:
    deltas = [
        None if one is None else Delta(value=one.value, low=one.low, high=one.high, trend=one.trend)
        for one in row.deltas[method]
    ]
    return ForestRow(name=row.title, deltas=tuple(deltas), is_mean=is_mean)


def write_figures(folder: Path, view: View, published: Published) -> list[Path]:
    """Write the figures that the view has enough tasks and encoders for, and return their paths.

    A file of an earlier run that is not written again is removed, so that the folder tells of one view alone.
    """
    drawings: Mapping[str, Drawing | None] = {"figure1": _figure1(view, published), "deltas": _deltas(view)}
    written = []
    for name, drawing in drawings.items():
        svg, png = folder / f"{name}.svg", folder / f"{name}.png"
        if drawing is None:
            svg.unlink(missing_ok=True)
            png.unlink(missing_ok=True)
            continue
        write_text(svg, to_svg(drawing))
        with atomic_path(png) as temporary:
            temporary.write_bytes(to_png(drawing))
        written += [svg, png]
    return written


def _figure1(view: View, published: Published) -> Drawing | None:
    panels = radar_panels(view, published)
    if not panels:
        return None
    title = f"Scores per task from 0 to 1, protocol {view.protocol}: {', '.join(view.encoders)}"
    return figure1([(heading, axes, series) for _, heading, axes, series in panels], title=title)


def _deltas(view: View) -> Drawing | None:
    plots = []
    for method in _METHODS:
        if len(view.encoders) > 1 and (rows := delta_rows(view, method)):
            plots.append(_headed(forest(rows, title=METHODS[method], unit="difference of scores"), METHODS[method]))
    if not plots:
        return None
    first, *rest = list(view.encoders)
    joined = beside(plots)
    others = [Series(name=name, values=()) for name in rest]
    below = legend(others, joined.box.width, first=1) if len(others) > 1 else []
    bottom = joined.box.bottom + max((mark.box.bottom for mark in below if isinstance(mark, Words)), default=0.0)
    against = f"Differences from {first}" + (f": {others[0].name}" if len(others) == 1 else "")
    head = Words(look="tick", lines=(against,), box=Box(left=0, right=joined.box.right, top=-24, bottom=-6))
    box = Box(left=-10, right=joined.box.right + 10, top=-30, bottom=bottom + 14)
    marks = (*joined.marks, head, *moved(below, 0, joined.box.bottom + 4))
    return Drawing(title=f"{against}, protocol {view.protocol}", box=box, marks=marks)


def _headed(drawing: Drawing, heading: str) -> Drawing:
    box = drawing.box
    head = Box(left=box.left, right=box.right, top=box.top - 22, bottom=box.top - 4)
    words = Words(look="ink", lines=(heading,), box=head, anchor="middle", size_px=14, bold=True)
    grown = Box(left=box.left, right=box.right, top=head.top, bottom=box.bottom)
    return Drawing(title=drawing.title, box=grown, marks=(*drawing.marks, words))
