"""The processes of a run and what they tell each other.

Reads the environment that `torchrun` sets (`RANK`, `WORLD_SIZE`, `LOCAL_RANK`, `MASTER_ADDR`, `MASTER_PORT`), or that
any other launcher sets in its place; without it the run is one process, and everything here costs nothing.
Figures and messages travel over gloo on CPU tensors, gradients over NCCL where the ranks have GPUs.

How a run uses it:

    with joined_world(config.machine, orderly=(Interrupted,)) as world, explained(world):
        check_split(config.accumulation, world, config.machine, parallel=config.parallel)  # parallel.py
        ...                                     # build; rank 0 alone does the warm start
        world.broadcast(model.trainable_state())                          # every rank starts from rank 0's weights
        network = parallelise(model, world, config.machine)               # optimiser only after this
        for each step:
            network.phase(frozen=step < align_steps)
            total = int(world.sum(torch.tensor(tokens of this rank's batches)))
            losses = accumulate_gradients(network, group, world=world, total=total, parallel=..., pieces=...)
            stop = world.any(bool(signals))

`sum`, `least`, `gather`, `any`, `barrier` and `broadcast` are collectives: every rank calls them in the same order and
from its main thread. Whoever talks from a thread of its own (a checkpoint written in the background) needs a process
group of its own, or its messages get mixed up with these.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from uniwhisper.errors import ConfigError, TrainingError
from uniwhisper.train.heartbeat import Heartbeat
from uniwhisper.train.machine import MachineConfig

__all__ = ["World", "explained", "joined_world"]

_MEET_WITHIN = timedelta(minutes=5)
"""For all ranks to start."""
_ANSWER_WITHIN = timedelta(days=7)
"""For one collective: others may wait while rank 0 fetches, packs shards or judges. Lost ranks are the heartbeat's."""
_PART_WITHIN_S = 10.0
"""For connections to close; with a rank lost they may not."""
_BROKEN = (
    "Connection closed by peer",
    "Connection reset by peer",
    "Broken pipe",
    "Connection refused",
    "Timed out waiting",
    "gloo/transport",
    "NCCL",
)
"""What torch's errors say when a rank cannot be reached. Source: the messages of gloo/transport/tcp/pair.cc and
torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp."""


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """One process's place among those of the run."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number among the ranks on the same machine."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    heartbeat: Heartbeat | None = None
    """None where there is one rank."""

    @property
    def is_main(self) -> bool:
        """Return whether this is the rank that writes what only one may write."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over all ranks, as a new tensor on the CPU; shape and type are those of `tensor`."""
        return self._reduced(tensor, dist.ReduceOp.SUM)

    def least(self, tensor: Tensor) -> Tensor:
        """Return the smallest value over all ranks, element by element, as a new tensor on the CPU."""
        return self._reduced(tensor, dist.ReduceOp.MIN)

    def any(self, flag: bool) -> bool:
        """Return whether any rank says so; all ranks get the same answer."""
        return bool(self.sum(torch.tensor(int(flag))))

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.any(False)

    def gather(self, value: Any) -> list[Any] | None:
        """Return the values of all ranks in their order on rank 0, and None on the others."""
        if self.size == 1:
            return [value]
        values: list[Any] | None = [None] * self.size if self.is_main else None
        dist.gather_object(value, values)
        return values

    @torch.no_grad()
    def broadcast(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy rank 0's tensors into those of every rank, in place; names and shapes are the same everywhere."""
        if self.size == 1:
            return
        for name in sorted(tensors):
            tensor = tensors[name].detach()
            whole = tensor.contiguous()
            # As bytes: not every backend knows every type.
            dist.broadcast(whole.view(-1).view(torch.uint8), src=0)
            if whole.data_ptr() != tensor.data_ptr():
                tensor.copy_(whole)

    def _reduced(self, tensor: Tensor, operation: Any) -> Tensor:
        result = tensor.detach().to("cpu", copy=True).contiguous()
        if self.size > 1:
            dist.all_reduce(result, op=operation)
        return result


@contextmanager
def joined_world(
    machine: MachineConfig,
    *,
    orderly: tuple[type[BaseException], ...] = (),
    beat_s: float = 1.0,
    silent_after: int = 20,
) -> Iterator[World]:
    """Meet the other ranks, and part from them at the end.

    A block that ends well, or with one of `orderly`, waits for all ranks to end so. Any other error is told to the
    other ranks, whose `explained` or heartbeat then ends them.

    Args:
        machine: Names the device.
        orderly: Exceptions that all ranks raise in the same step, such as the one of a run that was asked to stop.
        beat_s: Seconds between two signs of life.
        silent_after: Signs of life that a rank may miss before the others take it for lost.

    Raises:
        ConfigError: The device is not there, or the environment is not that of a launcher.
        TrainingError: Not all ranks came in time.
    """
    rank, size, local_rank = _environment()
    device = _device(machine.device, local_rank, _number("LOCAL_WORLD_SIZE", 1))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if size == 1:
        yield World(device=device)
        return
    heartbeat, store = _meet(rank, size, device, beat_s, silent_after)
    world = World(rank=rank, size=size, local_rank=local_rank, device=device, heartbeat=heartbeat)
    try:
        try:
            yield world
        except orderly:
            _end_together(world, heartbeat)
            raise
        _end_together(world, heartbeat)
    except BaseException as e:
        heartbeat.leave(e)  # says nothing more where the ranks have ended together
        _part()  # whoever waits for this rank in a collective learns it now
        if not isinstance(e, orderly):
            heartbeat.linger()
        raise
    else:
        _part()
    finally:
        del store  # rank 0 may hold all of it, so it stays until the others have read how this ended


@contextmanager
def explained(world: World) -> Iterator[None]:
    """Turn the errors of broken connections into one that names the rank that is lost and says how to go on.

    All other errors pass as they are.

    Raises:
        TrainingError: Another rank is gone.
    """
    try:
        yield
    except RuntimeError as e:
        if world.heartbeat is None or isinstance(e, torch.OutOfMemoryError) or not _is_broken(e):
            raise
        raise TrainingError(world.heartbeat.explain()) from e


def _is_broken(error: RuntimeError) -> bool:
    text = str(error)
    return isinstance(error, dist.DistError) or any(sign in text for sign in _BROKEN)


def _environment() -> tuple[int, int, int]:
    """Return rank, number of ranks and rank on this machine."""
    rank, size = _number("RANK", 0), _number("WORLD_SIZE", 1)
    local_rank = _number("LOCAL_RANK", 0)
    if not 0 <= rank < size or local_rank < 0:
        raise ConfigError(
            f"expected RANK from 0 to WORLD_SIZE - 1 and LOCAL_RANK from 0 in the environment, found {rank}, {size} "
            f"and {local_rank}. Start several ranks with: torchrun --nproc-per-node N -m uniwhisper train ..."
        )
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if not os.environ.get(name)]
    if size > 1 and missing:
        raise ConfigError(
            f"WORLD_SIZE={size} asks for several ranks, and {' and '.join(missing)} are not in the environment. "
            "Start them with: torchrun --nproc-per-node N -m uniwhisper train ..."
        )
    return rank, size, local_rank


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    try:
        return int(text)
    except ValueError as e:
        raise ConfigError(f"environment variable {name}: expected a whole number, found {text!r}") from e


