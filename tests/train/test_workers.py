from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from uniwhisper.errors import AudioError, TrainingError
from uniwhisper.train.batch import Batch
from uniwhisper.train.workers import load_by_thread, load_by_workers

from .makers import Maker, Unsendable, plain_batch

Load = Callable[[Maker, Iterable[int]], Iterator[Batch]]


def by_thread(maker: Maker, numbers: Iterable[int]) -> Iterator[Batch]:
    return load_by_thread(lambda number: maker((number, [])), numbers, 2)


def by_worker(maker: Maker, numbers: Iterable[int]) -> Iterator[Batch]:
    return load_by_workers(maker, ((number, []) for number in numbers), workers=1, ahead=2)


BOTH = pytest.mark.parametrize("load", [by_thread, by_worker], ids=["thread", "worker"])


def taken(batches: Iterator[Batch]) -> tuple[list[int], BaseException | None]:
    """Return the numbers of the batches that came, and what ended them."""
    found: list[int] = []
    try:
        for batch in batches:
            assert batch.mels[0].shape == (2, 3)
            assert float(batch.tails[0][1, 1]) == float(batch.mels[0][0, 0]) + 0.5
            found.append(int(batch.mels[0][0, 0]))
    except Exception as e:
        return found, e
    return found, None


@BOTH
def test_batches_come_in_the_order_of_their_numbers(load: Load) -> None:
    numbers = [5, 1, 9, 0, 7, 7]
    assert taken(load(Maker(), numbers)) == (numbers, None)


@BOTH
def test_an_error_of_ours_comes_as_it_is_after_the_batches_before_it(load: Load) -> None:
    found, error = taken(load(Maker("ours"), range(6)))
    assert found == [0, 1, 2]
    assert type(error) is AudioError
    assert str(error) == "clip 'x' of 'y': expected audio, found none"


@BOTH
def test_a_bug_keeps_its_type_and_says_where_it_was(load: Load) -> None:
    found, error = taken(load(Maker("bug"), range(6)))
    assert found == [0, 1, 2]
    assert type(error) is KeyError
    assert error.args == ("a bug",)
    assert error.__notes__ == ["while batch 3 was made"]
    if load is by_worker:
        assert 'raise KeyError("a bug")' in str(error.__cause__)
        assert "makers.py" in str(error.__cause__)


def test_an_error_that_cannot_be_sent_is_told() -> None:
    found, error = taken(by_worker(Maker("unsendable"), range(6)))
    assert found == [0, 1, 2]
    assert isinstance(error, TrainingError)
    assert "found Unsendable: this and that" in str(error)
    assert "makers.py" in str(error.__cause__)
    assert isinstance(taken(by_thread(Maker("unsendable"), range(6)))[1], Unsendable)


@BOTH
def test_memory_that_runs_out_is_told_with_what_to_do(load: Load) -> None:
    found, error = taken(load(Maker("memory"), range(6)))
    assert found == [0, 1, 2]
    assert isinstance(error, TrainingError)
    assert str(error).startswith("batch 3: expected memory")
    assert "cache_mb" in str(error)


@pytest.mark.slow
def test_a_killed_worker_ends_the_run_with_what_to_do() -> None:
    began = time.monotonic()
    found, error = taken(by_worker(Maker("killed"), range(6)))
    assert found == [0, 1, 2][: len(found)]  # what it had made may die with it
    assert isinstance(error, TrainingError)
    assert str(error).startswith("expected 1 data workers (machine.workers) until the end, found: ")
    assert "lower machine.workers, machine.ahead or cache_mb" in str(error)
    assert time.monotonic() - began < 60


def test_a_sigterm_to_the_whole_process_group_leaves_the_batches_that_the_step_needs() -> None:
    """In a process of its own, where nobody else has started the server that workers are forked from."""
    program = """
from train.makers import Maker
from uniwhisper.train.workers import load_by_workers

if __name__ == "__main__":
    batches = load_by_workers(Maker(kind="terminated"), [(n, []) for n in range(8)], workers=2, ahead=1)
    print([int(batch.mels[0][0, 0]) for batch in batches])
"""
    tests = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert ended.stdout.split() == ["[0,", "1,", "2,", "3,", "4,", "5,", "6,", "7]"], ended.stderr[-2000:]


def test_numbers_are_read_as_they_are_needed() -> None:
    read: list[int] = []

    def endless() -> Iterator[int]:
        for number in range(10**9):
            read.append(number)
            yield number

    for load in (by_thread, by_worker):
        read.clear()
        batches = load(Maker(), endless())
        assert [int(next(batches).mels[0][0, 0]) for _ in range(3)] == [0, 1, 2]
        assert len(read) <= 6
        batches.close()  # type: ignore[attr-defined]


def test_a_feed_that_is_given_up_leaves_no_thread() -> None:
    made: list[int] = []
    before = set(threading.enumerate())  # a test whose error is kept keeps its feed

    def slow(number: int) -> Batch:
        made.append(number)
        time.sleep(0.05)
        return plain_batch(number)

    batches = load_by_thread(slow, range(100), ahead=20)
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert len(made) <= 3  # those that were waiting are not made any more
    assert set(threading.enumerate()) <= before
