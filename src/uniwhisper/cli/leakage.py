"""`uniwhisper leakage`: evaluation clips among training clips, found by identifier, hash and sound, and taken out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from uniwhisper.engine import ENGINES, EngineKind

if TYPE_CHECKING:
    from uniwhisper.dedup.leakage import Leakage

__all__ = ["command"]

STAGES = ("identifier", "hash", "fingerprint")
_PATH = click.Path(path_type=Path, exists=True)


@click.command()
@click.argument("train", type=_PATH)
@click.argument("evaluation", metavar="[EVAL]", type=_PATH, required=False)
@click.option("--train", "more_train", multiple=True, type=_PATH, help="Further training data; repeatable.")
@click.option("--eval", "more_eval", multiple=True, type=_PATH, help="Further evaluation data; repeatable.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path("leakage"), show_default=True)
@click.option("--stage", "stages", multiple=True, type=click.Choice(STAGES), help="Run only these; repeatable.")
@click.option("--blacklist", multiple=True, type=_PATH, help="CSV or WavCaps JSON of identifiers; repeatable.")
@click.option("--shipped-blacklists", is_flag=True, help="Also use those in the package: esc50, urbansound8k.")
@click.option("--tolerance", type=click.FloatRange(0, 1), default=0.01, show_default=True, help="Unreadable share.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes; 0 = one per CPU (default).")
@click.option("--engine", type=click.Choice(ENGINES), default="local", show_default=True, help="Where they run.")
@click.option("--strict", is_flag=True, help="End with exit code 1 where there is any leakage.")
def command(
    train: Path,
    evaluation: Path | None,
    more_train: tuple[Path, ...],
    more_eval: tuple[Path, ...],
    out: Path,
    stages: tuple[str, ...],
    blacklist: tuple[Path, ...],
    shipped_blacklists: bool,
    tolerance: float,
    workers: int,
    engine: EngineKind,
    strict: bool,
) -> None:
    """Find clips of EVAL among those of TRAIN, and write what is left of TRAIN.

    Both are a manifest.jsonl, a folder that holds one, or a table of labelled files. OUT gets manifest.jsonl (the clips
    that are left), one .jsonl per stage with every pair found, summary.json, and leakage.html with players side by
    side. Give all splits of an evaluation corpus: what a probe is trained on is evaluation data too. A search that was
    stopped goes on when it is started again.
    """
    from uniwhisper.dedup.identifying import read_blacklist
    from uniwhisper.dedup.identifying import shipped_blacklists as shipped
    from uniwhisper.dedup.leakage import LeakageConfig, find_leakage
    from uniwhisper.dedup.twins import STAGES as ALL
    from uniwhisper.inputs import read_clips
    from uniwhisper.report.leakage import write_leakage

    eval_paths = [*([evaluation] if evaluation else []), *more_eval]
    if not (eval_paths or blacklist or shipped_blacklists):
        raise click.UsageError("Give EVAL, or a blacklist: --blacklist FILE or --shipped-blacklists.")
    entries = [entry for path in blacklist for entry in read_blacklist(path)]
    config = LeakageConfig(
        stages=tuple(stage for stage in ALL if not stages or stage in stages),
        blacklists=tuple(entries + (shipped() if shipped_blacklists else [])),
        tolerance=tolerance,
    )
    train_clips = read_clips([train, *more_train], "TRAIN")
    eval_clips = read_clips(eval_paths, "EVAL", unique=False)
    found = find_leakage(train_clips, eval_clips, out, config=config, workers=workers, engine=engine)
    page = write_leakage(out / "leakage.html", out, train_clips, eval_clips)
    _show(found)
    click.echo(page)
    if strict and any(found.removed.values()):
        raise click.exceptions.Exit(1)


def _show(found: Leakage) -> None:
    for source, by_corpus in found.by_corpus.items():
        for corpus, count in by_corpus.items():
            click.echo(f"{source}: {count} clips of {corpus}")
    parts = ", ".join(f"{count} by {stage}" for stage, count in found.removed.items())
    reused = " (was finished already)" if found.reused else ""
    click.echo(
        f"{sum(found.removed.values())} of {found.num_train} training clips removed ({parts}), {found.num_left} left; "
        f"{found.num_eval} evaluation clips{reused}"
    )
    if found.num_unreadable:
        click.echo(f"{found.num_unreadable} training clips left out, because their audio cannot be read")
    if sum(found.num_unheard.values()):
        listed = found.folder / "unheard.jsonl"
        click.echo(f"{sum(found.num_unheard.values())} clips could not be judged by their sound: {listed}")
