"""Work side by side keeps its order, and a computation keeps its one thread."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest
import torch
from threadpoolctl import threadpool_info

from uniwhisper.threads import map_threads, num_threads, one_thread_each


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


def test_one_thread_each_and_back_again():
    np.ones((2, 2)) @ np.ones((2, 2))
    before = torch.get_num_threads(), blas_threads()
    with one_thread_each():
        assert torch.get_num_threads() == 1
        assert blas_threads() == {1}
        with one_thread_each():
            pass
        assert torch.get_num_threads() == 1, "an inner block must not end the outer one"
    assert (torch.get_num_threads(), blas_threads()) == before


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_order_whoever_is_first(threads):
    def slow_first(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return number * number

    assert list(map_threads(slow_first, range(20), threads=threads)) == [n * n for n in range(20)]


def test_pieces_run_side_by_side_and_are_not_all_drawn_at_once():
    meet = threading.Barrier(2, timeout=5)
    assert list(map_threads(lambda n: meet.wait() >= 0, range(4), threads=2)) == [True] * 4
    drawn = []

    def pieces():
        for n in range(100):
            drawn.append(n)
            yield n

    results = map_threads(lambda n: n, pieces(), threads=2)
    assert next(results) == 0
    assert len(drawn) <= 5, "a pass over a corpus must not be read into memory ahead of the computation"


def test_an_error_in_a_piece_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        list(map_threads(lambda n: 1 // n, [1, 0], threads=2))


def test_the_environment_decides_how_many(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert num_threads() == 3
    for unusable in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", unusable)
        assert num_threads() >= 1


def test_pieces_compute_with_as_many_threads_as_the_caller():
    def openmp_threads(_: int) -> list[int]:
        # torch's own count is the process's; OpenMP, which its kernels ask, counts for each thread apart
        return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"]

    with one_thread_each():
        here = openmp_threads(0)
        assert set(here) == {1}
        assert list(map_threads(openmp_threads, range(6), threads=3)) == [here] * 6
