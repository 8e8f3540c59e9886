"""A paper's table as Markdown, CSV, LaTeX (booktabs) and HTML.

Reads a table, returns text. Guarantees: every name is escaped for the format it stands in; CSV holds numbers alone, in
columns that say what they are; the HTML is a table that scrolls inside its box.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from html import escape

from uniwhisper.report.paper_tables import DAGGER, Cell, Column, Line, PaperTable
from uniwhisper.report.view import METHODS

__all__ = ["to_csv", "to_html", "to_latex", "to_markdown"]

_DASH = "\u2013"
_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\u2013": "--",
    "\u2020": r"$^\dagger$",
    "\u00b1": r"$\pm$",
    "\u00a0": "~",
    "\u2212": "$-$",
    **{c: "\\" + c for c in "&%$#_"},
}


def _number(value: float) -> str:
    return f"{value:.2f}"


def _plain(cell: Cell, with_interval: bool) -> str:
    if cell.value is None:
        return _DASH
    text = _number(cell.value)
    if with_interval and cell.low is not None and cell.high is not None and cell.half_width is not None:
        text += f" \u00b1{_number(cell.half_width)} [{_number(cell.low)}, {_number(cell.high)}]"
    return text


def to_markdown(table: PaperTable) -> str:
    """Return the table as GitHub's Markdown, its notes below."""
    heads = ["Domain", "Task", "Metric", *(_flat(column) for column in table.columns)]
    rules = ["---"] * 3 + ["---:"] * len(table.columns)
    rows = [heads, rules, *(_markdown_line(line, table.with_intervals) for line in table.lines)]
    text = "\n".join(f"| {' | '.join(row)} |" for row in rows)
    notes = "".join(f"\n\n{_markdown(note)}" for note in table.notes)
    return f"{_markdown(table.caption)}\n\n{text}{notes}\n"


def _flat(column: Column) -> str:
    return _markdown(f"{column.heading} {METHODS[column.method]}")


def _markdown(text: str) -> str:
    text = " ".join(text.split())
    for mark in "\\`*_[]<>|":
        text = text.replace(mark, "\\" + mark)
    return text


def _markdown_line(line: Line, with_interval: bool) -> list[str]:
    cells = []
    for cell in line.cells:
        text = _plain(cell, with_interval)
        text = f"**{text}**" if cell.best else text
        cells.append(text + (DAGGER if cell.overlap else ""))
    title = f"**{_markdown(line.title)}**" if line.is_average else _markdown(line.title)
    return [line.domain, title, _markdown(line.metric), *cells]


