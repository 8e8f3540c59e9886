"""`uniwhisper quickstart`: weights, starter corpus, training, judgement before and after, and the report.

Every stage writes a folder that is reused when nothing it depends on has changed, so a second run takes seconds.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from uniwhisper.allocator import keep_freed_memory
from uniwhisper.embed import load
from uniwhisper.errors import TaskError
from uniwhisper.evaluate.render import render_table
from uniwhisper.evaluate.results import Results
from uniwhisper.evaluate.run import evaluate
from uniwhisper.files import home
from uniwhisper.recipes import get_recipe
from uniwhisper.report.page import write_report
from uniwhisper.starter import convert_starter, training_clips, write_tasks
from uniwhisper.train.loop import train
from uniwhisper.weights import resolve

__all__ = ["run"]


@dataclass
class _Clock:
    """Says what is being done, and at the end how long each stage took."""

    began: float = field(default_factory=time.perf_counter)
    stages: list[tuple[str, float]] = field(default_factory=list)

    def stage(self, name: str) -> None:
        self.stages.append((name, time.perf_counter()))
        self.say(f"== {name}")

    def say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)  # noqa: T201

    def summary(self) -> str:
        ends = [*(start for _, start in self.stages[1:]), time.perf_counter()]
        parts = [f"{name} {end - start:.0f} s" for (name, start), end in zip(self.stages, ends, strict=True)]
        return f"{', '.join(parts)}; {time.perf_counter() - self.began:.0f} s in all"


def run(out: Path, *, recipe: str = "quickstart", evaluate_frames: str = "subsampled") -> str:
    """Run the whole line into `out` and return the before/after table with the report's path.

    Raises:
        UniWhisperError: A stage cannot be done; the message says why and what else can be tried.
        TaskError: A task failed, so there is no complete comparison.
    """
    keep_freed_memory()
    clock = _Clock()
    config = get_recipe(recipe)()
    clock.stage("weights")
    for name in (config.encoder, config.decoder):
        clock.say(f"{name}: {resolve(name, clock.say)}")
    clock.stage("starter corpus")
    manifests = convert_starter(home() / "data", clock.say)
    tables = write_tasks(manifests, out / "tasks")
    clock.stage("judge before")
    before = _judge(config.encoder, tables, out / "before", evaluate_frames)
    clock.stage("train")
    train(config, training_clips(manifests), out / "train")
    clock.stage("judge after")
    after = _judge(out / "train", tables, out / "after", evaluate_frames)
    clock.stage("report")
    page = write_report(
        out / "report.html",
        [out / "before", out / "after"],
        training=out / "train",
        embeddings=[out / "before" / "embeddings.npz", out / "after" / "embeddings.npz"],
    )
    clock.say(clock.summary())
    return f"{render_table(after, baseline=before)}\n\nReport: {page}"


def _judge(model: str | Path, tables: list[Path], out: Path, frames: str) -> Results:
    encoder = load(model, precision="bf16", frames=frames)
    results = evaluate(encoder, tables, out, frames=frames)
    if results.failures:
        listing = "; ".join(f"{failure.task}: {failure.error}" for failure in results.failures)
        raise TaskError(f"expected every task of the quickstart to run, found failures: {listing}")
    return results
