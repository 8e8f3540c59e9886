"""Two ranks on one machine against one: the same losses, how fast, and whether a run goes on with another number.

Reads a table or manifest of real clips and the weights named; trains in a temporary folder, and writes a result file
only with `--write`. Every run is `uniwhisper train`'s own loop on the same batches from the same seed, in processes of
its own: one rank, or two through `torch.distributed.run` (gloo on the CPU), copied (DDP) or spread (FSDP2). Losses of
every step are compared with those of one rank with as many threads, and the benchmark fails where they differ by more
than rounding; a run that two ranks begin is ended by one. Runs take turns. What two ranks can gain is bounded by the
cores: the first rows say what all of them and one of them do without ranks.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from clips import read_clips
from step_sides import with_settings
from timing import hardware, table, write_result
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.loop import Interrupted, train
from uniwhisper.train.machine import SHARDING
from uniwhisper.train.metrics import read_metrics

RANKS = 2
UNTIMED = 2
"""Steps that do not count: the first of all, and the first in which the encoder learns."""
TOLERANCE = {"fp32": 1e-5, "bf16": 3e-2}
"""Largest relative difference of a step's loss from that of one rank whose operations run on as many threads; every
step learns from the rounding of those before it."""
FIRST, SINGLE = "1 rank, all threads", "1 rank, 1 thread"


@dataclass(kw_only=True, slots=True)
class Way:
    """A way to do the same steps."""

    ranks: int = 1
    threads: int
    """Of each rank."""
    settings: tuple[str, ...] = ()
    like: str = SINGLE
    """The way whose losses these must be."""
    rows: list[list[dict[str, Any]]] = field(default_factory=list)
    """The figures of every step of every run."""

    @property
    def seconds(self) -> float:
        """Return the seconds of the steps that count, the median over the runs."""
        return statistics.median(sum(row["seconds"] for row in run[UNTIMED:]) for run in self.rows)

    @property
    def losses(self) -> list[float]:
        """Return the loss of every step; all runs have the same."""
        return [row["loss"] for row in self.rows[0]]

    @property
    def examples(self) -> int:
        """Return the clips of the steps that count."""
        return sum(row["num_examples"] for row in self.rows[0][UNTIMED:])


def ways(cores: int) -> dict[str, Way]:
    """Return what is compared, what it is compared with first."""
    found = {
        FIRST: Way(threads=cores, like=FIRST),
        SINGLE: Way(threads=1),
        f"1 rank, {RANKS} batches at once": Way(threads=cores, settings=(f"parallel={RANKS}",)),  # a thread each
    }
    for sharding, name in (("ddp", "DDP"), ("fsdp", "FSDP2")):
        settings = (f"machine.sharding={sharding}",)
        found[f"{RANKS} ranks ({name}), 1 thread each"] = Way(ranks=RANKS, threads=1, settings=settings)
        found[f"{RANKS} ranks ({name}), all threads each"] = Way(
            ranks=RANKS, threads=cores, settings=settings, like=FIRST
        )
    return found


def configured(options: argparse.Namespace, settings: Sequence[str] = ()) -> TrainConfig:
    """Return the configuration of a run of `options.steps` steps of as many batches as there are ranks."""
    own = (
        f"precision={options.precision}",
        f"accumulation={RANKS}",
        f"optim.steps={options.steps}",
        "optim.align_steps=1",
        "optim.warmup_steps=1",
        "start.clips=32",
        "finish.calibration=none",
        "checkpoint_every=1000000",
        "machine.device=cpu",
    )
    return with_settings(TrainConfig(encoder="whisper-tiny"), (*own, *options.set, *settings))


def worker(options: argparse.Namespace) -> None:
    """Be one rank of a run."""
    keep_freed_memory()
    torch.set_num_threads(options.threads)
    try:
        train(
            configured(options),
            read_clips(options.data),
            options.out,
            quiet=True,
            stop_after=options.stop_after or None,
        )
    except Interrupted:
        if not options.stop_after:
            raise


def trained(options: argparse.Namespace, way: Way, out: Path, *, stop_after: int = 0) -> list[dict[str, Any]]:
    """Train in processes of their own and return the figures of every step.

    Raises:
        SystemExit: The run failed; the message has its last words.
    """
    launcher = []
    if way.ranks > 1:
        launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(way.ranks)]
    words = [sys.executable, *launcher, __file__, "--worker", "--out", str(out), "--stop-after", str(stop_after)]
    words += ["--threads", str(way.threads), "--precision", options.precision, "--steps", str(options.steps)]
    words += ["--data", str(options.data)] if options.data else []  # none: each finds the default
    words += [word for setting in (*options.set, *way.settings) for word in ("--set", setting)]
    environment = os.environ | {"OMP_NUM_THREADS": str(way.threads)}
    run = subprocess.run(words, capture_output=True, text=True, env=environment)
    if run.returncode:
        raise SystemExit(f"{' '.join(words[1:])} failed:\n{run.stdout[-1000:]}{run.stderr[-3000:]}")
    return read_metrics(out / "metrics.jsonl")


def run_all(options: argparse.Namespace, found: Mapping[str, Way], folder: Path) -> None:
    """Do every run, the ways taking turns."""
    for number in range(options.repeats):
        for name, way in found.items():
            out = folder / f"{number}-{name.replace(' ', '-')}"
            way.rows.append(trained(options, way, out))
            shutil.rmtree(out)
            print(f"run {number + 1} of {options.repeats}: {name}", file=sys.stderr, flush=True)


def resumed(options: argparse.Namespace, folder: Path, *, sharding: str) -> list[float]:
    """Return the losses of a run that two ranks begin and one ends."""
    out, half = folder / f"resumed-{sharding}", options.steps // 2
    first = Way(ranks=RANKS, threads=1, settings=(f"machine.sharding={sharding}",))
    begun = trained(options, first, out, stop_after=half)
    rows = trained(options, Way(threads=1), out)
    if len(begun) != half or [row["step"] for row in rows] != list(range(options.steps)):
        raise SystemExit(f"expected {half} steps and then all {options.steps}, found {len(begun)} and {len(rows)}")
    if "rank_imbalance" not in rows[half - 1] or "rank_imbalance" in rows[half]:
        raise SystemExit(f"expected {RANKS} ranks up to step {half} and one from there on, found otherwise")
    return [row["loss"] for row in rows]


def gap(losses: Sequence[float], expected: Sequence[float]) -> float:
    """Return the largest relative difference of two lists of losses, step by step.

    Raises:
        SystemExit: They are not of equally many steps.
    """
    if len(losses) != len(expected):
        raise SystemExit(f"expected the losses of {len(expected)} steps, found {len(losses)}")
    return max(abs(one / other - 1) for one, other in zip(losses, expected, strict=True))


def speed_table(found: Mapping[str, Way]) -> str:
    """Return a row for each way: rate, ratios, difference of the losses, imbalance."""
    first, single = found[FIRST], found[SINGLE]
    cells: list[list[object]] = []
    for name, way in found.items():
        uneven = [row["rank_imbalance"] for run in way.rows for row in run if "rank_imbalance" in row]
        cells.append(
            [
                name,
                f"{way.examples / way.seconds:.2f}",
                f"{first.seconds / way.seconds:.2f}",
                f"{single.seconds / way.seconds:.2f}",
                f"{gap(way.losses, found[way.like].losses):.1e}",
                f"{max(uneven):.0%} / {statistics.mean(uneven):.0%}" if uneven else "",
                f"{max(row['memory_mb'] for run in way.rows for row in run):.0f}",
            ]
        )
    header = ["way", "examples/s", "against all threads", "against 1 thread", "loss differs by", "imbalance max / mean"]
    return table([*header, "peak MB of a rank"], cells)


def report(options: argparse.Namespace, folder: Path) -> str:
    """Do all runs and return the report.

    Raises:
        SystemExit: Losses differ by more than rounding.
    """
    found = ways(os.cpu_count() or 1)
    run_all(options, found, folder)
    expected = found[SINGLE].losses
    gaps = {name: gap(way.losses, found[way.like].losses) for name, way in found.items()}
    for sharding in SHARDING:
        name = f"{RANKS} ranks ({sharding}) up to step {options.steps // 2}, 1 rank from there"
        gaps[name] = gap(resumed(options, folder, sharding=sharding), expected)
    config, limit = configured(options), TOLERANCE[options.precision]
    lines = [
        f"{config.encoder} + {config.decoder}, {config.precision}; {hardware()}",
        "",
        f"{options.steps} steps of {RANKS} batches, {options.repeats} runs each; losses "
        f"{', '.join(f'{loss:.4f}' for loss in expected)}",
        "",
        speed_table(found),
        "",
        *(f"- {name}: loss differs by {value:.1e}" for name, value in gaps.items() if name not in found),
        f"- largest difference of a step's loss, threads being the same: {max(gaps.values()):.1e} "
        f"(allowed: {limit:.0e}); all threads against 1: {gap(found[FIRST].losses, expected):.1e}",
    ]
    wrong = {name: value for name, value in gaps.items() if not value <= limit}
    if wrong:
        raise SystemExit("\n".join([*lines, f"losses differ: {wrong}"]))
    return "\n".join(lines)


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="table (CSV) or manifest of clips with split train")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of TrainConfig")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--steps", type=int, default=8, help=f"steps of a run; the first {UNTIMED} are not timed")
    parser.add_argument("--repeats", type=int, default=2, help="runs of each way; the median counts")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/ranks_*.md")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--stop-after", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.steps <= UNTIMED:
        parser.error(f"--steps: expected more than the {UNTIMED} that are not timed, found {options.steps}")
    return options


def main(words: Sequence[str] | None = None) -> str:
    """Run the benchmark and return its report."""
    options = _options(words)
    if options.worker:
        worker(options)
        return ""
    with TemporaryDirectory() as folder:
        text = report(options, Path(folder))
    print(text)
    if options.write:
        print(write_result("ranks", text))
    return text


if __name__ == "__main__":
    main()
