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

__all__ = ["command"]


@click.command()
@click.argument("recipe")
@click.option(
    "--data",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of shards; or a manifest or table, put into shards in OUT first. Repeatable.",
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
    if dry_run:
        _show(config, data)
    else:
        _train(config, data, out, stop_after)


def _train(config: TrainConfig, data: Sequence[Path], out: Path, stop_after: int | None) -> None:
    from uniwhisper.allocator import keep_freed_memory
    from uniwhisper.checkpoint import latest_checkpoint
    from uniwhisper.shards import open_shards
    from uniwhisper.train.loop import Interrupted, train

    keep_freed_memory()
    shards = open_shards(_shard_folders(data, out), split="train")
    try:
        encoder = train(config, shards, out, stop_after=stop_after)
    except Interrupted as e:
        click.echo(str(e), err=True)
        latest = latest_checkpoint(out / "checkpoints")
        planned = stop_after is not None and latest is not None and latest.name == f"step_{stop_after:07d}"
        raise click.exceptions.Exit(0 if planned else INTERRUPTED) from e
    click.echo(encoder)


def _shard_folders(data: Sequence[Path], out: Path) -> list[Path]:
    """Return folders of shards: those that are some already, and one in the run's folder made of everything else.

    Raises:
        ManifestError: A path is neither shards nor clips.
        ShardError: The clips cannot be put into shards, or those in the run's folder are of other clips.
    """
    from uniwhisper.inputs import read_clips
    from uniwhisper.shards import write_shards

    folders = [path for path in data if _is_shards(path)]
    rest = [path for path in data if not _is_shards(path)]
    if rest:
        made = write_shards(read_clips(rest, "--data"), out / "shards")
        dropped = sum(tally.num_dropped for tally in made.sources.values())
        if dropped:
            click.echo(f"{dropped} clips left out: see {made.folder / 'dropped.jsonl'}", err=True)
        folders.append(made.folder)
    return folders


def _is_shards(path: Path) -> bool:
    return (path / "shards.json").is_file()


def _show(config: TrainConfig, data: Sequence[Path]) -> None:
    """Print what a run would do; nothing is fetched or written, and of audio only headers are read."""
    from uniwhisper.batches import BatchOrder
    from uniwhisper.cutting import Uncuttable, cut
    from uniwhisper.inputs import read_clips
    from uniwhisper.shards import open_shards
    from uniwhisper.train.data import training_data
    from uniwhisper.weights import describe

    folders = [path for path in data if _is_shards(path)]
    rest = [path for path in data if not _is_shards(path)]
    durations = dict(training_data(open_shards(folders, split="train")).durations) if folders else {}
    if rest:
        cuts = [cut(clip) for clip in read_clips(rest, "--data")]
        durations |= training_data(
            [piece for pieces in cuts if not isinstance(pieces, Uncuttable) for piece in pieces]
        ).durations
    order = BatchOrder(durations, config=config.batches, seed=config.seed)
    num_batches = config.optim.steps * config.accumulation
    click.echo(json.dumps(config.to_json(), indent=2))
    click.echo(f"configuration {config.hash[:8]}, {config.optim.steps} steps")
    for part, name in (("encoder", config.encoder), ("decoder", config.decoder)):
        folder = describe(name).folder
        click.echo(f"{part} {name}: {folder or 'would be fetched'}")
    epochs, width = order.epochs(num_batches), max(map(len, durations))
    for name, seconds in sorted(durations.items()):
        share = order.weights.get(name, 0.0)
        click.echo(
            f"{name:<{width}}  {len(seconds):>9} clips  {float(seconds.sum()) / 3600:>10.2f} hours  "
            f"{share:>6.1%} of the mixture  {epochs.get(name, 0.0):>7.2f} epochs"
        )
    total = sum(order.drawn(num_batches).values())
    click.echo(f"about {total / num_batches:.1f} clips a batch, {total} in the whole run")
