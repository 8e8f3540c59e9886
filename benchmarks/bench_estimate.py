"""What `uniwhisper train --dry-run` foretells against what a run then takes: seconds of a step, and peak memory.

Reads a table of clips (synthetic ones of similar lengths where none is at hand) and the weights that the recipes name;
writes a result file only with `--write`. Each recipe is trained for a few steps by the command line itself, in a
process of its own, while this one looks at the run's metrics, its processor time and its largest resident memory. The
matrix product rate is measured before and after, in wall time and in processor time: on a machine that is busy with
something else only the comparison in processor time means anything. The share of the rate that steps reached is where
`CPU_SHARE` of `train/estimate.py` comes from.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from clips import DEFAULT
from timing import hardware, table, write_result
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.cutting import Uncuttable, cut
from uniwhisper.inputs import read_clips
from uniwhisper.recipes import make_config
from uniwhisper.train.config import TrainConfig, override
from uniwhisper.train.data import training_data
from uniwhisper.train.estimate import CPU_SHARE, Estimate, estimate
from uniwhisper.train.hardware import measured_matmul

ALLOWED = 0.25
"""Largest relative error that the estimate promises."""
_SKIPPED = 2  # steps whose first calls prepare kernels
_POLL_S = 0.1
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, kw_only=True, slots=True)
class Measured:
    """What a run took."""

    step_s: float
    """Median wall time of a step, waiting for data left out."""
    step_cpu_s: float
    """Mean processor time of a step."""
    peak_bytes: float
    answer_tokens: float
    clips: float
    audio_s: float


def assignments(steps: int) -> list[str]:
    """Return the changes that make a recipe short, with the encoder learning from the first step on."""
    return [
        f"optim.steps={steps}",
        "optim.align_steps=0",
        "start.clips=64",
        "finish.calibration=none",
        "checkpoint_every=100000",
    ]


def train(recipe: str, data: Path, changes: Sequence[str]) -> Measured:
    """Train `recipe` by the command line and return what was seen from outside.

    Raises:
        SystemExit: The run failed.
    """
    with tempfile.TemporaryDirectory() as out:
        words = [sys.executable, "-m", "uniwhisper", "train", recipe, "--data", str(data), "--out", f"{out}/run"]
        words += [word for change in changes for word in ("--set", change)]
        log = Path(out) / "log.txt"
        with log.open("w") as file:
            process = subprocess.Popen(words, stdout=file, stderr=file)
            seen, peak = _watch(process, Path(out) / "run" / "metrics.jsonl")
        if process.returncode:
            raise SystemExit(f"{' '.join(words)} failed:\n{log.read_text()[-3000:]}")
        rows = [json.loads(line) for line in (Path(out) / "run" / "metrics.jsonl").read_text().splitlines()]
    rows = rows[_SKIPPED:]
    (first, before), (last, after) = seen[0], seen[-1]
    return Measured(
        step_s=statistics.median(row["seconds"] * (1 - row["data_wait_share"]) for row in rows),
        step_cpu_s=(after - before) / (last - first),
        peak_bytes=peak,
        answer_tokens=statistics.mean(row["num_answer_tokens"] for row in rows),
        clips=statistics.mean(row["num_examples"] for row in rows),
        audio_s=statistics.mean(row["audio_s"] for row in rows),
    )


def _watch(process: subprocess.Popen[bytes], metrics: Path) -> tuple[list[tuple[int, float]], float]:
    """Return (steps done, processor seconds) after the skipped steps, and the largest resident memory in bytes."""
    seen: list[tuple[int, float]] = []
    peak = 0.0
    while process.poll() is None:
        time.sleep(_POLL_S)
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        marks = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
        peak = max([peak, *(float(mark) * 1024 for mark in marks)])
        done = metrics.read_text().count("\n") if metrics.exists() else 0
        if done >= _SKIPPED and (not seen or done > seen[-1][0]):
            seen.append((done, (int(fields[11]) + int(fields[12])) / _TICKS))
    return seen, peak


def rates(dtype: torch.dtype) -> tuple[float, float]:
    """Return the matrix product rate in FLOP a wall second, and in FLOP a processor second of one thread."""
    wall = measured_matmul("cpu", dtype)
    a, b = torch.randn(1024, 1024).to(dtype), torch.randn(1024, 1024).to(dtype)
    best, threads = 0.0, torch.get_num_threads()
    torch.set_num_threads(1)  # threads that wait for each other would count as busy
    for _ in range(8):
        began = time.process_time()
        for _ in range(20):
            torch.nn.functional.linear(a, b)
        best = max(best, 40 * 1024**3 / (time.process_time() - began))
    torch.set_num_threads(threads)
    return wall, best


def durations(data: Path) -> dict[str, np.ndarray]:
    """Return the seconds of the training clips of a table, by source."""
    cuts = [cut(clip) for clip in read_clips([data], "--data")]
    clips = [piece for pieces in cuts if not isinstance(pieces, Uncuttable) for piece in pieces]
    return dict(training_data(clips).durations)


def synthetic(folder: Path, *, count: int = 300, mean_s: float = 3.3, seed: int = 0) -> Path:
    """Write labelled noise of lengths like those of short corpora, and return its table."""
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(0.0, 0.7, count), 0.2, 8.0)
    path = folder / "clips.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "source"])
        for number, length in enumerate(lengths * (mean_s / lengths.mean())):
            wave = np.asarray(rng.normal(0, 0.1, round(length * SAMPLE_RATE)), dtype=np.float32)
            soundfile.write(folder / f"{number}.wav", wave, SAMPLE_RATE, subtype="PCM_16")
            writer.writerow([f"{number}.wav", ("rain", "dog bark", "door slam")[number % 3], "train", "noise"])
    return path


def sample(path: Path, folder: Path, *, count: int = 400) -> Path:
    """Write every n-th row of a table, so that packing its clips takes seconds, and return the shorter table."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = rows[:: max(1, len(rows) // count)]
    short = folder / "sample.csv"
    with short.open("w", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows([row | {"path": str((path.parent / row["path"]).resolve())} for row in chosen])
    return short


def compare(name: str, data: Path, options: argparse.Namespace) -> tuple[list[list[str]], list[str]]:
    """Return the rows of a recipe in the table of results, and lines that say more."""
    changes = [*assignments(options.steps), *options.set]
    config = make_config(name)
    for change in changes:
        config = override(config, change)
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    before = rates(dtype)
    measured = train(name, data, changes)
    after = rates(dtype)
    wall, processor = (max(pair) for pair in zip(before, after, strict=True))
    found = estimate(config, durations(data))
    expected_s = found.step_s(wall, share=CPU_SHARE)
    expected_cpu_s = found.step_s(processor, share=CPU_SHARE)
    expected_bytes = found.process_bytes
    rows = [
        [name, what, f"{expected:.3g}", f"{took:.3g}", _error(expected, took)]
        for what, expected, took in (
            ("s a step", expected_s, measured.step_s),
            ("processor s a step", expected_cpu_s, measured.step_cpu_s),
            ("peak GB", expected_bytes / 1e9, measured.peak_bytes / 1e9),
        )
    ]
    return rows, _lines(name, config, found, measured, wall, processor)


def _error(expected: float, measured: float) -> str:
    error = expected / measured - 1
    return f"{error:+.0%}" + ("" if abs(error) <= ALLOWED else " !")


def _lines(
    name: str, config: TrainConfig, found: Estimate, measured: Measured, wall: float, processor: float
) -> list[str]:
    work, flops = found.workload, found.step_flops
    return [
        f"- {name} ({config.encoder} + {config.decoder}, {config.precision}): {flops / 1e9:.0f} GFLOP a step; "
        f"share of the matrix product rate {flops / measured.step_s / wall:.1%} ({wall / 1e9:.0f} GFLOP/s, wall), "
        f"{flops / measured.step_cpu_s / processor:.1%} ({processor / 1e9:.0f} GFLOP a processor second)",
        f"  - foretold and found in a step: clips {work.clips_per_step:.1f} / {measured.clips:.1f}, "
        f"audio s {work.audio_s_per_step:.1f} / {measured.audio_s:.1f}, "
        f"answer tokens {work.answer_tokens_per_step:.0f} / {measured.answer_tokens:.0f}",
    ]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="table (CSV) of clips with split train")
    parser.add_argument("--recipe", action="append", help="repeatable; default quickstart and uniwhisper_tiny")
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of TrainConfig")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/estimate_*.md")
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = _options()
    with tempfile.TemporaryDirectory() as folder:
        given = options.data or (DEFAULT if DEFAULT.is_file() else None)
        data = sample(given, Path(folder)) if given else synthetic(Path(folder))
        lines = [f"{hardware()}; {'a sample of ' + given.name if given else 'synthetic clips'}", ""]
        rows: list[list[str]] = []
        for name in options.recipe or ("quickstart", "uniwhisper_tiny"):
            more, said = compare(name, data, options)
            rows += more
            lines += said
            print("\n".join(said), flush=True)
    lines += ["", table(["recipe", "what", "foretold", "found", "error"], rows)]
    print("\n".join(lines))
    if options.write:
        print(write_result("estimate", "\n".join(lines)))


if __name__ == "__main__":
    main()
