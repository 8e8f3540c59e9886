"""`uniwhisper evaluate`: an encoder and tasks become kNN and probe scores in `results.json`."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from uniwhisper.evaluate.results import Absent, Results
    from uniwhisper.evaluate.run import Settings
    from uniwhisper.evaluate.wanted import Wanted

__all__ = ["command"]

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("model", required=False)
@click.option("--corpora", type=_FOLDER, help="Folder with one folder a corpus, converted or as published.")
@click.option("--table", "tables", multiple=True, type=click.Path(path_type=Path), help="CSV of your own; repeatable.")
@click.option("--mock", is_flag=True, help="Judge on a few synthetic clips of every kind: does all of it run?")
@click.option("--list", "listing", is_flag=True, help="List the declared tasks and stop.")
@click.option("--out", type=_FOLDER, help="Folder for the results.")
@click.option(
    "--protocol",
    type=click.Choice(["strict", "xares"]),
    default="strict",
    show_default=True,
    help="strict: the test part chooses nothing; xares: the splits, probe and choices of X-ARES 0.1.3.",
)
@click.option("--tasks", help="Names of tasks or suites, separated by commas. By default the paper's 20.")
@click.option("--domain", "domains", multiple=True, type=click.Choice(["speech", "sound", "music"]), help="Only these.")
@click.option("--seeds", type=click.IntRange(min=1), default=3, show_default=True, help="Probe trainings a task.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many clips of every part: for trying out.")
@click.option("--device", default="cpu", show_default=True, help="Torch device of encoder and probes.")
@click.option("--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True)
@click.option(
    "--frames",
    type=click.Choice(["subsampled", "encoder"]),
    default="subsampled",
    show_default=True,
    help="Of Whisper: 40 ms frames after the subsampler, or the 20 ms frames before it.",
)
@click.option("--decoder", help="Frozen LM of speech recognition. By default Qwen/Qwen2.5-0.5B.")
@click.option(
    "--overlap",
    type=click.Choice(["drop", "error", "allow"]),
    default="drop",
    show_default=True,
    help="A speaker or group on both sides of a split: drop its clips from the training side, refuse, or allow.",
)
@click.option(
    "--set", "changes", multiple=True, metavar="FIELD=VALUE", help="Such as probe.hidden_layers=1, asr.epochs=3."
)
@click.option("--leakage", multiple=True, type=_FOLDER, help="What `uniwhisper leakage` found in the training data.")
@click.option("--baseline", type=click.Path(path_type=Path), help="results.json to show differences to.")
@click.option("--table-domain", multiple=True, metavar="TASK=DOMAIN", help="speech, sound or music; repeatable.")
@click.option("--table-kind", multiple=True, metavar="TASK=KIND", help="asr or frame, for tables without labels.")
def command(model: str | None, out: Path | None, listing: bool, mock: bool, **options: Any) -> None:
    """Judge MODEL on declared tasks (--corpora), on tables of your own (--table), or on synthetic clips (--mock).

    MODEL is a folder that `train` wrote, Whisper weights by name, another encoder by name or hub id (wavlm-large),
    package.module:Class, or a file with an X-ARES encoder; see `uniwhisper doctor MODEL`. A table's task is called by
    its file name without `eval_` and `.csv`. What has not changed since an earlier run into the same folder is not
    computed again, and embeddings are kept. Exits with code 1 where a task failed; the others still have scores.
    """
    if listing:
        click.echo(_listing(), nl=False)
        return
    if model is None:
        raise click.UsageError("expected the name of an encoder, such as whisper-base; --list shows the tasks.")
    if mock:
        _judge_mock(model, out, options)
        return
    if out is None:
        raise click.UsageError("expected --out FOLDER for the results.")
    if not (options["corpora"] or options["tables"]):
        raise click.UsageError("expected --corpora FOLDER, --table CSV or --mock: there is nothing to judge on.")
    wanted, absent = _wanted(options)
    results = _judge(model, wanted, absent, out, options)
    if not results.tasks and not results.failures:
        raise click.ClickException(f"none of the {len(absent)} tasks' corpora is in {options['corpora']}")


def _wanted(options: dict[str, Any]) -> tuple[list[Wanted], tuple[Absent, ...]]:
    from uniwhisper.evaluate.tasks import get_task, list_suites, suite
    from uniwhisper.evaluate.wanted import from_corpora, from_tables

    domains, kinds = _pairs(options["table_domain"], "--table-domain"), _pairs(options["table_kind"], "--table-kind")
    wanted = from_tables(options["tables"], domains=domains, kinds=cast("Any", kinds)) if options["tables"] else []
    if not options["corpora"]:
        if options["tasks"] or options["domains"]:
            raise click.UsageError("--tasks and --domain choose among the tasks of --corpora, which is missing.")
        return wanted, ()
    names = [name.strip() for name in (options["tasks"] or "paper").split(",") if name.strip()]
    specs = [spec for name in names for spec in (suite(name) if name in list_suites() else (get_task(name),))]
    chosen = {spec.name: spec for spec in specs if not options["domains"] or spec.domain in options["domains"]}
    # tasks of one corpus follow one another, so that it is read once
    order = sorted(chosen, key=lambda name: [spec.source for spec in chosen.values()].index(chosen[name].source))
    found, absent = from_corpora(options["corpora"], order, protocol=options["protocol"])
    return [*wanted, *found], tuple(absent)


def _judge(
    model: str,
    wanted: Sequence[Any],
    absent: Sequence[Absent],
    out: Path,
    options: dict[str, Any],
    *,
    scratch: Path | None = None,
    asr: Any = None,
) -> Results:
    """Judge, print the table, and fail where a task failed; with `scratch`, keep nothing beyond it."""
    from uniwhisper.cache import EmbeddingCache
    from uniwhisper.encoders import load_encoder
    from uniwhisper.evaluate.render import render_table
    from uniwhisper.evaluate.results import read_results
    from uniwhisper.evaluate.run import Settings, check_device, evaluate

    before = read_results(options["baseline"]) if options["baseline"] else None  # a wrong path costs no evaluation
    settings = Settings(
        protocol=options["protocol"],
        seeds=options["seeds"],
        overlap=options["overlap"],
        limit=options["limit"],
        frames=options["frames"],
        decoder=options["decoder"],
        leakage=options["leakage"],
        device=options["device"],
        asr=asr,
    )
    settings = _changed(settings, options["changes"])
    check_device(options["device"])
    encoder = load_encoder(model, device=options["device"], precision=options["precision"], frames=options["frames"])
    cache = EmbeddingCache(scratch / "embeddings.sqlite" if scratch else None)
    frames = scratch / "frames" if scratch else None
    results = evaluate(encoder, wanted, out, settings, absent=absent, cache=cache, frames=frames)
    click.echo(render_table(results, before), nl=False)
    if scratch is None or scratch not in out.parents:
        click.echo(out / "results.json")
    if results.failures:
        names = ", ".join(failure.task for failure in results.failures)
        raise click.ClickException(f"{len(results.failures)} of {len(wanted)} tasks failed: {names}")
    return results


def _changed(settings: Settings, changes: tuple[str, ...]) -> Settings:
    """Return the settings with fields of kNN, probe and ASR probe as `--set` has them; a results file records them."""
    from dataclasses import replace

    from uniwhisper.train.config import override

    for change in changes:
        part = change.partition(".")[0]
        if part not in ("knn", "probe", "asr"):
            raise click.UsageError(f"--set: expected knn., probe. or asr. and a field, found {change!r}.")
        named = {"knn": settings.knn_of(), "probe": settings.probe_of(), "asr": settings.asr_of()}
        settings = replace(settings, **{part: override(named[part], change.partition(".")[2])})
    return settings


def _judge_mock(model: str, out: Path | None, options: dict[str, Any]) -> None:
    """Walk through every kind of task on synthetic clips, in a temporary folder where none is named."""
    from uniwhisper.evaluate.asr import TINY
    from uniwhisper.evaluate.mock import mock_tasks

    with tempfile.TemporaryDirectory(prefix="uniwhisper-") as scratch:
        tasks = mock_tasks(Path(scratch) / "clips", protocol=options["protocol"])
        _judge(model, tasks, (), out or Path(scratch) / "results", options, scratch=Path(scratch), asr=TINY)
    click.echo("mock run: every kind of task runs with this encoder; the scores mean nothing")


def _listing() -> str:
    from uniwhisper.evaluate.tasks import get_task, list_tasks

    specs = [get_task(name) for name in list_tasks()]
    rows = [("task", "domain", "kind", "metric", "classes", "weight", "corpus")]
    rows += [
        (s.name, s.domain, s.kind, s.metric, str(s.num_classes or "-"), f"{s.weight or 0:.0f}", s.source) for s in specs
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines) + "\n"


def _pairs(assignments: tuple[str, ...], option: str) -> dict[str, str]:
    pairs = {}
    for assignment in assignments:
        task, equals, value = assignment.partition("=")
        if not (task and equals and value):
            raise click.UsageError(f"{option}: expected TASK=VALUE such as esc50=sound, found {assignment!r}.")
        pairs[task] = value
    return pairs
