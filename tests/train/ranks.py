"""Ranks of a run as real processes on this machine, copies of one that has imported torch and computed nothing.

`ranks(body, size, *args)` runs `body(rank, *args)` in each and returns what they return; `Ranks` leaves them running,
to be killed or stopped.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Self

_PRELOAD = ["uniwhisper.train.feed", "uniwhisper.train.parallel", "torch.distributed.fsdp"]


class Ranks:
    """Processes that run `body(rank, *args)`; their standard error goes to files."""

    def __init__(self, body: Callable[..., Any], size: int, *args: Any, folder: Path | None = None) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(size)}
        self.answers: list[Connection] = []
        self.processes: list[Any] = []
        self._folder = folder
        for rank in range(size):
            mine, theirs = context.Pipe(duplex=False)
            places = address | {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(size)}
            process = context.Process(
                target=_run, args=(body, rank, args, places, theirs, self._log(rank)), daemon=True
            )
            process.start()
            theirs.close()
            self.answers.append(mine)
            self.processes.append(process)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.join()
            process.close()
        for answer in self.answers:
            answer.close()

    def signal(self, rank: int, number: signal.Signals) -> None:
        """Send one of them a signal."""
        os.kill(self.processes[rank].pid, number)

    def answer(self, rank: int, *, timeout_s: float = 60) -> Any:
        """Return what a rank returned, or sent before it."""
        if not self.answers[rank].poll(timeout_s):
            raise TimeoutError(f"rank {rank} said nothing for {timeout_s} s; {self.stderr(rank)}")
        answer = self.answers[rank].recv()
        if isinstance(answer, _Failure):
            raise AssertionError(f"rank {rank}: {answer.text}")
        return answer

    def exit_code(self, rank: int, *, timeout_s: float = 60) -> int | None:
        """Return the status of a rank that ends in time, and None otherwise."""
        self.processes[rank].join(timeout_s)
        return self.processes[rank].exitcode

    def stderr(self, rank: int) -> str:
        """Return what a rank has written to standard error."""
        path = self._log(rank)
        return path.read_text(encoding="utf-8") if path and path.exists() else ""

    def _log(self, rank: int) -> Path | None:
        return self._folder / f"rank-{rank}.txt" if self._folder else None


class _Failure:
    """An error on its way from a rank."""

    def __init__(self, text: str) -> None:
        self.text = text


def ranks(body: Callable[..., Any], size: int, *args: Any, timeout_s: float = 120) -> list[Any]:
    """Return what `body(rank, *args)` returns on each of `size` ranks."""
    until = time.monotonic() + timeout_s
    with Ranks(body, size, *args) as running:
        return [running.answer(rank, timeout_s=max(0.0, until - time.monotonic())) for rank in range(size)]


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _run(
    body: Callable[..., Any],
    rank: int,
    args: Sequence[Any],
    places: dict[str, str],
    answer: Connection,
    log: Path | None,
) -> None:
    import torch

    warnings.simplefilter("error")
    os.environ.update(places)
    torch.set_num_threads(1)
    if log is not None:
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    try:
        answer.send(body(rank, *args, answer) if log is not None else body(rank, *args))
    except BaseException:
        answer.send(_Failure(traceback.format_exc()))
        raise
