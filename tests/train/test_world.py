from __future__ import annotations

import os
import time
from typing import Any

import pytest
import torch

from uniwhisper.errors import ConfigError, TrainingError
from uniwhisper.train.machine import MachineConfig
from uniwhisper.train.world import World, explained, joined_world

from .ranks import free_port, ranks

CPU = MachineConfig(device="cpu")


class Stopped(Exception):
    """What all ranks raise together."""


def talk(rank: int) -> dict[str, Any]:
    """Use everything a world has."""
    with joined_world(CPU) as world:
        value = torch.tensor([rank + 1.0, 10.0])
        summed = world.sum(value)
        numbers = {
            "b": torch.full((3,), float(rank)),
            "a": torch.full((2, 3), rank, dtype=torch.bfloat16).T,
            "scalar": torch.tensor(rank + 5),
        }
        world.broadcast(numbers)
        return {
            "place": (world.rank, world.size, world.local_rank, str(world.device), world.is_main),
            "sum": (summed.tolist(), value.tolist()),
            "least": world.least(torch.tensor([rank, 5 - rank])).tolist(),
            "any": (world.any(rank == 1), world.any(False)),
            "gather": world.gather({"rank": rank}),
            "broadcast": {name: value.float().flatten().tolist() for name, value in numbers.items()},
        }


def part(rank: int) -> list[str]:
    """End a world in four ways, one after the other."""
    port = int(os.environ["MASTER_PORT"])
    seen = []
    for number, ending in enumerate((None, Stopped("all"), ValueError("1"), ValueError("0"))):
        os.environ["MASTER_PORT"] = str(port + number)
        began = time.monotonic()
        try:
            with joined_world(CPU, orderly=(Stopped,), beat_s=0.1) as world, explained(world):
                if isinstance(ending, ValueError):
                    if str(rank) == str(ending):
                        raise ending
                    world.barrier()
                elif ending:
                    time.sleep(0.5 * rank)
                    raise ending
        except (Stopped, ValueError, TrainingError) as e:
            seen.append(f"{type(e).__name__}: {e}")
        seen.append("soon" if time.monotonic() - began < 8 else "late")
    return seen


def test_two_ranks_talk() -> None:
    first, second = ranks(talk, 2)
    assert first["place"] == (0, 2, 0, "cpu", True)
    assert second["place"] == (1, 2, 1, "cpu", False)
    assert first["sum"] == ([3.0, 20.0], [1.0, 10.0])
    assert second["sum"] == ([3.0, 20.0], [2.0, 10.0])
    assert first["least"] == second["least"] == [0, 4]
    assert first["any"] == second["any"] == (True, False)
    assert first["gather"] == [{"rank": 0}, {"rank": 1}]
    assert second["gather"] is None
    assert first["broadcast"] == second["broadcast"] == {"b": [0.0] * 3, "a": [0.0] * 6, "scalar": [5.0]}


def test_ranks_part_together_or_with_a_reason() -> None:
    first, second = ranks(part, 2)
    assert first[:3] == second[:3] == ["soon", "Stopped: all", "soon"]
    for failed, other, at in (("1", first, 3), ("0", second, 5)):
        assert (second if other is first else first)[at : at + 2] == [f"ValueError: {failed}", "soon"]
        assert other[at].startswith(f"TrainingError: rank {failed} of 2 (")
        assert f"ended with an error: ValueError: {failed}. The run cannot go on without it" in other[at]
        assert other[at + 1] == "soon"


def test_one_rank_needs_no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with joined_world(CPU) as world, explained(world):
        value = torch.tensor([1.0])
        assert world == World()
        assert world.sum(value).tolist() == [1.0]
        assert world.sum(value).data_ptr() != value.data_ptr()
        assert world.gather("x") == ["x"]
        assert world.any(True)
        world.broadcast({"value": value})
        world.barrier()
    assert not torch.distributed.is_initialized()


def test_errors_of_one_rank_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="Connection closed by peer"), explained(World()):
        raise RuntimeError("Connection closed by peer")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "expected RANK from 0 to WORLD_SIZE - 1"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "MASTER_ADDR and MASTER_PORT are not in the environment"),
        ({"WORLD_SIZE": "two"}, "environment variable WORLD_SIZE: expected a whole number, found 'two'"),
    ],
)
def test_wrong_environment(changes: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match=message), joined_world(CPU):
        pass


@pytest.mark.parametrize(
    ("device", "local_rank", "ranks_here", "gpus", "expected"),
    [
        ("auto", 0, 1, 0, "cpu"),
        ("cpu", 1, 2, 8, "cpu"),
        ("auto", 3, 4, 8, "cuda:3"),
        ("cuda", 1, 2, 8, "cuda:1"),
        ("cuda:5", 0, 1, 8, "cuda:5"),
    ],
)
def test_device(
    device: str, local_rank: int, ranks_here: int, gpus: int, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uniwhisper.train.world import _device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert str(_device(device, local_rank, ranks_here)) == expected


@pytest.mark.parametrize(
    ("device", "local_rank", "ranks_here", "gpus", "message"),
    [
        ("cuda", 0, 1, 0, r"cuda asks for GPU 0, and torch \S+ finds 0 here"),
        ("auto", 2, 3, 2, "auto asks for GPU 2, and torch .* finds 2 here"),
        ("cuda:1", 0, 2, 2, "cuda:1 would put 2 ranks on one GPU"),
        ("gpu", 0, 1, 1, "expected auto, cpu, cuda or cuda:N, found 'gpu'"),
        ("cuda:x", 0, 1, 1, "expected auto, cpu, cuda or cuda:N, found 'cuda:x'"),
    ],
)
def test_no_such_device(
    device: str, local_rank: int, ranks_here: int, gpus: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uniwhisper.train.world import _device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(ConfigError, match=message):
        _device(device, local_rank, ranks_here)


def test_a_rank_that_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    from datetime import timedelta

    from uniwhisper.train import world

    monkeypatch.setattr(world, "_MEET_WITHIN", timedelta(seconds=1))
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MASTER_PORT", str(free_port()))
    message = r"rank 1 of 2 waited for the others at 127\.0\.0\.1:\d+ for up to 0:00:01"
    with pytest.raises(TrainingError, match=message), joined_world(CPU):
        pass
