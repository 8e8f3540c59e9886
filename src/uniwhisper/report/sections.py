"""The page's sections as HTML: summary, failures, radars, differences, what training shared, curves, maps.

Reads a view, training metrics and maps; returns markup and the data that the page's script needs. Escapes every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import PurePath
from typing import Any

from uniwhisper.report.drawing import to_page
from uniwhisper.report.figures import LineChart, line_chart, line_swatch, plot_box, x_range
from uniwhisper.report.forest import forest
from uniwhisper.report.plates import delta_rows, radar_panels
from uniwhisper.report.players import EXCERPT_S, Players
from uniwhisper.report.projection import FRAME, TaskMap
from uniwhisper.report.radar import radar
from uniwhisper.report.tables import interval_text, score_text, signed
from uniwhisper.report.training import Training, training_charts
from uniwhisper.report.view import METHODS, Absence, Estimate, Overlap, View

__all__ = [
    "absences",
    "delta_section",
    "failures",
    "headline",
    "map_data",
    "map_section",
    "overlap_section",
    "radar_section",
    "short_path",
    "tiles",
    "training_section",
]

_ARROW = "\u2192"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def headline(view: View) -> str:
    """Return the report in one sentence of plain text: mean scores of the first and last encoder, with intervals."""
    parts = []
    for name, first, last, delta in _means(view):
        if delta is None:
            interval = f"95\u00a0% interval {score_text(last.low)} to {score_text(last.high)}"
            parts.append(f"{_in_text(name)} {score_text(last.value)} ({interval})")
        else:
            change = f"{signed(delta.value)}, 95\u00a0% interval {interval_text(delta)}"
            parts.append(f"{_in_text(name)} {score_text(first.value)} {_ARROW} {score_text(last.value)} ({change})")
    if not parts or view.mean is None:
        return "No task was measured for every encoder, so there is no mean."
    return f"Mean {' and mean '.join(parts)} over {view.mean.about}."


def _in_text(name: str) -> str:
    return name if name.isupper() or name[0].islower() else name.lower()


def _means(view: View) -> list[tuple[str, Estimate, Estimate, Estimate | None]]:
    """Return for each method its heading, the first and last encoder's mean, and their difference if they are two."""
    if view.mean is None:
        return []
    found = []
    for method, name in METHODS.items():
        first, last = view.mean.scores[method][0], view.mean.scores[method][-1]
        if first is not None and last is not None:
            found.append((name, first, last, view.mean.deltas[method][-1] if len(view.encoders) > 1 else None))
    return found


def tiles(view: View) -> str:
    """Return the mean of each method in large type, with how many tasks rose and fell."""
    parts = []
    for name, first, last, delta in _means(view):
        if delta is None:
            big, small = score_text(last.value), f"interval {score_text(last.low)} to {score_text(last.high)}"
            parts.append(_tile(f"Mean {_in_text(name)}", big, small))
            continue
        chip = f'<span class="chip {delta.trend}">{signed(delta.value)}</span>'
        small = f"{score_text(first.value)} {_ARROW} {score_text(last.value)}, interval {interval_text(delta)}"
        parts.append(_tile(f"Mean {_in_text(name)}", chip, small))
        method = next(key for key, heading in METHODS.items() if heading == name)
        trends = view.trends(method, len(view.encoders) - 1)
        big = f"{trends['up']} up, {trends['down']} down"
        parts.append(_tile(f"{name}, task by task", big, f"{trends['unclear']} unclear: the interval holds zero"))
    return f'<dl class="tiles">{"".join(parts)}</dl>'


def _tile(name: str, big: str, small: str) -> str:
    texts = f'<dd class="big">{big}</dd><dd class="small">{escape(small)}</dd>'
    return f'<div class="tile"><dt>{escape(name)}</dt>{texts}</div>'


