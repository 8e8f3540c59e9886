"""A plain page in the report's style: headings, tables and players, no script at all.

Returns one self-contained HTML text; its security policy lets it load nothing and run nothing. Texts given to these
functions are escaped, except `body`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from html import escape
from importlib import resources

__all__ = ["alert", "audio_element", "facts_list", "plain_table", "sheet", "tiles"]

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; media-src data:"


def sheet(*, kicker: str, title: str, lead: str, body: str) -> str:
    """Return the page; all but `body`, which is HTML, is text."""
    assets = resources.files("uniwhisper.report") / "assets"
    style = "".join((assets / name).read_text(encoding="utf-8") for name in ("report.css", "sheet.css"))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f'<header><p class="kicker">{escape(kicker)}</p><h1>{escape(title)}</h1>'
        f'<p class="headline">{escape(lead)}</p></header>\n'
        f"<main>\n{body}\n</main>\n"
        "<footer><p>One self-contained page: it loads nothing from anywhere.</p></footer>\n</body>\n</html>\n"
    )


def alert(title: str, lines: Iterable[str]) -> str:
    """Return a box that is not to be overlooked."""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f'<div class="alert"><h2>{escape(title)}</h2><ul>{items}</ul></div>'


def audio_element(base64_audio: str, mime: str, label: str) -> str:
    """Return a player for audio that lives in the page."""
    source = f"data:{mime};base64,{base64_audio}"
    return f'<audio controls preload="metadata" aria-label="{escape(label, quote=True)}" src="{source}"></audio>'


def facts_list(facts: Mapping[str, str]) -> str:
    """Return name and value pairs, those without a value left out."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in facts.items() if value)
    return f'<dl class="facts">{items}</dl>'


def plain_table(header: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Collection[int] = ()) -> str:
    """Return a table of texts; the columns in `numbers`, counted from 0, are set to the right."""
    marks = [' class="number"' if column in numbers else "" for column in range(len(header))]

    def line(tag: str, cells: Sequence[str]) -> str:
        return "".join(f"<{tag}{mark}>{escape(cell)}</{tag}>" for cell, mark in zip(cells, marks, strict=True))

    body = "".join(f"<tr>{line('td', row)}</tr>" for row in rows)
    return f'<table class="plain"><thead><tr>{line("th", header)}</tr></thead><tbody>{body}</tbody></table>'


def tiles(facts: Mapping[str, tuple[str, str]]) -> str:
    """Return boxes with a name, a large value and a remark each."""
    items = "".join(
        f'<div class="tile"><dt>{escape(name)}</dt><dd class="big">{escape(value)}</dd>'
        f'<dd class="small">{escape(remark)}</dd></div>'
        for name, (value, remark) in facts.items()
    )
    return f'<dl class="tiles">{items}</dl>'
