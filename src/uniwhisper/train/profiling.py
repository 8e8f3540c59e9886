"""Where the time of a step goes: a trace and a table of a few steps, by torch's own profiler.

Writes `trace.json` (open it at chrome://tracing or ui.perfetto.dev) and `operations.txt` (the operations that take
most time, with their share) into a folder. The profiled steps are slower than others; all others are untouched.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from uniwhisper.files import atomic_path, write_text

__all__ = ["WARMUP_STEPS", "profiled"]

WARMUP_STEPS = 5
"""Steps before the profiled ones: by then caches are filled and kernels are built."""

_TOP = 40


@contextmanager
def profiled(folder: Path, steps: int) -> Iterator[Callable[[], None]]:
    """Yield a hook to call after every step; `steps` steps are profiled, after `WARMUP_STEPS` others.

    Args:
        folder: Where the trace and the table are written, as soon as the last of these steps is done. A block that ends
            sooner leaves what was profiled until then, and nothing where that was nothing.
        steps: Steps to profile; 0 profiles none and costs nothing.
    """
    if steps <= 0:
        yield lambda: None
        return
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)

    def write(profiler: profile) -> None:
        by = "self_cuda_time_total" if ProfilerActivity.CUDA in activities else "self_cpu_time_total"
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / "trace.json") as path:
            profiler.export_chrome_trace(str(path))
        table = profiler.key_averages(group_by_input_shape=False).table(sort_by=by, row_limit=_TOP)
        write_text(folder / "operations.txt", table + "\n")

    with profile(
        activities=activities,
        schedule=schedule(wait=WARMUP_STEPS - 1, warmup=1, active=steps, repeat=1),
        on_trace_ready=write,
        profile_memory=True,
    ) as profiler:
        yield profiler.step