def failures(view: View) -> str:
    """Return the tasks that could not be judged, as an alert; nothing where all could."""
    if not view.failures:
        return ""
    items = "".join(
        f"<li><strong>{escape(f.task)}</strong> ({escape(f.encoder)}): {escape(f.reason)}</li>" for f in view.failures
    )
    return (
        f'<section class="alert" role="alert" aria-labelledby="failures"><h2 id="failures">'
        f"{_count(len(view.failures), 'evaluation')} failed</h2>"
        f"<p>Means cover only the tasks that every encoder was judged on.</p><ul>{items}</ul></section>"
    )


def absences(view: View) -> str:
    """Return the tasks whose corpus was not there, with what to place where, folded; nothing where all were."""
    if not view.absences:
        return ""
    items = "".join(_absence(one, view) for one in view.absences)
    return (
        f'<details class="absences"><summary>{_count(len(view.absences), "task")} not judged: the corpus is not there. '
        f"What to place where</summary><ul>{items}</ul></details>"
    )


def _absence(one: Absence, view: View) -> str:
    who = "" if len(one.encoders) == len(view.encoders) else f", for {', '.join(one.encoders)}"
    return (
        f"<li><strong>{escape(one.title)}</strong> (<code>{escape(one.source)}</code>{escape(who)})"
        f'<span class="placement">{escape(one.placement)}</span></li>'
    )


def radar_section(view: View) -> str:
    """Return one radar per method that has enough tasks; nothing where none has."""
    figures = []
    order = list(METHODS)
    for method, heading, axes, series in sorted(radar_panels(view), key=lambda panel: order.index(panel[0])):
        words = f"{heading} per task for {', '.join(view.encoders)}; the numbers are in the table of scores"
        drawing = to_page(radar(title=words, axes=axes, series=series), id=f"radar-{method}")
        figures.append(f"<figure><h3>{escape(heading)}</h3>{drawing}</figure>")
    if not figures:
        return ""
    return (
        '<section aria-labelledby="profile"><h2 id="profile">Profile over tasks</h2>'
        '<p class="note">Each axis is a task, from 0 at the centre to 1 at the rim. The area means nothing: it depends '
        f'on the order of the tasks.</p>{_encoder_legend(view.encoders)}<div class="grid">{"".join(figures)}</div>'
        "</section>"
    )


def _encoder_legend(names: Sequence[str], first: int = 0) -> str:
    items = "".join(f"<li>{_encoder_swatch(e)}{escape(name)}</li>" for e, name in enumerate(names, start=first))
    return f'<ul class="legend">{items}</ul>'


def delta_section(view: View) -> str:
    """Return the differences from the first encoder, task by task, as one plot a method; nothing for one encoder."""
    if len(view.encoders) < 2:
        return ""
    figures = []
    for method, heading in METHODS.items():
        rows = delta_rows(view, method)
        if rows:
            words = f"{heading}: differences per task from {view.encoders[0]}; the numbers are in the table of scores"
            drawing = forest(rows, title=words, unit="difference of scores")
            figures.append(f"<figure><h3>{escape(heading)}</h3>{to_page(drawing, id=f'deltas-{method}')}</figure>")
    several = len(view.encoders) > 2
    key = _encoder_legend(view.encoders[1:], first=1) if several else _TREND_LEGEND
    return (
        '<section aria-labelledby="deltas"><h2 id="deltas">Differences per task</h2>'
        f'<p class="note">Against {escape(view.encoders[0])}, with paired 95\u00a0% intervals; right of the rule is '
        f'better.</p>{key}<div class="grid">{"".join(figures)}</div></section>'
    )


_TREND_LEGEND = (
    '<ul class="legend">'
    '<li><span class="chip up">better</span> the interval lies above zero</li>'
    '<li><span class="chip down">worse</span> below zero</li>'
    '<li><span class="chip unclear">unclear</span> it holds zero</li></ul>'
)


