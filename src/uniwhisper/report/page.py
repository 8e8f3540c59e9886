"""The report: results, training metrics and embeddings become one HTML page that needs nothing else.

Reads one or more `results.json`, optionally a training folder and one npz of embeddings per encoder. Writes a single
file with its style, script, drawings and sounds inside. Guarantees: the page fetches nothing (its own security policy
forbids it), runs no script but its own, and shows every text as text whatever characters labels and names hold.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from itertools import zip_longest
from pathlib import Path
from typing import Any

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.neighbours import Errors, Recording, read_errors
from uniwhisper.evaluate.published import published_scores
from uniwhisper.files import write_text
from uniwhisper.report.detail_sections import (
    class_section,
    confusion_data,
    confusion_section,
    error_data,
    error_recordings,
    error_section,
    transcript_section,
)
from uniwhisper.report.details import read_details
from uniwhisper.report.paper_files import write_paper_files
from uniwhisper.report.paper_tables import Published, table3, table4
from uniwhisper.report.paper_text import to_csv, to_html, to_latex, to_markdown
from uniwhisper.report.players import MIME, make_players
from uniwhisper.report.projection import TaskMap, read_embeddings, task_maps
from uniwhisper.report.reading import make_view, read_all
from uniwhisper.report.sections import (
    absences,
    delta_section,
    failures,
    headline,
    map_data,
    map_section,
    overlap_section,
    radar_section,
    tiles,
    training_section,
)
from uniwhisper.report.tables import facts_table, score_table
from uniwhisper.report.training import read_training
from uniwhisper.report.view import View

__all__ = ["PUBLISHED", "write_report"]

PUBLISHED = ("whisper-large-v3", "uniwhisper")
"""Published models that stand beside ours unless others are asked for."""


def write_report(
    out: Path,
    results: Sequence[Path],
    training: Path | None = None,
    embeddings: Sequence[Path] = (),
    *,
    tables: Path | None = None,
    published: Sequence[str] = PUBLISHED,
) -> Path:
    """Write the report on one or more encoders and return its path.

    Args:
        out: The HTML file to write.
        results: A `results.json`, or its folder, per encoder; the first is the baseline that the others are compared
            with. The misjudged clips that lie beside it are shown.
        training: Folder whose `metrics.jsonl` gives the curves; one without that file is reported as such.
        embeddings: An npz per encoder, in the order of `results`, for the maps; none leaves the maps out.
        tables: Folder for the paper's tables and figures as files (paper_files.py); none are written without it.
        published: Models of the paper's Table 3 to set beside ours, where a task is one of the paper's.

    Raises:
        ReportError: Results, predictions or embeddings are missing, malformed, or do not belong together.
    """
    if not results:
        raise ReportError("expected at least one results.json, found none; run `uniwhisper evaluate` first")
    if embeddings and len(embeddings) != len(results):
        raise ReportError(
            f"expected one file of embeddings for each of {len(results)} results, in order; found {len(embeddings)}"
        )
    found = read_all(results)
    view = make_view(found)
    beside = _published(view, published)
    details = read_details(found, [row.name for row in view.rows])
    errors = [read_errors(one.folder) for one in found]
    maps = task_maps([read_embeddings(file) for file in embeddings])
    players = make_players(_wanted(maps, errors))
    curves_html, curves = training_section(read_training(training)) if training is not None else ("", [])
    data = {
        "curves": curves,
        "maps": map_data(view, maps, players),
        "confusions": confusion_data(view, details),
        "errors": error_data(view, errors, players),
        "audio": list(players.audio),
        "mime": MIME,
    }
    sections = [
        _scores_section(view),
        delta_section(view),
        radar_section(view),
        _paper_section(view, beside),
        overlap_section(view),
        confusion_section(details),
        class_section(view, details),
        transcript_section(view, details),
        error_section(errors),
        map_section(view, maps) if maps else "",
        curves_html,
    ]
    write_text(out, _page(view, sections, data))
    if tables is not None:
        write_paper_files(tables, view, beside)
    return out


def _published(view: View, names: Sequence[str]) -> Published:
    """Return the named published models' scores on those of our tasks that are the paper's.

    A table of the user's that bears a task's name may be a part of its corpus, so it has no published score beside it.
    """
    every = published_scores()
    unknown = [name for name in names if name not in every]
    if unknown:
        raise ReportError(f"expected published models out of {', '.join(every)}; found {', '.join(unknown)}")
    tasks = {row.name for row in view.rows if row.weights.get("probe") is not None}
    found = {name: {task: scores for task, scores in every[name].items() if task in tasks} for name in names}
    return {name: scores for name, scores in found.items() if scores}


def _wanted(maps: Sequence[TaskMap], errors: Sequence[Sequence[Errors]]) -> list[Recording]:
    """Return the recordings to play, those of maps and of errors by turns, so that both have their share."""
    return [one for pair in zip_longest(_on_maps(maps), error_recordings(errors)) for one in pair if one is not None]


def _on_maps(maps: Sequence[TaskMap]) -> list[Recording]:
    """Return the maps' recordings so that every prefix is spread over tasks and, within a task, over labels."""
    ranked = []
    for t, one in enumerate(maps):
        seen: dict[str, int] = {}
        for i, point in enumerate(one.points):
            turn = seen[point.label] = seen.get(point.label, 0) + 1
            ranked.append((turn / sum(p.label == point.label for p in one.points), t, i, point.recording))
    return [recording for _, _, _, recording in sorted(ranked, key=lambda one: one[:3])]


