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
from pathlib import Path
from typing import Any

from uniwhisper.errors import ReportError
from uniwhisper.files import write_text
from uniwhisper.report.players import MIME, make_players
from uniwhisper.report.projection import TaskMap, read_embeddings, task_maps
from uniwhisper.report.reading import read_view
from uniwhisper.report.sections import (
    failures,
    headline,
    map_data,
    map_section,
    radar_section,
    tiles,
    training_section,
)
from uniwhisper.report.tables import facts_table, score_table
from uniwhisper.report.training import read_training
from uniwhisper.report.view import View

__all__ = ["write_report"]


def write_report(
    out: Path, results: Sequence[Path], training: Path | None = None, embeddings: Sequence[Path] = ()
) -> Path:
    """Write the report on one or more encoders and return its path.

    Args:
        out: The HTML file to write.
        results: A `results.json` per encoder; the first is the baseline that the others are compared with.
        training: Folder whose `metrics.jsonl` gives the curves; one without that file is reported as such.
        embeddings: An npz per encoder, in the order of `results`, for the maps; none leaves the maps out.

    Raises:
        ReportError: Results or embeddings are missing, malformed, or do not belong together.
    """
    if not results:
        raise ReportError("expected at least one results.json, found none; run `uniwhisper evaluate` first")
    if embeddings and len(embeddings) != len(results):
        raise ReportError(
            f"expected one file of embeddings for each of {len(results)} results, in order; found {len(embeddings)}"
        )
    view = read_view(results)
    maps = task_maps([read_embeddings(file) for file in embeddings])
    players = make_players(_wanted(maps))
    curves_html, curves = training_section(read_training(training)) if training is not None else ("", [])
    data = {"curves": curves, "maps": map_data(view, maps, players), "audio": list(players.audio), "mime": MIME}
    sections = [
        _scores_section(view),
        radar_section(view),
        curves_html,
        map_section(view, maps) if maps else "",
    ]
    write_text(out, _page(view, sections, data))
    return out


def _wanted(maps: Sequence[TaskMap]) -> list[Path]:
    """Return the maps' audio files so that every prefix is spread over tasks and, within a task, over labels."""
    ranked = []
    for t, one in enumerate(maps):
        seen: dict[str, int] = {}
        for point in one.points:
            turn = seen[point.label] = seen.get(point.label, 0) + 1
            ranked.append((turn / sum(p.label == point.label for p in one.points), t, point.file))
    return [file for _, _, file in sorted(ranked)]


def _scores_section(view: View) -> str:
    return (
        '<section aria-labelledby="scores"><h2 id="scores">Scores</h2>'
        f'<p class="note">{escape(view.intervals)}</p>{score_table(view)}{_notes(view)}</section>'
    )


def _notes(view: View) -> str:
    items = "".join(f"<li>{escape(note)}</li>" for note in view.notes)
    return f'<h3>Notes on tasks</h3><ul class="notes note">{items}</ul>' if items else ""


def _page(view: View, sections: Sequence[str], data: dict[str, Any]) -> str:
    style, script = _asset("report.css"), _asset("report.js")
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
        f'<header><p class="kicker">UniWhisper encoder report</p><h1>{escape(title)}</h1>'
        f'<p class="headline">{escape(headline(view))}</p>{_navigation(shown)}</header>\n'
        f"<main>\n{failures(view)}\n{tiles(view)}\n" + "\n".join(shown) + "\n"
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
        "profile": "Profile",
        "training": "Training",
        "maps": "Maps",
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