def overlap_section(view: View) -> str:
    """Return what each encoder's training shares with each task; nothing where no one looked or knows of any."""
    if all(one is None or one.state == "unknown" for row in view.rows for one in row.overlaps):
        return ""
    heads = "".join(f'<th scope="col">{escape(name)}</th>' for name in view.encoders)
    rows = "".join(
        f'<tr><th scope="row">{escape(row.title)}</th>{"".join(_overlap_cell(one) for one in row.overlaps)}</tr>'
        for row in view.rows
    )
    return (
        '<section aria-labelledby="overlaps"><h2 id="overlaps">What training may have heard</h2>'
        "<p>A score on recordings that an encoder was trained on says little about new ones.</p>"
        '<div class="scroller" role="region" aria-label="Training and test data" tabindex="0"><table class="facts">'
        "<caption><span>Per task: corpora that the encoder was trained on and the task draws on, and test clips found "
        "again in the training data. \u201cNone found\u201d: its training data is known and shares none of these. "
        "\u201cUnknown\u201d: nobody says what it was trained on.</span></caption>"
        f'<thead><tr><th scope="col">Task</th>{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>'
    )


def _overlap_cell(one: Overlap | None) -> str:
    if one is None:
        return '<td class="words"><span class="note">not judged</span></td>'
    text = f'<span class="chip down">overlap</span> {escape(one.words)}' if one.state == "overlap" else one.state
    return f'<td class="words">{text}</td>'


def _encoder_swatch(e: int) -> str:
    mark = (
        '<rect class="e0" x="8" y="3" width="6" height="6"/>'
        if e == 0
        else f'<circle class="e{e % 5}" cx="11" cy="6" r="3.2"/>'
    )
    dash = ' stroke-dasharray="5 4"' if e == 0 else ""
    return (
        f'<svg width="22" height="12" viewBox="0 0 22 12" aria-hidden="true">'
        f'<line class="e{e % 5}" x1="0" x2="22" y1="6" y2="6" stroke-width="2"{dash}/>{mark}</svg>'
    )


def training_section(training: Training | None) -> tuple[str, list[dict[str, Any]]]:
    """Return the training curves and the values that the script shows under the pointer.

    Args:
        training: None where a training folder was named but holds no metrics; the section then says so.
    """
    head = '<section aria-labelledby="training"><h2 id="training">Training</h2>'
    if training is None:
        return f'{head}<p class="note">The training folder holds no metrics, so there are no curves.</p></section>', []
    charts = training_charts(training)
    figures = "".join(_chart_figure(chart, caption) for chart, caption in charts)
    words = f'<p class="note">{escape(_training_words(training))}</p>'
    html = f'{head}{words}<div class="grid narrow">{figures}</div></section>'
    return html, [_chart_data(chart) for chart, _ in charts]


def _training_words(training: Training) -> str:
    parts = [_count(len(training.steps), "step")]
    if examples := training.total("num_examples"):
        parts.append(_count(round(examples), "example"))
    if audio_s := training.total("audio_s"):
        parts.append(f"{audio_s / 3600:.1f} h of audio")
    if speed := training.mean("examples_per_s"):
        parts.append(f"{speed:.1f} examples/s on average")
    words = ", ".join(parts) + "."
    if (loss := training.last("loss")) is not None:
        words += f" Last loss {loss:.3f}."
    if training.num_not_finite:
        words += f" {_count(training.num_not_finite, 'value')} not finite and not drawn: the run diverged there."
    return words