def _paper_section(view: View, published: Published) -> str:
    third, fourth = table3(view, published), table4(view)
    texts = (
        ("Table 3 as Markdown", to_markdown(third)),
        ("Table 3 as LaTeX", to_latex(third)),
        ("Table 3 as CSV", to_csv(third)),
        ("Table 4 as Markdown", to_markdown(fourth)),
        ("Table 4 as LaTeX", to_latex(fourth)),
        ("Table 4 as CSV", to_csv(fourth)),
    )
    copies = "".join(
        f'<details><summary>{name}</summary><pre tabindex="0">{escape(text)}</pre></details>' for name, text in texts
    )
    beside = " beside the published scores" if published else ""
    return (
        f'<section aria-labelledby="paper"><h2 id="paper">The paper\u2019s tables</h2><p>Table 3{beside}, and Table 4 '
        f"as intervals, in per cent.</p><h3>Table 3: scores</h3>{to_html(third, label='Table 3')}"
        f"<details><summary>Table 4: the same scores with their intervals</summary>{to_html(fourth, label='Table 4')}"
        f"</details>{copies}</section>"
    )


def _scores_section(view: View) -> str:
    words = view.intervals + (f" {_PAIRED}" if len(view.encoders) > 1 else "")
    return (
        '<section aria-labelledby="scores"><h2 id="scores">Scores</h2>'
        f'<p class="note">{escape(words)}</p>{score_table(view)}{_notes(view)}</section>'
    )


_PAIRED = (
    "Differences are paired: both encoders are resampled with the same draws. The colour of a difference says whether "
    "its interval lies above zero, below zero, or holds it."
)


def _notes(view: View) -> str:
    coverage = f'<p class="note">{escape(view.coverage)}</p>' if view.coverage else ""
    items = "".join(f"<li>{escape(note)}</li>" for note in view.notes)
    return coverage + (f'<h3>Notes on tasks</h3><ul class="notes note">{items}</ul>' if items else "")


def _page(view: View, sections: Sequence[str], data: dict[str, Any]) -> str:
    style, script = _asset("report.css"), _asset("report.js") + _asset("explore.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; media-src data:; img-src data:"
    )
    title = " \u2192 ".join(view.encoders)
    shown = [section for section in sections if section]
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}: encoder report</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        '<a class="skip" href="#scores">Skip to the scores</a>\n'
        f'<header><p class="kicker">UniWhisper encoder report, protocol {escape(view.protocol)}</p>'
        f"<h1>{escape(title)}</h1>"
        f'<p class="headline">{escape(headline(view))}</p>{_navigation(shown)}</header>\n'
        f"<main>\n{failures(view)}\n{tiles(view)}\n{absences(view)}\n" + "\n".join(shown) + "\n"
        f'<section aria-labelledby="provenance"><h2 id="provenance">Provenance</h2>{facts_table(view)}</section>\n'
        "</main>\n"
        "<footer><p>One self-contained page: it loads nothing from anywhere.</p></footer>\n"
        '<div class="tip" id="tip" role="status" hidden></div>\n'
        f'<script type="application/json" id="report-data">{_json(data)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _navigation(sections: Sequence[str]) -> str:
    names = {
        "scores": "Scores",
        "deltas": "Differences",
        "profile": "Profile",
        "paper": "Paper\u2019s tables",
        "overlaps": "Training data",
        "confusions": "Confusions",
        "classes": "Classes",
        "transcripts": "Transcripts",
        "errors": "Errors",
        "maps": "Maps",
        "training": "Training",
        "provenance": "Provenance",
    }
    there = "".join(sections) + 'id="provenance"'
    links = "".join(f'<li><a href="#{id}">{name}</a></li>' for id, name in names.items() if f'id="{id}"' in there)
    return f'<nav aria-label="Sections"><ul>{links}</ul></nav>'


def _asset(name: str) -> str:
    return (resources.files("uniwhisper.report") / "assets" / name).read_text(encoding="utf-8")


def _json(value: Any) -> str:
    """Return JSON that cannot end the script element it stands in, whatever its texts hold."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
