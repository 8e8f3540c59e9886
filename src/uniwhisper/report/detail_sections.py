"""The page's sections on what lies behind the scores: confusions, classes, transcripts, misjudged clips.

Reads details and kept errors; returns markup and the data that the page's script needs. Escapes every text.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby
from typing import Any

from uniwhisper.evaluate.neighbours import Errors, Recording, WrongClip
from uniwhisper.report.details import ClassScores, Confusion, Details, Pair, Piece, Transcripts
from uniwhisper.report.players import Players
from uniwhisper.report.sections import short_path
from uniwhisper.report.tables import score_text
from uniwhisper.report.view import METHODS, View

__all__ = [
    "class_section",
    "confusion_data",
    "confusion_section",
    "error_data",
    "error_recordings",
    "error_section",
    "transcript_section",
]

_NEEDS_JS = "<noscript><p>This part needs JavaScript.</p></noscript>"


def _titles(view: View) -> dict[str, str]:
    return {row.name: row.title for row in view.rows}


def _controls(name: str, views: str) -> str:
    return (
        f'<div class="controls"><label for="{name}-task">Task</label><select id="{name}-task"></select>'
        f'<label for="{name}-view">{views}</label><select id="{name}-view"></select></div>'
    )


def confusion_section(details: Details) -> str:
    """Return the frame of the confusion matrices; the script fills it. Nothing where no task has one class a clip."""
    if not details.confusions:
        return ""
    empty = "Point at a cell, or press it, to read it."
    return (
        '<section aria-labelledby="confusions"><h2 id="confusions">What is taken for what</h2>'
        "<p>A row is what a clip is, a column what it was taken for; the stronger the colour, the larger the share of "
        "the row. Blue is right, orange is a mistake.</p>"
        f"{_NEEDS_JS}<div data-needs-js hidden>{_controls('confusion', 'Encoder')}"
        '<div class="scroller matrix" id="confusion-matrix" role="region" aria-label="Confusion matrix" tabindex="0">'
        f'</div><p class="cell"><output id="confusion-cell" data-empty="{empty}">{empty}</output></p>'
        '<div class="scroller" role="region" aria-label="Most frequent mistakes" tabindex="0"><table class="pairs">'
        "<caption><span>The most frequent mistakes.</span></caption>"
        '<thead><tr><th scope="col">Is</th><th scope="col">Taken for</th><th scope="col" class="number">Times</th>'
        '<th scope="col" class="number">Share</th></tr></thead><tbody id="confusion-pairs"></tbody></table></div>'
        '<p class="note" id="confusion-facts"></p></div></section>'
    )


def confusion_data(view: View, details: Details) -> list[dict[str, Any]]:
    """Return what the script needs to draw the matrices: one entry a task, its views by encoder and method."""
    titles = _titles(view)
    return [
        {"title": titles[task], "classes": list(rows[0].classes), "views": [_confusion(view, one) for one in rows]}
        for task, group in groupby(details.confusions, key=lambda one: one.task)
        if (rows := list(group))
    ]


def _confusion(view: View, one: Confusion) -> dict[str, Any]:
    def flat(pair: Pair) -> list[int]:
        return [pair.truth, pair.guess, pair.count]

    return {
        "name": f"{view.encoders[one.encoder]}, {METHODS[one.method]}",
        "totals": list(one.totals),
        "cells": [number for pair in one.cells for number in flat(pair)],
        "pairs": [flat(pair) for pair in one.pairs],
        "seeds": one.num_seeds,
    }


def class_section(view: View, details: Details) -> str:
    """Return every class's score on the tasks with several classes at a time, folded; nothing without such tasks."""
    if not details.class_scores:
        return ""
    tables = "".join(_class_table(view, one) for one in details.class_scores)
    return (
        '<section aria-labelledby="classes"><h2 id="classes">Class by class</h2>'
        "<p>Tasks in which a clip may have several classes have no confusion matrix; these are the probe's scores of "
        f"each class, averaged over seeds.</p>{tables}</section>"
    )