def _device(name: str, local_rank: int, local_size: int) -> torch.device:
    """Return the device of this rank."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and count == 0):
        return torch.device("cpu")
    kind, _, number = name.partition(":")
    if kind not in ("auto", "cuda") or (number and not number.isdigit()) or (kind == "auto" and number):
        raise ConfigError(f"machine.device: expected auto, cpu, cuda or cuda:N, found {name!r}")
    if number and local_size > 1:
        raise ConfigError(
            f"machine.device: {name} would put {local_size} ranks on one GPU; give cuda, and each rank takes its own"
        )
    index = int(number) if number else local_rank
    if index >= count:
        raise ConfigError(
            f"machine.device: {name} asks for GPU {index}, and torch {torch.__version__} finds {count} here. "
            "Give cpu, start fewer ranks, or install a torch with CUDA"
        )
    return torch.device("cuda", index)


def _end_together(world: World, heartbeat: Heartbeat) -> None:
    """Wait until all ranks are done, and again until none of them needs the store."""
    with explained(world):
        world.barrier()
        heartbeat.leave()
        world.barrier()


def _meet(rank: int, size: int, device: torch.device, beat_s: float, silent_after: int) -> tuple[Heartbeat, Any]:
    """Join the process group and start the heartbeat; return it and the ranks' store."""
    address = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store, _, _ = next(iter(rendezvous("env://", rank, size, timeout=_MEET_WITHIN)))
        # Calls to one connection wait for each other, so the heartbeat gets its own.
        host, _, port = address.rpartition(":")
        own = dist.TCPStore(host, int(port), is_master=False, timeout=_MEET_WITHIN)  # type: ignore[attr-defined]
        launcher = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
        heartbeat = Heartbeat(
            dist.PrefixStore(f"uniwhisper/{attempt}", own),  # type: ignore[attr-defined]
            rank=rank,
            size=size,
            hosts_store=not launcher,
            interval_s=beat_s,
            silent_after=silent_after,
        )
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_ANSWER_WITHIN)
    except (dist.DistError, RuntimeError, TimeoutError) as e:
        raise TrainingError(
            f"rank {rank} of {size} waited for the others at {address} for up to {_MEET_WITHIN}, in vain: "
            f"{str(e).splitlines()[0]}. Look at how the other ranks ended, and that they can reach this address"
        ) from e
    heartbeat.start()
    return heartbeat, store


def _part() -> None:
    """Close the connections; give up where a rank that is lost keeps them open."""
    closing = threading.Thread(target=dist.destroy_process_group, name="part", daemon=True)
    closing.start()
    closing.join(_PART_WITHIN_S)
