"""The page's tables as HTML: scores with differences and interval bars, and the provenance.

Reads a view, returns markup; every text is escaped here. Differences carry their sign and an interval in digits beside
the colour, so nothing depends on seeing colours.
"""

from __future__ import annotations

from html import escape

from uniwhisper.report.figures import interval_bar, interval_span
from uniwhisper.report.paper_tables import DAGGER
from uniwhisper.report.view import METHODS, Estimate, Row, View

__all__ = ["facts_table", "interval_text", "score_table", "score_text", "signed"]

_MISSING = '<span class="note" title="no such score">\u2013</span>'


def signed(value: float) -> str:
    """Return a difference with three decimals and its sign, zero without one."""
    text = f"{abs(value):.3f}"
    return text if float(text) == 0 else ("+" if value > 0 else "\u2212") + text


def _breakable(name: str) -> str:
    """Return a name as HTML that may break after an underscore or slash, where browsers would not break a word."""
    return escape(name).replace("_", "_<wbr>").replace("/", "/<wbr>")


def score_text(value: float) -> str:
    """Return a score with three decimals."""
    return f"{value:.3f}".replace("-", "\u2212")


def interval_text(estimate: Estimate) -> str:
    """Return a difference's interval in words."""
    return f"{signed(estimate.low)} to {signed(estimate.high)}"


def score_table(view: View) -> str:
    """Return the table of every task and the means: per method the scores, and differences from the first encoder."""
    spans = {
        (method, e): interval_span([b for row in _every(view) for b in _bounds(row.deltas[method][e])])
        for method in METHODS
        for e in range(len(view.encoders) - 1)
    }
    body = "".join(_row(row, view, spans) for row in view.rows)
    means = "".join(_row(row, view, spans) for row in (*view.means, *view.weighted))
    against = f" Differences are against {view.encoders[0]}." if len(view.encoders) > 1 else ""
    caption = (
        f"Scores of {len(view.rows)} tasks, from 0 to 1, higher is better; below each its 95\u00a0% interval.{against}"
        f" A dash: no such score.{_dagger_words(view)} The headings sort."
    )
    return (
        '<div class="scroller" role="region" aria-label="Scores per task" tabindex="0"><table class="sortable">'
        f"<caption><span>{escape(caption)}</span></caption><thead>{_heads(view)}</thead><tbody>{body}</tbody>"
        f"<tfoot>{means}</tfoot></table></div>"
    )


def _every(view: View) -> tuple[Row, ...]:
    return (*view.rows, *view.means, *view.weighted)


def _dagger_words(view: View) -> str:
    marked = any(one is not None and one.state == "overlap" for row in view.rows for one in row.overlaps)
    return f" {DAGGER}: the encoder may have heard these recordings in training, see below." if marked else ""


def _bounds(estimate: Estimate | None) -> tuple[float, ...]:
    return () if estimate is None else (estimate.low, estimate.high, estimate.value)


def _heads(view: View) -> str:
    per_method = 2 * len(view.encoders) - 1
    groups = "".join(
        f'<th class="group gap" colspan="{per_method}" scope="colgroup">{escape(name)}</th>'
        for name in METHODS.values()
    )
    names = ["Task"]
    for _ in METHODS:
        names.append(view.encoders[0])
        for encoder in view.encoders[1:]:
            names.extend((encoder, "Difference"))
    cells = []
    for column, name in enumerate(names):
        css = "first" if column == 0 else ("gap" if column % per_method == 1 or per_method == 1 else "")
        kind = "text" if column == 0 else "number"
        cells.append(
            f'<th scope="col" class="{css}" data-column="{column}" data-kind="{kind}" aria-sort="none">'
            f'<button type="button">{_breakable(name)}</button></th>'
        )
    return f'<tr><td class="first"></td>{groups}</tr><tr>{"".join(cells)}</tr>'


def _row(row: Row, view: View, spans: dict[tuple[str, int], float]) -> str:
    words = ", ".join(
        word for word in ("" if row.name.startswith(("mean:", "weighted:")) else row.domain, row.about) if word
    )
    about = f"<small>{escape(words)}</small>" if words else ""
    cells = [f'<th scope="row" data-sort="{escape(row.title)}">{_breakable(row.title)}{about}</th>']
    for method in METHODS:
        scores = row.scores[method]
        cells.append(_score_cell(scores[0], "gap", _mark(row, 0)))
        for e in range(1, len(view.encoders)):
            cells.append(_score_cell(scores[e], "", _mark(row, e)))
            cells.append(_delta_cell(row.deltas[method][e - 1], spans[method, e - 1]))
    return f"<tr>{''.join(cells)}</tr>"


def _mark(row: Row, e: int) -> str:
    """Return the mark of a score on recordings that the encoder may have been trained on."""
    overlap = row.overlaps[e] if row.overlaps else None
    if overlap is None or overlap.state != "overlap":
        return ""
    return f'<abbr class="overlap" title="in its training: {escape(overlap.words)}">{DAGGER}</abbr>'


def _score_cell(score: Estimate | None, css: str, mark: str) -> str:
    if score is None:
        return f'<td class="{css}" data-sort="">{_MISSING}</td>'
    interval = f'<span class="range">{score_text(score.low)}\u2013{score_text(score.high)}</span>'
    return f'<td class="{css}" data-sort="{score.value:.6f}">{score_text(score.value)}{mark}{interval}</td>'


def _delta_cell(delta: Estimate | None, span: float) -> str:
    if delta is None:
        return f'<td class="delta" data-sort="">{_MISSING}</td>'
    bar = interval_bar(delta.value, delta.low, delta.high, span=span, trend=delta.trend)
    return (
        f'<td class="delta" data-sort="{delta.value:.6f}"><span class="chip {delta.trend}">{signed(delta.value)}</span>'
        f'<span class="range">{interval_text(delta)}</span>{bar}</td>'
    )


def facts_table(view: View) -> str:
    """Return the provenance: one row per fact, one column per encoder."""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in view.encoders)
    rows = "".join(
        f'<tr><th scope="row">{escape(fact.name)}</th>{_fact_cells(fact.values)}</tr>' for fact in view.facts
    )
    return (
        '<div class="scroller" role="region" aria-label="Provenance" tabindex="0"><table class="facts">'
        "<caption><span>Where every number comes from.</span></caption>"
        f'<thead><tr><th scope="col">Fact</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
    )


def _fact_cells(values: tuple[str, ...]) -> str:
    if len(set(values)) == 1:  # the same for all encoders: said once
        return f'<td colspan="{len(values)}">{escape(values[0])}</td>'
    return "".join(f"<td>{escape(value)}</td>" for value in values)
