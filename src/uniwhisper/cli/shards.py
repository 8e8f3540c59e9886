"""`uniwhisper shards`: clips of one or more manifests go into shards for training; or a set of shards is verified."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from uniwhisper.engine import EngineKind
    from uniwhisper.shards import Sharding

__all__ = ["command"]


@click.command()
@click.argument("manifests", nargs=-1, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Folder to write.")
@click.option("--verify", "checked", type=click.Path(path_type=Path, file_okay=False), help="Read a set and check it.")
@click.option("--workers", default=0, type=click.IntRange(min=0), help="Processes; 0 takes one per CPU.")
@click.option("--engine", default="local", type=click.Choice(["local", "ray"]), show_default=True)
@click.option("--shard-mb", default=768.0, type=click.FloatRange(min=0, min_open=True), show_default=True)
@click.option(
    "--tolerance",
    default=0.01,
    type=click.FloatRange(min=0, max=1),
    show_default=True,
    help="Share of a source's clips that may be dropped.",
)
@click.option("--rebuild", is_flag=True, help="Replace a set of other clips; shards that stay the same are kept.")
def command(
    manifests: tuple[Path, ...],
    out: Path | None,
    checked: Path | None,
    workers: int,
    engine: EngineKind,
    shard_mb: float,
    tolerance: float,
    rebuild: bool,
) -> None:
    """Put the clips of MANIFESTS into shards.

    A manifest is a `manifest.jsonl`, or a folder that has one, such as `uniwhisper convert` writes. Clips longer than
    30 s are cut. A stopped run continues when it is started again; a finished folder is reused. `--verify DIR` reads a
    finished set instead and names what is damaged.
    """
    if checked is not None and out is None and not manifests:
        _verify(checked, workers, engine)
        return
    if checked is not None or out is None or not manifests:
        raise click.UsageError("Give manifests and --out DIR, or --verify DIR alone.")
    from uniwhisper.dedup.leakage import search_key
    from uniwhisper.shards import read_manifests, write_shards

    keys = [search_key(path) for path in manifests]
    done = write_shards(
        read_manifests(manifests),
        out,
        shard_mb=shard_mb,
        tolerance=tolerance,
        workers=workers,
        engine=engine,
        rebuild=rebuild,
        searches=keys if all(keys) else (),
    )
    _show(done)


def _show(done: Sharding) -> None:
    """Print what the set holds of each source, and in all."""
    rows = [
        (name, str(tally.num_clips), f"{tally.hours:.2f}", f"{tally.num_bytes / 1e6:.1f}", str(tally.num_dropped))
        for name, tally in done.sources.items()
    ]
    tallies = done.sources.values()
    total = (
        "all",
        str(sum(tally.num_clips for tally in tallies)),
        f"{sum(tally.hours for tally in tallies):.2f}",
        f"{sum(tally.num_bytes for tally in tallies) / 1e6:.1f}",
        str(sum(tally.num_dropped for tally in tallies)),
    )
    table = [("source", "clips", "hours", "MB", "dropped"), *rows, total]
    widths = [max(len(row[column]) for row in table) for column in range(len(total))]
    for row in table:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        click.echo("  ".join(cells))
    if int(total[-1]):
        click.echo(f"What was dropped and why: {done.folder / 'dropped.jsonl'}")
    click.echo(f"{done.num_shards} shards in {done.folder}{' (was finished already)' if done.reused else ''}")


def _verify(folder: Path, workers: int, engine: EngineKind) -> None:
    from uniwhisper.errors import ShardError
    from uniwhisper.shards import open_shards, verify_shards

    damages = verify_shards(folder, workers=workers, engine=engine)
    for damage in damages:
        click.echo(f"{damage.shard}: {f'clip {damage.clip_id!r}: ' if damage.clip_id else ''}{damage.reason}")
    if damages:
        shards = {damage.shard for damage in damages}
        raise ShardError(f"expected {folder} as it was written, found damage in {len(shards)} shards: fetch them again")
    click.echo(f"{open_shards(folder).num_clips} clips are as they were written.")
