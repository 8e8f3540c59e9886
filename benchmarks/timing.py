"""Measuring side by side: every side runs in turn on the same work, and results go to a dated file on request.

Writes `benchmarks/results/<theme>_<hardware>_<yyyymm>.md`, and only from `write_result`. Wall time is what counts; the
processor time beside it shows whether the machine was busy with something else meanwhile.
"""

from __future__ import annotations

import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import torch

from uniwhisper.train.hardware import measured_matmul

__all__ = ["Timing", "hardware", "interleave", "matmul_rate", "peak_memory_mb", "table", "write_result"]

Case = TypeVar("Case")

REPOSITORY = Path(__file__).resolve().parents[1]


@dataclass(kw_only=True, slots=True)
class Timing:
    """Seconds of every pass over the work."""

    wall_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    """Processor seconds of all threads of this process."""

    @property
    def median_s(self) -> float:
        """Return the median wall time of a pass."""
        return statistics.median(self.wall_s)

    @property
    def median_cpu_s(self) -> float:
        """Return the median processor time of a pass."""
        return statistics.median(self.cpu_s)


def interleave(
    sides: Mapping[str, Callable[[Case], object]], cases: Sequence[Case], *, repeats: int
) -> dict[str, Timing]:
    """Return the timing of every side over all cases, `repeats` passes each, sides taking turns case by case.

    One untimed call of each side on the first case comes first.
    """
    for run in sides.values():
        run(cases[0])
    timings = {name: Timing() for name in sides}
    for _ in range(repeats):
        totals = {name: [0.0, 0.0] for name in sides}
        for case in cases:
            for name, run in sides.items():
                wall, cpu = time.perf_counter(), time.process_time()
                run(case)
                totals[name][0] += time.perf_counter() - wall
                totals[name][1] += time.process_time() - cpu
        for name, (wall_s, cpu_s) in totals.items():
            timings[name].wall_s.append(wall_s)
            timings[name].cpu_s.append(cpu_s)
    return timings


def matmul_rate(dtype: torch.dtype, *, seconds: float = 0.5) -> float:
    """Return this machine's best rate of matrix products on the CPU, in FLOP/s: what a share of the peak is of."""
    return measured_matmul("cpu", dtype, seconds=seconds)


def peak_memory_mb() -> float:
    """Return the largest resident memory of this process so far.

    `ru_maxrss` of a child process starts at what its parent had when it was made, so Linux's own count is read first.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
        if found:
            return int(found[1]) / 1024
    scale = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale


def hardware() -> str:
    """Return the processor and the threads in use, such as `AMD EPYC, 2 threads`."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        found = re.search(r"model name\s*:\s*(.+)", info.read_text())
        name = found[1].strip() if found else name
    return f"{name}, {torch.get_num_threads()} threads of {os.cpu_count()}"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table, columns aligned so that it also reads well as plain text."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def write_result(theme: str, body: str) -> Path:
    """Write the result file of this month and machine, and return its path."""
    slug = re.sub(r"[^a-z0-9]+", "-", hardware().lower()).strip("-")
    path = REPOSITORY / "benchmarks" / "results" / f"{theme}_{slug}_{date.today():%Y%m}.md"
    path.parent.mkdir(exist_ok=True)
    packages = ", ".join(f"{name} {_version(name)}" for name in ("uniwhisper", "torch", "transformers", "numpy"))
    facts = [
        f"- date: {date.today().isoformat()}; commit: {_commit()}",
        f"- machine: {hardware()}; {platform.system()}, Python {platform.python_version()}",
        f"- packages: {packages}",
        f"- command: `python {_command()}`",
    ]
    path.write_text(f"# {theme}\n\n" + "\n".join(facts) + f"\n\n{body}\n", encoding="utf-8")
    return path


def _command() -> str:
    """Return the command line; folders outside the repository are cut to their last two parts."""
    words = [f"benchmarks/{Path(sys.argv[0]).name}"]
    for word in sys.argv[1:]:
        path = Path(word)
        words.append("/".join(("...", *path.parts[-2:])) if path.is_absolute() else word)
    return " ".join(words)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str:
    run = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    return run.stdout.strip() or "none yet"
