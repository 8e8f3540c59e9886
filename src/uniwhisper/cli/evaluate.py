"""`uniwhisper evaluate`: an encoder and tables of labelled files become kNN and probe scores in `results.json`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

if TYPE_CHECKING:
    from uniwhisper.evaluate.run import EmbedsFiles
    from uniwhisper.evaluate.splits import Overlap

__all__ = ["command"]


@click.command()
@click.argument("model")
@click.option(
    "--table",
    "tables",
    required=True,
    multiple=True,
    type=click.Path(path_type=Path),
    help="CSV with the columns path, label and split; repeat for several tasks.",
)
@click.option("--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder for the results.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Probe trainings a task.")
@click.option("--baseline", type=click.Path(path_type=Path), help="results.json to show differences to.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option(
    "--frames",
    type=click.Choice(["subsampled", "encoder"]),
    default="subsampled",
    show_default=True,
    help="Average the 40 ms frames after the subsampler, or the 20 ms frames before it.",
)
@click.option(
    "--overlap",
    type=click.Choice(["drop", "error", "allow"]),
    default="drop",
    show_default=True,
    help="A speaker or group on both sides of a split: drop its clips from the training side, refuse, or allow.",
)
@click.option("--domain", "domains", multiple=True, metavar="TASK=DOMAIN", help="speech, sound or music; repeatable.")
def command(
    model: str,
    tables: tuple[Path, ...],
    out: Path,
    seeds: int,
    baseline: Path | None,
    precision: str,
    frames: str,
    overlap: str,
    domains: tuple[str, ...],
) -> None:
    """Judge MODEL: a folder that `train` wrote, or Whisper weights by name (whisper-base), hub id or folder.

    A task is called by its table's file name without `eval_` and `.csv`. What has not changed since an earlier run
    into the same folder is not computed again. Exits with code 1 where a task failed; the others still have scores.
    """
    from uniwhisper.embed import load
    from uniwhisper.evaluate.render import render_table
    from uniwhisper.evaluate.results import read_results
    from uniwhisper.evaluate.run import evaluate

    before = read_results(baseline) if baseline else None  # first, so that a wrong path costs no evaluation
    results = evaluate(
        cast("EmbedsFiles", load(model, precision=precision, frames=frames)),
        tables,
        out,
        seeds=seeds,
        frames=frames,
        overlap=cast("Overlap", overlap),
        domains=_domains(domains),
    )
    click.echo(render_table(results, before), nl=False)
    click.echo(out / "results.json")
    if results.failures:
        raise click.ClickException(f"{len(results.failures)} of {len(tables)} tasks failed; the table says why")


def _domains(assignments: tuple[str, ...]) -> dict[str, str]:
    domains = {}
    for assignment in assignments:
        task, equals, domain = assignment.partition("=")
        if not (task and equals and domain):
            raise click.UsageError(f"--domain: expected TASK=DOMAIN such as esc50=sound, found {assignment!r}.")
        domains[task] = domain
    return domains
