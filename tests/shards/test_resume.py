"""A run that is killed and started again ends in the same bytes as one that was left alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uniwhisper.manifest import write_manifest
from uniwhisper.shards import Sharding, write_shards
from uniwhisper.types import Clip

from . import killed
from .conftest import SHARD_MB, tree

NUM_KILLS = 20

RunKilled = Callable[[Path, int], tuple[int, int]]


@pytest.fixture(scope="module")
def run_killed(corpus: list[Clip]) -> RunKilled:
    """Return a function that makes the set in a process of its own, kills it at an event, and counts the events."""
    # Processes are forked from a server that has imported everything and has no threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", killed.__name__])

    def run(folder: Path, kill_at: int) -> tuple[int, int]:
        counted: Any = context.Value("q", 0)
        process = context.Process(target=killed.run, args=(corpus, folder, SHARD_MB, kill_at, counted))
        process.start()
        process.join()
        assert process.exitcode is not None
        return process.exitcode, counted.value

    return run


@pytest.fixture(scope="module")
def num_events(run_killed: RunKilled, sharded: Sharding, tmp_path_factory: pytest.TempPathFactory) -> int:
    """Return how many events a run has that is left alone."""
    folder = tmp_path_factory.mktemp("whole")
    code, count = run_killed(folder, 0)
    assert (code, tree(folder)) == (0, tree(sharded.folder))
    assert count > 5 * NUM_KILLS
    return count


@pytest.mark.slow
def test_killed_anywhere_and_run_again(
    run_killed: RunKilled, num_events: int, corpus: list[Clip], sharded: Sharding, tmp_path: Path
) -> None:
    expected = tree(sharded.folder)
    for kill_at in sorted(random.Random(3).sample(range(1, num_events + 1), NUM_KILLS)):
        folder = tmp_path / f"kill-{kill_at}"
        assert run_killed(folder, kill_at) == (-signal.SIGKILL, kill_at)
        assert write_shards(corpus, folder, shard_mb=SHARD_MB, workers=1).key == sharded.key
        assert tree(folder) == expected, f"killed at event {kill_at} of {num_events}"


@pytest.mark.slow
def test_killed_again_and_again(run_killed: RunKilled, num_events: int, sharded: Sharding, tmp_path: Path) -> None:
    places = random.Random(5)
    codes = []
    while not codes or codes[-1]:
        codes.append(run_killed(tmp_path, places.randint(num_events // 8, num_events // 2))[0])
        assert len(codes) < 30
    assert len(codes) > 3
    assert tree(tmp_path) == tree(sharded.folder)


@pytest.mark.slow
def test_a_killed_command_with_workers(corpus: list[Clip], sharded: Sharding, tmp_path: Path) -> None:
    """As a user would see it: `kill -9` of the command line, its workers left to themselves."""
    write_manifest(tmp_path / "manifest.jsonl", corpus)
    out = tmp_path / "out"
    arguments = [sys.executable, "-m", "uniwhisper", "shards", str(tmp_path), "--out", str(out), "--workers", "2"]
    arguments += ["--shard-mb", str(SHARD_MB)]
    groups = []
    for wait_s in (1.0, 2.0):
        with subprocess.Popen(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as process:
            groups.append(process.pid)
            time.sleep(wait_s)
            process.kill()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    assert tree(out) == tree(sharded.folder)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)
