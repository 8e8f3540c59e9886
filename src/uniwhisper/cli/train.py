"""`uniwhisper train`: a recipe and clips become an encoder folder; the same command goes on where it stopped."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from uniwhisper.cli import INTERRUPTED

if TYPE_CHECKING:
    from uniwhisper.train.config import TrainConfig
    from uniwhisper.types import Clip

__all__ = ["command"]


@click.command()
@click.argument("recipe")
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="manifest.jsonl, a folder that holds one, or a CSV table; repeat for several.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="The run's folder.")
@click.option("--set", "assignments", multiple=True, metavar="FIELD=VALUE", help="Change one field; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), help="Change the recipe's seed.")
@click.option("--stop-after", type=click.IntRange(min=1), help="Save and stop after so many steps in all.")
@click.option("--dry-run", is_flag=True, help="Show the configuration and the mixture; train nothing.")
def command(
    recipe: str,
    data: tuple[Path, ...],
    out: Path,
    assignments: tuple[str, ...],
    seed: int | None,
    stop_after: int | None,
    dry_run: bool,
) -> None:
    """Train an encoder by RECIPE: a name in uniwhisper.recipes, or your own as module.path:function.

    The encoder is written to OUT/encoder. Ctrl-C saves a checkpoint after the current step and exits with code 130;
    the same command goes on from there, or does nothing where the run is finished. `--stop-after` is the planned form
    of that and exits with code 0.
    """
    if ":" in recipe:  # a console script does not see the modules of the folder that it is called from
        sys.path.insert(0, str(Path.cwd()))
    from uniwhisper.recipes import make_config
    from uniwhisper.train.config import override

    config = make_config(recipe)
    for assignment in assignments:
        config = override(config, assignment)
    if seed is not None:
        config = replace(config, seed=seed)
    clips = _read_clips(data)
    if dry_run:
        _show(config, clips)
    else:
        _train(config, clips, out, stop_after)


def _train(config: TrainConfig, clips: Sequence[Clip], out: Path, stop_after: int | None) -> None:
    from uniwhisper.allocator import keep_freed_memory
    from uniwhisper.checkpoint import latest_checkpoint
    from uniwhisper.train.loop import Interrupted, train

    keep_freed_memory()
    try:
        encoder = train(config, clips, out, stop_after=stop_after)
    except Interrupted as e:
        click.echo(str(e), err=True)
        latest = latest_checkpoint(out / "checkpoints")
        planned = stop_after is not None and latest is not None and latest.name == f"step_{stop_after:07d}"
        raise click.exceptions.Exit(0 if planned else INTERRUPTED) from e
    click.echo(encoder)


def _read_clips(paths: Sequence[Path]) -> list[Clip]:
    """Return the clips of all manifests and tables, checked to be distinct.

    Raises:
        ManifestError: A path is neither, a file is invalid, or two of them hold the same clip.
    """
    from uniwhisper.errors import ManifestError
    from uniwhisper.manifest import check_unique, read_manifest
    from uniwhisper.sources.table import read_table

    clips: list[Clip] = []
    for path in paths:
        manifest = path / "manifest.jsonl" if path.is_dir() else path
        if manifest.suffix == ".csv":
            clips += read_table(manifest)
        elif manifest.suffix == ".jsonl":
            clips += read_manifest(manifest)
        else:
            raise ManifestError(
                f"--data: expected a manifest.jsonl, a folder that holds one, or a .csv table; found {path}. "
                "`uniwhisper convert` makes such a folder"
            )
    return list(check_unique(clips, "--data"))


def _show(config: TrainConfig, clips: Sequence[Clip]) -> None:
    """Print what a run would do; nothing is fetched, read or written but the manifests."""
    from uniwhisper.batches import BatchOrder
    from uniwhisper.manifest import statistics
    from uniwhisper.train.loop import group_by_source
    from uniwhisper.weights import describe

    sources = group_by_source(clips)
    durations = {name: [min(clip.duration_s, 30.0) for clip in group] for name, group in sources.items()}
    order = BatchOrder(durations, config=config.batches, seed=config.seed)
    click.echo(json.dumps(config.to_json(), indent=2))
    click.echo(f"configuration {config.hash[:8]}, {config.optim.steps} steps")
    for part, name in (("encoder", config.encoder), ("decoder", config.decoder)):
        folder = describe(name).folder
        click.echo(f"{part} {name}: {folder or 'would be fetched'}")
    tallies = statistics([clip for group in sources.values() for clip in group]).sources
    width = max(map(len, tallies))
    for name, tally in tallies.items():
        share = order.weights.get(name, 0.0)
        click.echo(
            f"{name:<{width}}  {tally.num_clips:>7} clips  {tally.hours:>8.2f} hours  {share:>6.1%} of the mixture"
        )
    per_batch = config.batches.window / order.batches_per_window
    total = per_batch * config.optim.steps * config.accumulation
    click.echo(f"about {per_batch:.1f} clips a batch, {total:.0f} in the whole run")
