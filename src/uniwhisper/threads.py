"""Parallelism that cannot change a result: one thread inside every computation, several computations side by side.

Matrix kernels sum in an order that depends on how many threads they use, so the last bits of an embedding would depend
on the machine's cores. Here every library computes with one thread, and independent pieces of work run beside each
other; a piece is the same whoever runs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from threadpoolctl import threadpool_limits

__all__ = ["map_threads", "num_threads", "one_thread_each"]

In = TypeVar("In")
Out = TypeVar("Out")


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let torch and numpy's BLAS compute with one thread within the block, and as before after it."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(before)


def num_threads() -> int:
    """Return how many pieces of work may run side by side: `OMP_NUM_THREADS` where set, else all CPUs."""
    stated = os.environ.get("OMP_NUM_THREADS", "")
    if stated.isdigit() and int(stated) > 0:
        return int(stated)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_threads(function: Callable[[In], Out], items: Iterable[In], *, threads: int | None = None) -> Iterator[Out]:
    """Yield `function(item)` for every item, in the items' order; at most `2 * threads` are under way.

    Args:
        function: Computes one piece; the pieces must not touch each other's state.
        items: The pieces.
        threads: How many run beside each other; by default `num_threads()`; 1 runs them here.
    """
    threads = threads or num_threads()
    if threads == 1 or (isinstance(items, Sized) and len(items) < 2):
        yield from map(function, items)
        return
    with ThreadPoolExecutor(threads, initializer=_like_the_caller, initargs=_torch_threads()) as pool:
        pending = []
        for item in items:
            pending.append(pool.submit(function, item))
            if len(pending) >= 2 * threads:
                yield pending.pop(0).result()
        for future in pending:
            yield future.result()


def _torch_threads() -> tuple[int, ...]:
    """Return the caller's number of torch threads, where torch is in use."""
    torch = sys.modules.get("torch")
    return (torch.get_num_threads(),) if torch else ()


def _like_the_caller(*torch_threads: int) -> None:
    """Let a new thread compute with as many threads as the one that made it; OpenMP counts for each thread apart."""
    for count in torch_threads:
        sys.modules["torch"].set_num_threads(count)