def to_csv(table: PaperTable) -> str:
    """Return the table as CSV: a row a task and a column an encoder, or, with intervals, a row a score."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    for row in _score_rows(table) if table.with_intervals else _task_rows(table):
        writer.writerow(row)
    return file.getvalue()


def _task_rows(table: PaperTable) -> list[list[str]]:
    ours = [i for i, column in enumerate(table.columns) if not column.published and column.method == "probe"]
    heads = ["domain", "task", "title", "metric"]
    heads += [f"{column.heading} {column.method}" for column in table.columns]
    heads += [f"{table.columns[i].encoder} trained on" for i in ours]
    rows = [heads]
    for line in table.lines:
        row = [line.domain, line.name, line.title, line.metric]
        row += ["" if cell.value is None else f"{cell.value:.4f}" for cell in line.cells]
        rows.append(row + [line.cells[i].overlap for i in ours])
    return rows


def _score_rows(table: PaperTable) -> list[list[str]]:
    rows = [["domain", "task", "title", "encoder", "method", "score", "low", "high", "half_width", "resampling_unit"]]
    for line in table.lines:
        for column, cell in zip(table.columns, line.cells, strict=True):
            values = (cell.value, cell.low, cell.high, cell.half_width)
            if cell.value is not None:
                texts = ["" if value is None else f"{value:.4f}" for value in values]
                rows.append([line.domain, line.name, line.title, column.encoder, column.method, *texts, line.unit])
    return rows


def to_latex(table: PaperTable) -> str:
    """Return a LaTeX table that needs the package booktabs."""
    groups = _groups(table)
    heads = " & ".join(rf"\multicolumn{{{size}}}{{c}}{{{_latex(name)}}}" for name, size in groups)
    rules, first = [], 3
    for _, size in groups:
        rules.append(rf"\cmidrule(lr){{{first}-{first + size - 1}}}")
        first += size
    methods = " & ".join(METHODS[column.method] for column in table.columns)
    body: list[str] = []
    for i, line in enumerate(table.lines):
        new = i == 0 or line.domain != table.lines[i - 1].domain
        if new and i > 0:
            body.append(r"\midrule")
        body.append(_latex_line(line, table.with_intervals, with_domain=new))
    notes = "".join(f"\n{_latex(note)}\\par" for note in table.notes)
    return (
        "% needs \\usepackage{booktabs}\n\\begin{table}\n\\centering\\small\n"
        f"\\caption{{{_latex(table.caption)}}}\n\\begin{{tabular}}{{ll{'r' * len(table.columns)}}}\n\\toprule\n"
        f"Domain & Task & {heads} \\\\\n{''.join(rules)}\n & & {methods} \\\\\n\\midrule\n"
        + "\n".join(body)
        + f"\n\\bottomrule\n\\end{{tabular}}\n\\par\\footnotesize{notes}\n\\end{{table}}\n"
    )


def _groups(table: PaperTable) -> list[tuple[str, int]]:
    """Return the headings over the columns, with how many each spans."""
    groups: list[tuple[str, int]] = []
    for column in table.columns:
        if groups and groups[-1][0] == column.heading and column.method != "probe":
            groups[-1] = (column.heading, groups[-1][1] + 1)
        else:
            groups.append((column.heading, 1))
    return groups


def _latex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in " ".join(text.split(" ")))


def _latex_line(line: Line, with_interval: bool, *, with_domain: bool) -> str:
    cells = []
    for cell in line.cells:
        text = _latex(_plain(cell, False))
        text = rf"\textbf{{{text}}}" if cell.best else text
        if with_interval and cell.low is not None and cell.high is not None:
            text += rf" {{\scriptsize [{_number(cell.low)}, {_number(cell.high)}]}}"
        cells.append(text + (r"$^\dagger$" if cell.overlap else ""))
    domain = _latex(line.domain.capitalize()) if with_domain else ""
    return f"{domain} & {_latex(line.title)} & {' & '.join(cells)} \\\\"


def to_html(table: PaperTable, *, label: str) -> str:
    """Return the table as HTML in a box of its own that scrolls, its notes below.

    Args:
        table: What to write.
        label: Names the box to readers who cannot see it.
    """
    heads = "".join(
        f'<th scope="colgroup" colspan="{size}" class="group gap">{escape(name)}</th>' for name, size in _groups(table)
    )
    methods = "".join(
        f'<th scope="col"{_css(column, i)}>{METHODS[column.method]}</th>' for i, column in enumerate(table.columns)
    )
    body = "".join(_html_line(line, table) for line in table.lines if not line.is_average)
    foot = "".join(_html_line(line, table) for line in table.lines if line.is_average)
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f'<div class="scroller" role="region" aria-label="{escape(label)}" tabindex="0"><table class="paper">'
        f"<caption><span>{escape(table.caption)}</span></caption>"
        f'<thead><tr><td class="first"></td>{heads}</tr><tr><th scope="col" class="first">Task</th>{methods}</tr>'
        f'</thead><tbody>{body}</tbody><tfoot>{foot}</tfoot></table></div><ul class="notes note">{notes}</ul>'
    )


def _css(column: Column, i: int) -> str:
    names = (["gap"] if column.method == "probe" or i == 0 else []) + (["published"] if column.published else [])
    return f' class="{" ".join(names)}"' if names else ""


def _html_line(line: Line, table: PaperTable) -> str:
    cells = "".join(
        f"<td{_css(column, i)}>{_html_cell(cell, table.with_intervals)}</td>"
        for i, (column, cell) in enumerate(zip(table.columns, line.cells, strict=True))
    )
    small = ", ".join(word for word in (line.domain, line.metric) if word)
    about = f"<small>{escape(small)}</small>" if small else ""
    return f'<tr><th scope="row">{escape(line.title)}{about}</th>{cells}</tr>'


def _html_cell(cell: Cell, with_interval: bool) -> str:
    if cell.value is None:
        return f'<span class="note" title="no such score">{_DASH}</span>'
    wrap: Callable[[str], str] = (lambda text: f"<strong>{text}</strong>") if cell.best else (lambda text: text)
    dagger = f'<abbr class="overlap" title="trained on: {escape(cell.overlap)}">{DAGGER}</abbr>' if cell.overlap else ""
    text = wrap(_number(cell.value)) + dagger
    if with_interval and cell.low is not None and cell.high is not None and cell.half_width is not None:
        text += f'<span class="range">{_number(cell.low)}\u2013{_number(cell.high)}</span>'
        text += f'<span class="range">\u00b1{_number(cell.half_width)}</span>'
    return text