def _chart_figure(chart: LineChart, caption: str) -> str:
    items = "".join(f"<li>{line_swatch(line, i)}{escape(line.name)}</li>" for i, line in enumerate(chart.lines))
    unit = f' <span class="note">({escape(chart.y_label)})</span>' if chart.y_label else ""
    return (
        f"<figure><h3>{escape(chart.title)}{unit}</h3>{line_chart(chart)}"
        f'<ul class="legend">{items}</ul><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _chart_data(chart: LineChart) -> dict[str, Any]:
    box, (first, last) = plot_box(), x_range(chart)
    series = [
        {"name": line.name, "y": [None if y is None else float(f"{y:.4g}") for y in line.y]} for line in chart.lines
    ]
    edges = [box.left, box.right, box.top, box.bottom]
    return {"id": chart.id, "x": list(chart.x), "from": first, "to": last, "box": edges, "series": series}


def map_section(view: View, maps: Sequence[TaskMap]) -> str:
    """Return the frame of the maps; the script fills it."""
    titles = {row.name: row.title for row in view.rows}
    options = "".join(f"<option>{escape(titles.get(one.task, one.task))}</option>" for one in maps)
    panels = "".join(
        f'<figure><h3>{escape(name)} <span class="note" data-score></span></h3>'
        f'<div class="map" data-panel="{e}" role="group" tabindex="0" aria-describedby="map-facts">'
        f'<svg viewBox="0 0 {FRAME} {FRAME}" aria-hidden="true"></svg></div></figure>'
        for e, name in enumerate(view.encoders)
    )
    empty = "Point at a clip to see its name, press to hear it."
    return (
        '<section aria-labelledby="maps"><h2 id="maps">Maps of the embeddings</h2>'
        "<p>Each mark is a clip, coloured and shaped by its label; the same clips in every map. Placed by t-SNE on 50 "
        "principal components (fewer than 12 clips: by the first two): close clips are similar to the encoder, while "
        "distances between groups, their sizes and empty space are only indicative. Judge by the scores; look here for "
        "what they mean.</p>"
        "<noscript><p>The maps and players need JavaScript.</p></noscript>"
        '<div data-needs-js hidden><div class="controls"><label for="map-task">Task</label>'
        f'<select id="map-task">{options}</select></div>'
        f'<div class="grid">{panels}</div>'
        '<div class="player"><button type="button" id="map-play" disabled>Play</button>'
        f'<output id="map-clip" aria-live="polite" data-empty="{empty}">{empty}</output></div>'
        '<h3 class="visually-hidden">Labels: press one to see it alone</h3><ul class="labels" id="map-labels"></ul>'
        '<p class="note" id="map-facts"></p></div></section>'
    )


def map_data(view: View, maps: Sequence[TaskMap], players: Players) -> list[dict[str, Any]]:
    """Return what the script needs to draw the maps."""
    return [_one_map(view, one, players) for one in maps]


def _one_map(view: View, one: TaskMap, players: Players) -> dict[str, Any]:
    labels = sorted({point.label for point in one.points})
    index = {label: i for i, label in enumerate(labels)}
    points = [{"p": short_path(p.name), "l": index[p.label], "a": players.of(p.recording)} for p in one.points]
    panels = [
        {
            "name": name,
            "xy": [] if (places := one.places[e]) is None else places.reshape(-1).tolist(),
            "note": _scores_of(view, one.task, e) if one.places[e] is not None else "no embeddings of this task",
        }
        for e, name in enumerate(view.encoders)
    ]
    counts = [sum(point.label == label for point in one.points) for label in labels]
    facts = _map_facts(one, num_players=sum(point["a"] >= 0 for point in points), players=players)
    return {"task": one.task, "labels": labels, "counts": counts, "points": points, "panels": panels, "facts": facts}


def short_path(path: str) -> str:
    """Return the end of a path: enough to tell a clip, without the folders of the machine that made the report."""
    return "/".join(PurePath(path).parts[-2:])


def _scores_of(view: View, task: str, e: int) -> str:
    row = next((row for row in view.rows if row.name == task), None)
    scores = [] if row is None else [(name, row.scores[method][e]) for method, name in METHODS.items()]
    return ", ".join(f"{name} {score_text(score.value)}" for name, score in scores if score is not None)


def _map_facts(one: TaskMap, *, num_players: int, players: Players) -> str:
    shown = len(one.points)
    words = f"{_count(shown, 'clip')} shown"
    if shown < one.num_clips:
        words += f" of {one.num_clips:,} that were stored, drawn evenly over the labels"
    words += f"; {num_players:,} of {shown:,} have a player (filled marks)"
    words += f", the loudest {EXCERPT_S:g} seconds at most, at one level." if num_players else "."
    reasons = [
        (players.num_over_budget, "left silent to keep the page small"),
        (players.num_missing, "not found where the embeddings say"),
        (players.num_unreadable, "not readable as audio"),
    ]
    told = [f"{number:,} {reason}" for number, reason in reasons if number]
    return words + (f" Files without a player, over all tasks: {', '.join(told)}." if told else "")
