"""Tasks on Ray Data: the same function over the same tasks, on a cluster or on the processes of this machine.

Reads `RAY_ADDRESS` for a cluster; without it, Ray is started here with as many CPUs as workers and shut down at the
end. Tasks and results travel as Ray's own objects, and an error in a task comes back as itself.
"""

from __future__ import annotations

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from uniwhisper.errors import ConfigError

__all__ = ["map_ray"]

_WAVE = 1024
"""Tasks handed to Ray at once: it holds all of them, and a block for each, in memory."""


def map_ray(function: Callable[[Any], Any], tasks: Iterable[Any], workers: int) -> Iterator[Any]:
    """Yield `function(task)` for every task, in the order of the tasks; see `engine.map_tasks`.

    Raises:
        ConfigError: Ray is not installed, or the cluster does not answer.
    """
    ray = _import_ray()
    rest = iter(tasks)
    first = list(itertools.islice(rest, _WAVE))
    if not first:
        return
    started = _start(ray, workers)
    try:
        wave = first
        while wave:
            yield from _map_wave(ray, function, wave, workers)
            wave = list(itertools.islice(rest, _WAVE))
    finally:
        if started:
            ray.shutdown()


def _map_wave(ray: Any, function: Callable[[Any], Any], tasks: Sequence[Any], workers: int) -> Iterator[Any]:
    """Yield the results of tasks that are handed to Ray together."""
    ray.data.DataContext.get_current().execution_options.preserve_order = True
    rows = [{"box": _Box(task)} for task in tasks]
    # One row a block: a task is the unit of work, and the scheduler balances what takes long against the rest.
    data = ray.data.from_items(rows, override_num_blocks=len(rows))
    done = data.map(_Task(function), compute=ray.data.TaskPoolStrategy(size=min(workers, len(rows))))
    for row in done.iter_rows():
        if row["box"].error is not None:
            raise row["box"].error
        yield row["box"].content


class _Box:
    """What stands in a row: an object that no table format takes for a list or struct of its own."""

    def __init__(self, content: Any, error: Exception | None = None) -> None:
        self.content = content
        self.error = error


class _Task:
    """Calls the function in a Ray worker; a class, because Ray pickles lambdas by value and with them half a module."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            return {"box": _Box(self.function(row["box"].content))}
        except Exception as e:
            return {"box": _Box(None, e)}


def _import_ray() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as e:
        raise ConfigError(f"--engine ray needs Ray Data: pip install 'uniwhisper[ray]' ({e})") from e
    return ray


def _start(ray: Any, workers: int) -> bool:
    """Connect to a cluster or start one here; returns whether it is ours to shut down."""
    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS")
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # it reports plans and timings of every wave
    # Ray looks for `uv run` and rewrites the workers' environment; ours is already the right one.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    try:
        if address:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        else:
            ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as e:
        raise ConfigError(f"expected a Ray cluster at {address or 'this machine'}, found: {e}") from e
    return True
