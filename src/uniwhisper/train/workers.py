"""Making batches ahead of the computation: in a thread of this process, or in processes of their own.

Whoever makes a batch, it is the same one and they come in the same order, and what goes wrong surfaces in the same way:
errors of ours as they are, anything else with the number of its batch and, from another process, its traceback there.
"""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from multiprocessing.context import BaseContext
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from uniwhisper.allocator import keep_freed_memory
from uniwhisper.batches import Draw
from uniwhisper.errors import TrainingError, UniWhisperError
from uniwhisper.train.batch import Batch, PackedBatch, pack, unpack

__all__ = ["Job", "load_by_thread", "load_by_workers"]

Job = tuple[int, Sequence[Draw]]
"""The number of a batch, and what is in it."""


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error on its way out of a worker process."""

    error: Exception
    text: str
    """Its traceback there."""


class _WorkerTraceback(Exception):
    """Shows, as the cause of an error, where in a worker process it came from."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def load_by_thread(make: Callable[[int], Batch], numbers: Iterable[int], ahead: int) -> Iterator[Batch]:
    """Yield the batches `numbers` in order, made by one thread, `ahead` of them before they are asked for.

    Raises:
        TrainingError: Memory ran out.
        Exception: Whatever `make` raises; where it is not an error of ours, with a note that says in which batch.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed") as pool:
        rest = ((number, pool.submit(make, number)) for number in numbers)
        waiting = deque(islice(rest, ahead))
        try:
            while waiting:
                number, future = waiting.popleft()
                try:
                    batch = future.result()
                except Exception as e:
                    told = _told(e, number)
                    if told is e:
                        raise
                    raise told from e
                waiting.extend(islice(rest, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)


def load_by_workers(make: Callable[[Job], Batch], jobs: Iterable[Job], *, workers: int, ahead: int) -> Iterator[Batch]:
    """Yield the batches of `jobs` in order, made by `workers` processes, `ahead` by each before they are asked for.

    Args:
        make: Makes a batch; picklable. Every process gets a copy when it starts.
        jobs: What to make, read as it is needed.
        workers: Processes.
        ahead: Batches that each process prepares.

    Raises:
        TrainingError: A process died, or memory ran out.
        Exception: Whatever `make` raises, with its traceback in the process as the cause.
    """
    numbers: deque[int] = deque()

    def noted() -> Iterator[Job]:
        for job in jobs:
            numbers.append(job[0])
            yield job

    loader = DataLoader(
        _Dataset(make),
        batch_size=None,
        sampler=noted(),  # type: ignore[arg-type]  # read once: this loader is iterated once
        num_workers=workers,
        prefetch_factor=ahead,
        worker_init_fn=_settle,
        multiprocessing_context=_fresh_processes(),
        generator=torch.Generator(),  # the loader draws a number that nothing uses: not from the global stream
    )
    answers = _started(loader)
    try:
        while True:
            answer, lost = None, ""
            try:
                answer = next(answers, None)
            except (RuntimeError, OSError, EOFError) as e:  # the loader's own: what `make` raises comes as an answer
                lost = f"{type(e).__name__}: {e}"
            if lost:  # here, where no error holds on to the loader
                raise TrainingError(_how_workers_die(workers, lost))
            if answer is None:
                return
            number = numbers.popleft()
            if isinstance(answer, _Failure):
                raise _told(answer.error, number) from _WorkerTraceback(answer.text)
            yield unpack(answer)
    finally:
        del answers  # ends the workers now: the garbage collector would first break the queues that tell them to end


def _started(loader: DataLoader[Any]) -> Iterator[Any]:
    """Return the loader's answers, from workers that a SIGTERM to the whole process group does not end.

    Schedulers and launchers send it to the group. The run wants to end its step and save, and needs its batches for it;
    workers inherit what is blocked while they are started, and end with the loader.
    """
    resource_tracker.ensure_running()  # before: starting it would unblock the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        return iter(loader)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _told(error: Exception, number: int) -> Exception:
    """Return an error of ours as it is, memory that ran out as one of ours, and any other with its batch noted."""
    if isinstance(error, MemoryError):
        return TrainingError(
            f"batch {number}: expected memory for its samples, found none left ({error}). Lower cache_mb, "
            "machine.workers or machine.ahead, then run the same command again"
        )
    if not isinstance(error, UniWhisperError):
        error.add_note(f"while batch {number} was made")
    return error


def _how_workers_die(workers: int, found: str) -> str:
    return (
        f"expected {workers} data workers (machine.workers) until the end, found: {found}. A worker is killed where "
        "memory runs out: lower machine.workers, machine.ahead or cache_mb; in a container, where /dev/shm is too "
        "small: raise it (docker run --shm-size) or set machine.workers=0. A script of your own that trains with "
        "workers needs `if __name__ == '__main__':` around what it does. Then run the same command again: it goes on "
        "from its last checkpoint"
    )


class _Dataset(Dataset[PackedBatch | _Failure]):
    """Makes batches in a worker, ready to travel; errors travel too, for the loader would change them."""

    def __init__(self, make: Callable[[Job], Batch]) -> None:
        self._make = make

    def __getitem__(self, job: Job) -> PackedBatch | _Failure:
        try:
            return pack(self._make(job))
        except Exception as e:
            return _packed_failure(e)


def _packed_failure(error: Exception) -> _Failure:
    text = "".join(traceback.format_exception(error))
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return _Failure(error, text)
    except Exception:  # what an error of some library takes to be pickled, nobody knows
        text = f"{text}\n(this error cannot be sent between processes)"
    return _Failure(TrainingError(f"expected a batch from a data worker, found {type(error).__name__}: {error}"), text)


def _fresh_processes() -> BaseContext:
    """Return the way to start workers: never as copies of this process.

    Once this process has computed a log-mel, the memory of the library that does the Fourier transform may be in use
    by one of its threads; a copy made in that moment waits for that thread forever. Workers are forked from a process
    that has imported this module and computed nothing, which costs milliseconds each.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload(["uniwhisper.train.feed"])
    return context


def _settle(worker: int) -> None:
    """Let Ctrl-C reach the run alone, which ends its step with the batches that the workers hold; and keep memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    keep_freed_memory()  # batches are of one size: a third of a log-mel would go into asking for the same pages again
