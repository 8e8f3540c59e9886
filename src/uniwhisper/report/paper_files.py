"""The paper's tables and figures as files, to paste into a README, a paper or a spreadsheet.

Reads a view and published scores; writes `table3` as .md, .csv, .tex and .html, `table4` as .md, .csv and .tex, and
`figure1` and `deltas` as .svg and .png, the figures where there are enough tasks and encoders for them. Guarantees:
every file is whole or the one before, and equal views write equal files.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from uniwhisper.files import write_text
from uniwhisper.report.paper_tables import PaperTable, Published, table3, table4
from uniwhisper.report.paper_text import to_csv, to_html, to_latex, to_markdown
from uniwhisper.report.plates import write_figures
from uniwhisper.report.view import View

__all__ = ["write_paper_files"]


def write_paper_files(folder: Path, view: View, published: Published) -> list[Path]:
    """Write all tables and figures into `folder`, which is made where it is not there, and return their paths."""
    third, fourth = table3(view, published), table4(view)
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "table3.md": to_markdown(third),
        "table3.csv": to_csv(third),
        "table3.tex": to_latex(third),
        "table3.html": _page(third),
        "table4.md": to_markdown(fourth),
        "table4.csv": to_csv(fourth),
        "table4.tex": to_latex(fourth),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return [*(folder / name for name in texts), *write_figures(folder, view, published)]


def _page(table: PaperTable) -> str:
    """Return the table as a page of its own."""
    style = (resources.files("uniwhisper.report") / "assets" / "report.css").read_text(encoding="utf-8")
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>Table 3</title>\n<style>\n{style}</style>\n</head>\n<body>\n"
        f"<main><section>{to_html(table, label='Table 3')}</section></main>\n</body>\n</html>\n"
    )
