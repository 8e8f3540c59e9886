"""`uniwhisper quickstart`: weights, starter corpus, training, judgement before and after, and the report.

Every stage writes a folder that is reused when nothing it depends on has changed, so a second run takes seconds.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from uniwhisper import __version__
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.embed import load
from uniwhisper.errors import TaskError
from uniwhisper.evaluate.render import render_table
from uniwhisper.evaluate.results import Results
from uniwhisper.evaluate.run import Settings, evaluate
from uniwhisper.files import content_hash, home, read_json, sha256_file, write_json
from uniwhisper.recipes import make_config
from uniwhisper.recipes.calibrated_base import without_training
from uniwhisper.report.page import write_report
from uniwhisper.starter import convert_starter, prepare_starter, write_tasks
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


def run(out: Path, *, recipe: str = "quickstart") -> str:
    """Run the whole line into `out` and return the before/after table with the report's path.

    Raises:
        UniWhisperError: A stage cannot be done; the message says why and what else can be tried.
        TaskError: A task failed, so there is no complete comparison.
    """
    keep_freed_memory()
    clock = _Clock()
    config = make_config(recipe)
    clock.stage("weights")
    for name in (config.encoder, config.decoder):
        clock.say(f"{name}: {resolve(name, clock.say)}")
    clock.stage("starter corpus")
    manifests = convert_starter(home() / "data", clock.say)
    tables = write_tasks(manifests, out / "tasks")
    clock.stage("leakage and shards")
    clips = prepare_starter(manifests, home() / "data", clock.say)
    clock.stage("judge before")
    before = _judge(config.encoder, tables, out / "before")
    clock.stage("judge calibration alone")
    train(without_training(config), clips, out / "calibrated", quiet=True)
    calibrated = _judge(out / "calibrated", tables, out / "between")
    clock.stage("train")
    train(config, clips, out / "train")
    clock.stage("judge after")
    after = _judge(out / "train", tables, out / "after")
    clock.stage("report")
    page = _report(out, [out / "before", out / "between", out / "after"])
    clock.say(clock.summary())
    alone, trained = (_mean_scores(one) for one in (calibrated, after))
    return (
        f"{render_table(after, baseline=before)}\n"
        f"Calibration alone, no training: mean kNN {alone[0]:.3f}, mean probe {alone[1]:.3f} "
        f"(trained: {trained[0]:.3f} and {trained[1]:.3f})\n"
        f"Report: {page}"
    )


def _mean_scores(results: Results) -> tuple[float, float]:
    mean = results.means["all"]
    return (mean.knn.score if mean.knn else 0.0), mean.probe.score


def _report(out: Path, judged: list[Path]) -> Path:
    """Draw the page, unless the one that is there was drawn from the same results, maps and training."""
    page, drawn_from = out / "report.html", out / "report.json"
    maps = [folder / "embeddings.npz" for folder in judged]
    inputs = [*(folder / "results.json" for folder in judged), *maps, out / "train" / "metrics.jsonl"]
    key = content_hash([__version__, *(sha256_file(path) for path in inputs)])
    if not (page.is_file() and drawn_from.is_file() and read_json(drawn_from) == {"key": key}):
        write_report(page, judged, training=out / "train", embeddings=maps)
        write_json(drawn_from, {"key": key})
    return page


def _judge(model: str | Path, tables: list[Path], out: Path) -> Results:
    results = evaluate(load(model, precision="bf16"), tables, out, Settings(frames="subsampled"))
    if results.failures:
        listing = "; ".join(f"{failure.task}: {failure.error}" for failure in results.failures)
        raise TaskError(f"expected every task of the quickstart to run, found failures: {listing}")
    return results
