"""`uniwhisper preview`: a page with players that shows what a corpus becomes: its clips, prompts and answers."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("source")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="HTML file; default: preview-SOURCE.html.")
@click.option("--clips", "num_clips", type=click.IntRange(1, 200), default=12, show_default=True, help="Clips to show.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Picks clips and wordings.")
def command(source: str, path: Path, out: Path | None, num_clips: int, seed: int) -> None:
    """Show clips of the corpus SOURCE in the folder (or file) PATH: sound, annotation, prompt and answer."""
    from uniwhisper.report.preview import write_preview

    shown = write_preview(out or Path(f"preview-{source}.html"), source, path, num_clips=num_clips, seed=seed)
    dropped = f", {shown.num_dropped} left out by the source" if shown.num_dropped else ""
    click.echo(f"{source}: {shown.num_shown} of {shown.num_clips} clips{dropped}")
    click.echo(shown.page)
