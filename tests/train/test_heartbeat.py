from __future__ import annotations

import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from uniwhisper.errors import TrainingError
from uniwhisper.train.heartbeat import Heartbeat
from uniwhisper.train.machine import MachineConfig
from uniwhisper.train.world import explained, joined_world

from .ranks import Ranks

RESUME = "start all ranks again with the same command, and it resumes there"


def work(rank: int, alone: tuple[int, ...], silent_after: int, answer: Connection) -> str:
    """Add numbers up with the others forever; ranks in `alone` sleep instead, as one does that computes for long."""
    try:
        with (
            joined_world(MachineConfig(device="cpu"), beat_s=0.1, silent_after=silent_after) as world,
            explained(world),
        ):
            world.barrier()
            answer.send("ready")
            while True:
                if rank not in alone:
                    world.sum(torch.ones(3))
                time.sleep(0.02)
    except TrainingError as e:
        return str(e)


def ready(running: Ranks, size: int) -> None:
    assert [running.answer(rank) for rank in range(size)] == ["ready"] * size


@pytest.mark.slow
def test_killed_rank_is_named_by_those_who_wait_for_it(tmp_path: Path) -> None:
    with Ranks(work, 3, (), 600, folder=tmp_path) as running:
        ready(running, 3)
        running.signal(1, signal.SIGKILL)
        began = time.monotonic()
        for rank in (0, 2):
            message = running.answer(rank)
            assert message.startswith("no sign of life from rank 1 of 3 (")
            assert "killed, stopped or cut off" in message
            assert message.endswith(RESUME)
            assert (
                running.exit_code(rank) == 0
            )  # the error came out of the block, and the block's owner ends the process
        assert time.monotonic() - began < 15


@pytest.mark.slow
def test_stopped_rank_ends_the_process_of_those_who_wait_for_it(tmp_path: Path) -> None:
    with Ranks(work, 2, (), 20, folder=tmp_path) as running:
        ready(running, 2)
        running.signal(1, signal.SIGSTOP)
        assert running.exit_code(0, timeout_s=30) == 1
        assert "Error: no sign of life from rank 1 of 2 (" in running.stderr(0)
        assert RESUME in running.stderr(0)


@pytest.mark.slow
def test_rank_that_computes_alone_hears_of_a_killed_one_too(tmp_path: Path) -> None:
    with Ranks(work, 2, (0, 1), 20, folder=tmp_path) as running:
        ready(running, 2)
        running.signal(1, signal.SIGKILL)
        assert running.exit_code(0, timeout_s=30) == 1
        assert "no sign of life from rank 1 of 2 (" in running.stderr(0)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_rank_0_takes_the_store_with_it(number: signal.Signals, tmp_path: Path) -> None:
    with Ranks(work, 2, (0, 1), 20, folder=tmp_path) as running:
        ready(running, 2)
        running.signal(0, number)
        assert running.exit_code(1, timeout_s=30) == 1
        assert "no answer from rank 0 of 2 (" in running.stderr(1)
        assert "which holds the ranks' common store" in running.stderr(1)
        assert RESUME in running.stderr(1)


@pytest.mark.slow
def test_a_short_stop_is_no_loss(tmp_path: Path) -> None:
    with Ranks(work, 2, (), 20, folder=tmp_path) as running:
        ready(running, 2)
        for number in (signal.SIGSTOP, signal.SIGCONT):  # all of them, for longer than one may be silent
            for rank in (0, 1):
                running.signal(rank, number)
            time.sleep(3)
        assert running.exit_code(0, timeout_s=0) is None
        assert running.exit_code(1, timeout_s=0) is None
        assert running.stderr(0) == running.stderr(1) == ""


class Beats:
    """Heartbeats of several ranks in this process, over one store."""

    def __init__(self, size: int, **options: Any) -> None:
        self.store = dist.HashStore()  # type: ignore[attr-defined]
        self.messages: dict[int, list[str]] = {rank: [] for rank in range(size)}
        settings = {"size": size, "hosts_store": False, "interval_s": 0.02, "silent_after": 30} | options
        self.ranks = [
            Heartbeat(self.store, rank=rank, end=self.messages[rank].append, **settings) for rank in range(size)
        ]

    def run(self, *ranks: int, seconds: float = 1.5) -> None:
        """Let some of them beat for a while."""
        for rank in ranks:
            self.ranks[rank].start()
        time.sleep(seconds)

    def stop(self) -> None:
        """End all of them well."""
        for beat in self.ranks:
            beat.leave()


def test_ranks_that_beat_or_have_left_are_not_lost() -> None:
    beats = Beats(3)
    beats.run(0, 1, 2, seconds=0.3)
    beats.ranks[2].leave()
    time.sleep(1.5)
    beats.stop()
    assert beats.messages == {0: [], 1: [], 2: []}


def test_silent_ranks_are_named_together() -> None:
    beats = Beats(4)
    beats.run(0, 2)
    beats.stop()
    assert len(beats.messages[0]) == len(beats.messages[2]) == 1
    message = beats.messages[0][0]
    assert "from rank 1 of 4 (" in message
    assert " and rank 3 of 4 (" in message
    assert "rank 2 of 4" not in message


def test_who_failed_is_named_and_not_who_followed() -> None:
    beats = Beats(3)
    beats.run(0, 1, 2, seconds=0.2)
    beats.ranks[2].leave(ValueError("no such file"))
    message = beats.ranks[1].explain()
    beats.ranks[1].leave(TrainingError(message))
    assert message.startswith("rank 2 of 3 (")
    assert "ended with an error: ValueError: no such file. The run cannot go on" in message
    time.sleep(0.2)  # rank 0 has heard of both by now
    assert beats.ranks[0].explain() == message
    time.sleep(1)
    beats.stop()
    assert beats.messages[0] == [message]
    assert beats.messages[1] == beats.messages[2] == []


def test_a_broken_connection_between_living_ranks() -> None:
    beats = Beats(2)
    beats.run(0, 1, seconds=0.2)
    assert beats.ranks[0].explain().startswith("the connection to another rank broke, while every rank gives signs")
    beats.stop()


class Gone:
    """A store that answers until it is told not to."""

    def __init__(self) -> None:
        self.store = dist.HashStore()  # type: ignore[attr-defined]
        self.answers = True

    def __getattr__(self, name: str) -> Any:
        if not self.answers:
            raise RuntimeError("Connection reset by peer\nand a stack")
        return getattr(self.store, name)


@pytest.mark.parametrize(("hosts_store", "who"), [(True, "rank 0 of 2 ("), (False, "the launcher that holds")])
def test_lost_store(hosts_store: bool, who: str) -> None:
    store = Gone()
    messages: list[str] = []
    settings: dict[str, Any] = {"size": 2, "hosts_store": hosts_store, "interval_s": 0.02, "end": messages.append}
    first, second = (Heartbeat(store, rank=rank, **settings) for rank in range(2))
    first.start()
    second.start()
    time.sleep(0.3)
    store.answers = False
    time.sleep(1)
    first.leave()
    second.leave()
    assert any(
        message.startswith(f"no answer from {who}") and "cut off (Connection reset by peer). The run" in message
        for message in messages
    )
