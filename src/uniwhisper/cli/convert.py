"""`uniwhisper convert`: a corpus or a table of one's own becomes a folder of clips with `manifest.jsonl`."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("name")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
@click.option("--root", type=click.Path(path_type=Path), help="The same as PATH.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many clips.")
def command(name: str, path: Path | None, out: Path, root: Path | None, limit: int | None) -> None:
    """Convert the corpus NAME (see `uniwhisper sources`) into clips ready for training.

    PATH is the corpus's folder, or the CSV file for the source `table`. Without it, a corpus that Debian packages is
    fetched. A finished folder is reused.
    """
    from uniwhisper.sources import convert_source

    if path is not None and root is not None:
        raise click.UsageError("Give the corpus once: as PATH or as --root PATH.")
    done = convert_source(name, out, path or root, limit=limit)
    dropped = f", {done.num_dropped} dropped (see {out / 'dropped.jsonl'})" if done.num_dropped else ""
    reused = " (was finished already)" if done.reused else ""
    click.echo(f"{name}: {done.num_clips} clips, {done.hours:.2f} hours{dropped}{reused}")
    click.echo(done.manifest)
