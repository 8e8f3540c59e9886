"""Engines: run one function over many independent tasks, on a pool of processes or on a Ray cluster.

A stage hands in a module-level function and a list of tasks, and gets the results in the order of the tasks, so what
it writes does not depend on the engine, on the number of workers or on who finished first. A task that raises ends
the run with its own error; tasks are idempotent, so the next run continues.
"""

from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.connection
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any, Literal, TypeVar, get_args

from uniwhisper.errors import ConfigError, UniWhisperError

__all__ = ["ENGINES", "EngineKind", "default_workers", "map_tasks"]

EngineKind = Literal["local", "ray"]
ENGINES: tuple[EngineKind, ...] = get_args(EngineKind)

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4
"""Tasks a worker may have waiting: enough to keep it busy, few enough that results do not pile up in memory."""


def default_workers() -> int:
    """Return the number of CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_tasks(
    function: Callable[[T], R],
    tasks: Iterable[T],
    *,
    workers: int = 0,
    kind: EngineKind = "local",
    label: str = "",
    unit: str = "tasks",
    amount: Callable[[R], float] = lambda result: 1.0,
    total: float | None = None,
) -> Iterator[R]:
    """Yield `function(task)` for every task, in the order of the tasks.

    Args:
        function: A module-level function of one task; tasks and results are pickled.
        tasks: The tasks.
        workers: Processes; 0 takes one per CPU, and 1 runs in this process (kind `local`).
        kind: `local`, or `ray` for a Ray cluster (`RAY_ADDRESS`, or one that is started on this machine).
        label: What the progress bar calls the work; without it there is none.
        unit: What `amount` counts.
        amount: How much of `total` a result stands for.
        total: The sum of all amounts, where it is known beforehand.

    Raises:
        ConfigError: The engine is unknown or not installed, or `workers` is negative.
        UniWhisperError: A worker process died; whatever `function` raises is raised here as it is.
    """
    if kind not in ENGINES or workers < 0:
        raise ConfigError(f"expected an engine out of {', '.join(ENGINES)} and workers >= 0, found {kind}, {workers}")
    workers = workers or default_workers()
    if kind == "ray":
        from uniwhisper.engine._ray import map_ray

        results = map_ray(function, tasks, workers)
    elif workers == 1:
        results = map(function, tasks)
    else:
        results = _map_local(function, tasks, workers)
    return _with_progress(results, label, unit, amount, total)


def _map_local(function: Callable[[T], R], tasks: Iterable[T], workers: int) -> Iterator[R]:
    """Yield results in order, with at most `_AHEAD` tasks per worker handed out.

    Workers are started afresh (`spawn`): a fork would copy locks that threads of this process may hold.
    """
    rest = iter(tasks)
    first = list(itertools.islice(rest, 1))
    if not first:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context, initializer=_die_with_parent) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for task in itertools.chain(first, rest):
                waiting.append(pool.submit(function, task))
                if len(waiting) >= _AHEAD * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as e:
            raise UniWhisperError(
                "a worker process died, most likely killed for want of memory: run the same command again with fewer "
                "--workers; what was finished is kept"
            ) from e
        finally:
            for future in waiting:
                future.cancel()


def _die_with_parent() -> None:
    """Make this worker end when the process that started it does: killed, that one cannot tell its workers."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


def _with_progress(
    results: Iterable[R], label: str, unit: str, amount: Callable[[R], float], total: float | None
) -> Iterator[R]:
    """Pass `results` on, with a bar on stderr (amount, rate, time left) where that is a terminal."""
    if not label or not sys.stderr.isatty():
        yield from results
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: Sequence[Any] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        job = bar.add_task(label, total=total, rate="")
        for result in results:
            speed = bar.tasks[0].finished_speed or bar.tasks[0].speed
            bar.update(job, advance=amount(result), rate=f"{speed:.1f} {unit}/s" if speed else "")
            yield result
