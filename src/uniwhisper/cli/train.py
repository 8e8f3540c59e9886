"""`uniwhisper train`: a recipe and clips become an encoder folder; the same command goes on where it stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from uniwhisper.cli import INTERRUPTED

if TYPE_CHECKING:
    from uniwhisper.model.uniwhisper import AudioModel
    from uniwhisper.train.config import TrainConfig
    from uniwhisper.train.world import World

__all__ = ["command"]


@click.command()
@click.argument("recipe")
@click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    help="Folder of shards; or a manifest or table, put into shards in OUT first. Repeatable.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="The run's folder.")
@click.option("--set", "assignments", multiple=True, metavar="FIELD=VALUE", help="Change one field; repeatable.")
@click.option("--seed", type=click.IntRange(min=0), help="Change the recipe's seed.")
@click.option("--device", help="Short for --set machine.device=...: auto, cpu, cuda, cuda:N.")
@click.option("--stop-after", type=click.IntRange(min=1), help="Save and stop after so many steps in all.")
@click.option("--evaluate-every", type=click.IntRange(min=1), metavar="STEPS", help="Judge by kNN while training.")
@click.option(
    "--evaluate-table",
    "tables",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A task to judge by, as `uniwhisper evaluate --table` takes it. Repeatable.",
)
@click.option(
    "--evaluate-corpora",
    "corpora",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of corpora, as `uniwhisper evaluate --corpora` takes it, for --evaluate-task.",
)
@click.option(
    "--evaluate-task", "tasks", multiple=True, metavar="TASK", help="A declared task to judge by. Repeatable."
)
@click.option("--wandb", default="", metavar="PROJECT", help="Send the figures to Weights & Biases too.")
@click.option("--profile", type=click.IntRange(min=1), metavar="STEPS", help="Trace so many steps to OUT/profile.")
@click.option("--dry-run", is_flag=True, help="Show configuration, mixture and estimates; fetch and train nothing.")
def command(
    recipe: str,
    data: tuple[Path, ...],
    out: Path | None,
    assignments: tuple[str, ...],
    seed: int | None,
    device: str | None,
    stop_after: int | None,
    evaluate_every: int | None,
    tables: tuple[Path, ...],
    corpora: Path | None,
    tasks: tuple[str, ...],
    wandb: str,
    profile: int | None,
    dry_run: bool,
) -> None:
    """Train an encoder by RECIPE: a name in uniwhisper.recipes, or your own as module.path:function.

    The encoder is written to OUT/encoder. Ctrl-C saves a checkpoint after the current step and exits with code 130,
    SIGTERM and `--stop-after` do so with code 0; the same command goes on from there, or does nothing where the run is
    finished. Several processes: `torchrun --nproc-per-node 8 -m uniwhisper train ...`.
    """
    if ":" in recipe:  # a console script does not see the modules of the folder that it is called from
        sys.path.insert(0, str(Path.cwd()))
    config = _config(recipe, assignments, seed, device, evaluate_every)
    if dry_run:
        from uniwhisper.cli._dry_run import show

        show(config, data)
        return
    if not data or out is None:
        raise click.UsageError("expected --data and --out (only --dry-run works without them)")
    evaluate = _monitor(config, tables, corpora, tasks)
    _train(config, data, out, stop_after, {"evaluate": evaluate, "wandb": wandb, "profile_steps": profile or 0})


def _config(
    recipe: str, assignments: Sequence[str], seed: int | None, device: str | None, evaluate_every: int | None
) -> TrainConfig:
    from uniwhisper.recipes import make_config
    from uniwhisper.train.config import override

    config = make_config(recipe)
    for assignment in assignments:
        config = override(config, assignment)
    if device is not None:
        config = override(config, f"machine.device={device}")
    if seed is not None:
        config = replace(config, seed=seed)
    return replace(config, evaluate_every=evaluate_every) if evaluate_every else config


def _monitor(
    config: TrainConfig, tables: Sequence[Path], corpora: Path | None, tasks: Sequence[str]
) -> Callable[[AudioModel, int], Mapping[str, float]] | None:
    """Return the callback that judges while training, or None where nothing of it is asked for."""
    from uniwhisper.evaluate.monitor import knn_monitor
    from uniwhisper.evaluate.wanted import from_corpora, from_tables

    if (corpora is None) != (not tasks):
        raise click.UsageError("--evaluate-corpora and --evaluate-task go together")
    if not tables and not tasks:
        if config.evaluate_every:
            raise click.UsageError("--evaluate-every: expected an --evaluate-table or --evaluate-task to judge by")
        return None
    if not config.evaluate_every:
        raise click.UsageError("expected --evaluate-every STEPS: how often to judge")
    wanted = from_tables(tables)
    if corpora is not None:
        found, absent = from_corpora(corpora, tasks, protocol="strict")
        if absent:
            raise click.UsageError(f"--evaluate-task: {absent[0].task} cannot be judged: {absent[0].placement}")
        wanted += found
    return knn_monitor(wanted, precision=config.precision)


def _train(
    config: TrainConfig, data: Sequence[Path], out: Path, stop_after: int | None, options: Mapping[str, Any]
) -> None:
    from uniwhisper.allocator import keep_freed_memory
    from uniwhisper.shards import open_shards
    from uniwhisper.train.loop import Interrupted, train
    from uniwhisper.train.world import explained, joined_world

    keep_freed_memory()
    main = True
    try:
        with joined_world(config.machine, orderly=(Interrupted,)) as world:
            main = world.is_main
            with explained(world):
                folders = _shard_folders(data, out, world)
            shards = open_shards(folders, split="train")
            encoder = train(config, shards, out, world=world, stop_after=stop_after, **options)
    except Interrupted as e:  # out here, because all ranks part from each other alike
        if main:
            click.echo(str(e), err=True)
        raise click.exceptions.Exit(INTERRUPTED if e.by_user else 0) from e
    if main:
        click.echo(encoder)


def _shard_folders(data: Sequence[Path], out: Path, world: World) -> list[Path]:
    """Return folders of shards: those that are some already, and one in the run's folder made of everything else.

    Raises:
        ManifestError: A path is neither shards nor clips.
        ShardError: The clips cannot be put into shards, or those in the run's folder are of other clips.
    """
    from uniwhisper.inputs import read_clips
    from uniwhisper.shards import write_shards

    folders = [path for path in data if (path / "shards.json").is_file()]
    rest = [path for path in data if path not in folders]
    if rest:
        made = out / "shards"
        if world.is_main:
            written = write_shards(read_clips(rest, "--data"), made)
            dropped = sum(tally.num_dropped for tally in written.sources.values())
            if dropped:
                click.echo(f"{dropped} clips left out: see {made / 'dropped.jsonl'}", err=True)
        world.barrier()
        folders.append(made)
    return folders