def _class_table(view: View, one: ClassScores) -> str:
    heads = "".join(f'<th scope="col" class="number">{escape(name)}</th>' for name in view.encoders)
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>{"".join(_class_cell(row, c) for row in one.values)}</tr>'
        for c, name in enumerate(one.classes)
    )
    title = _titles(view)[one.task]
    label = f"{title}: {one.metric} of {len(one.classes)} classes"
    return (
        f'<details><summary>{escape(label)}</summary><div class="scroller tall" role="region" tabindex="0" '
        f'aria-label="{escape(label)}"><table class="pairs"><thead><tr><th scope="col">Class</th>{heads}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _class_cell(row: tuple[float | None, ...] | None, c: int) -> str:
    value = None if row is None else row[c]
    if value is None:
        return '<td class="number"><span class="note" title="no clip of it in the test part">\u2013</span></td>'
    meter = f'<span class="meter"><span style="width:{100 * min(max(value, 0), 1):.0f}%"></span></span>'
    return f'<td class="number">{score_text(value)}{meter}</td>'


def transcript_section(view: View, details: Details) -> str:
    """Return the worst transcripts, word by word, folded by encoder; nothing without a task of transcripts."""
    if not details.transcripts:
        return ""
    blocks = "".join(_transcript_block(view, one) for one in details.transcripts)
    return (
        '<section aria-labelledby="transcripts"><h2 id="transcripts">Transcripts</h2>'
        "<p>The transcripts with the most word errors of the first seed: <del>what was said</del> and "
        f"<ins>what was heard instead</ins>.</p>{blocks}</section>"
    )


def _transcript_block(view: View, one: Transcripts) -> str:
    items = "".join(
        f'<li><p class="said">{"".join(_piece(piece) for piece in utterance.pieces)}</p>'
        f'<p class="note">{utterance.num_errors} errors in {utterance.num_words} words, {escape(utterance.id)}</p></li>'
        for utterance in one.utterances
    )
    head = (
        f"{_titles(view)[one.task]}, {view.encoders[one.encoder]}: {one.num_wrong:,} of {one.num_clips:,} transcripts "
        f"have an error, words compared after \u201c{one.normaliser}\u201d"
    )
    return f'<details><summary>{escape(head)}</summary><ol class="transcripts">{items}</ol></details>'


def _piece(piece: Piece) -> str:
    if piece.same:
        return f"{escape(piece.said)} "
    said = f"<del>{escape(piece.said)}</del> " if piece.said else ""
    heard = f"<ins>{escape(piece.heard)}</ins> " if piece.heard else ""
    return said + heard


def error_section(errors: Sequence[Sequence[Errors]]) -> str:
    """Return the frame of the browser of misjudged clips; the script fills it. Nothing where none were kept."""
    if not any(errors):
        return ""
    return (
        '<section aria-labelledby="errors"><h2 id="errors">What the kNN got wrong</h2>'
        "<p>Test clips that were voted into a wrong class, beside the clips of the training part that lie nearest to "
        "them in the embedding (similarity at the right). Are they alike to your ears?</p>"
        f"{_NEEDS_JS}<div data-needs-js hidden>{_controls('error', 'Encoder')}"
        '<p class="note" id="error-facts"></p><div class="cards" id="error-list"></div>'
        '<p><button type="button" class="more" id="error-more" hidden>Show more</button></p></div></section>'
    )


def error_recordings(errors: Sequence[Sequence[Errors]]) -> list[Recording]:
    """Return the recordings that the browser would play: every task's first error before any task's second."""
    ranked = []
    for e, tasks in enumerate(errors):
        for t, one in enumerate(tasks):
            for turn, wrong in enumerate(one.errors):
                sounds = [wrong.recording, *(near.recording for near in wrong.neighbours)]
                ranked.append(((turn, t, e), sounds))
    return [sound for _, sounds in sorted(ranked, key=lambda one: one[0]) for sound in sounds]


def error_data(view: View, errors: Sequence[Sequence[Errors]], players: Players) -> list[dict[str, Any]]:
    """Return what the script needs to show the errors: one entry a task, its views by encoder."""
    by_task = {
        row.name: [(e, one) for e, tasks in enumerate(errors) for one in tasks if one.task == row.name]
        for row in view.rows
    }
    return [
        {
            "title": _titles(view)[task],
            "views": [
                {
                    "name": view.encoders[e],
                    "wrong": one.num_wrong,
                    "clips": one.num_clips,
                    "items": [_error(wrong, players) for wrong in one.errors],
                }
                for e, one in rows
            ],
        }
        for task, rows in by_task.items()
        if rows
    ]


def _error(wrong: WrongClip, players: Players) -> dict[str, Any]:
    return {
        "w": short_path(wrong.id),
        "t": _joined(wrong.labels),
        "g": wrong.guess,
        "a": players.of(wrong.recording),
        "n": [
            [short_path(near.id), _joined(near.labels), round(near.similarity, 3), players.of(near.recording)]
            for near in wrong.neighbours
        ],
    }


def _joined(labels: Sequence[str]) -> str:
    return ", ".join(labels) or "no label"
