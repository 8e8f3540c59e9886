"""`uniwhisper report`: results of one or more encoders become one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The HTML file to write.")
@click.option("--training", type=click.Path(path_type=Path, file_okay=False), help="Run folder, for training curves.")
@click.option(
    "--embeddings",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An npz for each of RESULTS, in order; by default the embeddings.npz beside each.",
)
@click.option(
    "--tables",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the paper's Tables 3 and 4 (Markdown, CSV, LaTeX, HTML) and figures (SVG, PNG).",
)
@click.option(
    "--published",
    multiple=True,
    help="Model of the paper's Table 3 to set beside ours; repeat for more, `none` for no one.",
)
def command(
    results: tuple[Path, ...],
    out: Path,
    training: Path | None,
    embeddings: tuple[Path, ...],
    tables: Path | None,
    published: tuple[str, ...],
) -> None:
    """Draw RESULTS (results.json files or their folders) as one HTML page.

    The first is the baseline that the others are compared with. All must be of one protocol.
    """
    from uniwhisper.report.page import PUBLISHED, write_report

    models = PUBLISHED if not published else tuple(name for name in published if name != "none")
    maps = embeddings or _beside(results)
    click.echo(write_report(out, results, training, maps, tables=tables, published=models))
    if tables is not None:
        click.echo(tables)


def _beside(results: tuple[Path, ...]) -> tuple[Path, ...]:
    """Return the embeddings beside each results file; none, with a word about it, where one of them has none."""
    from uniwhisper.evaluate.maps import FILE_NAME

    found = tuple((path if path.is_dir() else path.parent) / FILE_NAME for path in results)
    missing = [str(path) for path in found if not path.is_file()]
    if missing:
        click.echo(f"no maps: expected embeddings at {', '.join(missing)}, found none", err=True)
        return ()
    return found
