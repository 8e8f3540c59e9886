"""The network on one rank, copied to all of them (DDP), or spread over them (FSDP2), behind one way to call it.

The frozen decoder is left whole on every rank and outside of either. The gradient of a step is that of the mean loss
over the answer tokens of the global batch whichever way is taken (gradients.py), to rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from uniwhisper.errors import ConfigError
from uniwhisper.model.uniwhisper import UniWhisper
from uniwhisper.train.batch import Batch
from uniwhisper.train.machine import MachineConfig
from uniwhisper.train.world import World

__all__ = ["Network", "check_split", "full_tensors", "parallelise"]


class Network:
    """A network that several ranks train together; names, state and parameters are those of `model`."""

    def __init__(self, model: UniWhisper, world: World, *, sharding: str) -> None:
        """Use `parallelise`.

        Args:
            model: The network, already spread over the ranks where `sharding` is `fsdp`.
            world: The ranks.
            sharding: `ddp` or `fsdp`; means nothing on one rank.
        """
        self.model = model
        """The bare network, for names, state and parameters; its parameters are DTensors under FSDP2."""
        self.sharding = sharding if world.size > 1 else "none"
        self._frozen = False
        self._copies: DistributedDataParallel | None = None

    def phase(self, *, frozen: bool) -> None:
        """Say before a step whether the audio model is frozen in it (the alignment phase); every rank says the same.

        What takes no part in the loss must not be waited for, so DDP is set up anew when this changes; that costs
        milliseconds, where looking for unused parameters would cost them in every step.
        """
        self.model.freeze_audio(frozen)
        if frozen != self._frozen:
            self._copies = None
        self._frozen = frozen

    def close(self) -> None:
        """Let go of DDP while the process group is there: its end waits for threads that need Python's lock."""
        self._copies = None

    def losses(self, batch: Batch) -> Any:
        """Return the network's losses for a batch; within `passing` where a backward follows."""
        network = self._ddp() if self.sharding == "ddp" else self.model
        return network(batch.mels, batch.tails, batch.turns)

    @contextmanager
    def passing(self, *, last: bool) -> Iterator[None]:
        """Wrap one forward and its backward; the gradients of a step are added up over the ranks in its last backward.

        They travel while that backward still computes; before it, every rank keeps its own.
        """
        if self.sharding == "fsdp":
            for part in (self.model.audio, self.model.adapter):
                part.set_requires_gradient_sync(last)  # type: ignore[operator]
        with self._ddp().no_sync() if self.sharding == "ddp" and not last else nullcontext():
            yield

    def _ddp(self) -> DistributedDataParallel:
        if self._copies is None:
            if self.model.audio.encoder.execution.compile:
                # The compiler would cut the layers where DDP's messages begin, which lie between layers anyway.
                torch._dynamo.config.optimize_ddp = False
            trained = _Trained(self.model, frozen=self._frozen)
            self._copies = DistributedDataParallel(trained, gradient_as_bucket_view=True)
        return self._copies


class _Trained(nn.Module):
    """What DDP sees of the network: the parts that learn in this phase. Calls go to the whole network."""

    def __init__(self, model: UniWhisper, *, frozen: bool) -> None:
        super().__init__()
        self.adapter = model.adapter
        if not frozen:
            self.audio = model.audio
        self._whole = (model,)  # in a tuple, so that its parameters are not these

    def forward(self, *inputs: Any) -> Any:
        """Return the network's losses."""
        return self._whole[0](*inputs)


def parallelise(model: UniWhisper, world: World, machine: MachineConfig) -> Network:
    """Return the network ready for the ranks of `world`; every rank must hold the same weights (`World.broadcast`).

    Under FSDP2 the parameters of audio model and adapter are DTensors from here on, so optimisers, averages and
    anything else that holds parameters are made afterwards.

    Source: `torch.distributed.fsdp.fully_shard`, https://docs.pytorch.org/docs/stable/distributed.fsdp.fully_shard.html
    """
    if world.size > 1 and machine.sharding == "fsdp":
        _shard(model, world)
    return Network(model, world, sharding=machine.sharding)


def check_split(accumulation: int, world: World, machine: MachineConfig, *, parallel: int = 1) -> None:
    """Check that a step's batches can be shared by the ranks.

    Raises:
        ConfigError: A rank would have no batch; FSDP2 ranks would not have equally many; `parallel` asks for what only
            whole networks on CPUs can do.
    """
    if accumulation < world.size:
        raise ConfigError(
            f"accumulation: a step of {accumulation} batches leaves some of {world.size} ranks without one. "
            f"Raise it to {world.size} or more and lower batches.tokens, to keep the step's size, or start fewer ranks"
        )
    sharded = world.size > 1 and machine.sharding == "fsdp"
    if sharded and accumulation % world.size:
        raise ConfigError(
            f"accumulation: with machine.sharding=fsdp all ranks compute equally many batches, and {accumulation} is "
            f"no multiple of {world.size} ranks. Change accumulation, the number of ranks, or take machine.sharding=ddp"
        )
    if parallel > 1 and sharded:
        raise ConfigError(
            f"parallel: {parallel} batches at once are for ranks that hold a whole network, found "
            f"machine.sharding={machine.sharding}. Set parallel=1"
        )


def full_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors with every spread one put together; all ranks call this with the same names."""
    return {name: _full(tensor) for name, tensor in tensors.items()}


def _full(tensor: Tensor) -> Tensor:
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _shard(model: UniWhisper, world: World) -> None:
    """Spread audio model and adapter over the ranks in place, a group of parameters a layer."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(world.device.type, (world.size,))
    for part in (*model.audio.encoder.layers, model.audio, model.adapter):
        # Always freed after the forward: in the alignment phase no backward of the audio model follows that would.
        fully_shard(part, mesh=mesh, reshard_after_forward=True)
