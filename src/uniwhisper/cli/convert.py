"""`uniwhisper convert`: a corpus or a table of one's own becomes a folder of clips with `manifest.jsonl`."""

from __future__ import annotations

from pathlib import Path

import click

from uniwhisper.engine import ENGINES, EngineKind

__all__ = ["command"]


@click.command()
@click.argument("name")
@click.argument("path", required=False, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
@click.option("--root", type=click.Path(path_type=Path), help="The same as PATH.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after so many clips.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes; 0 = one per CPU (default).")
@click.option("--engine", type=click.Choice(ENGINES), default="local", show_default=True, help="Where they run.")
@click.option("--dry-run", is_flag=True, help="Read the annotations alone: count rows, clips and drops; write nothing.")
def command(
    name: str,
    path: Path | None,
    out: Path | None,
    root: Path | None,
    limit: int | None,
    workers: int,
    engine: EngineKind,
    dry_run: bool,
) -> None:
    """Convert the corpus NAME (see `uniwhisper sources`) into a manifest of clips.

    PATH is the corpus's folder, or the file for the source `table`. Without it, a corpus that Debian packages is
    fetched. A finished folder is reused.
    """
    from uniwhisper.sources import convert_source

    if path is not None and root is not None:
        raise click.UsageError("Give the corpus once: as PATH or as --root PATH.")
    if dry_run:
        _show_dry_run(name, path or root)
        return
    if out is None:
        raise click.UsageError("Missing option '--out': the folder to write.")
    done = convert_source(name, out, path or root, limit=limit, workers=workers, engine=engine)
    dropped = f", {done.num_dropped} dropped (see {out / 'dropped.jsonl'})" if done.num_dropped else ""
    reused = " (was finished already)" if done.reused else ""
    click.echo(f"{name}: {done.num_clips} clips, {done.hours:.2f} hours{dropped}{reused}")
    click.echo(done.manifest)


def _show_dry_run(name: str, root: Path | None) -> None:
    from collections import Counter

    from uniwhisper.sources import dry_run

    if root is None:
        raise click.UsageError("A dry run reads a folder that is there: give PATH.")
    found = dry_run(name, root)
    for file, count in found.rows.items():
        click.echo(f"{root.name if file == '.' else file}: {count} rows")
    splits = Counter(clip.split for clip in found.clips)
    click.echo(f"{name}: {len(found.clips)} clips ({', '.join(f'{n} {split}' for split, n in sorted(splits.items()))})")
    for reason, count in Counter(item.reason.partition(":")[0] for item in found.dropped).most_common():
        click.echo(f"dropped: {count} x {reason}")
