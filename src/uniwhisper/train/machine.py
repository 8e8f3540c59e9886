"""Where and how a run is carried out: device, processes, data workers.

None of it decides which weights come out, except by rounding, so a run may be resumed on another machine.
"""

from __future__ import annotations

from dataclasses import dataclass

from uniwhisper.errors import ConfigError

__all__ = ["SHARDING", "MachineConfig"]

SHARDING = ("ddp", "fsdp")


@dataclass(frozen=True, kw_only=True, slots=True)
class MachineConfig:
    """Settings of the machine that a run is on."""

    device: str = "auto"
    """`auto` (CUDA where there is a GPU), `cpu`, `cuda` or `cuda:N`; a rank of several takes the GPU of its number."""
    sharding: str = "ddp"
    """Several processes: `ddp` copies the network to each, `fsdp` spreads weights and optimiser over them (FSDP2)."""
    workers: int = 0
    """Processes that prepare batches; 0 prepares them in a thread."""
    ahead: int = 2
    """Batches prepared before they are asked for, by each worker."""
    mel: str = "auto"
    """Where log-mels are computed: `host`, `device`, or `auto` (on the device where that is a GPU)."""
    pin: bool = True
    """Copy batches to a GPU from pinned memory beside the computation; means nothing on a CPU."""
    pieces: int = 1
    """Each batch is computed in so many pieces of equal cost: less memory, the same gradients."""

    def __post_init__(self) -> None:
        if self.sharding not in SHARDING:
            raise ConfigError(f"machine.sharding: expected one of {SHARDING}, found {self.sharding!r}")
        if self.mel not in ("auto", "host", "device"):
            raise ConfigError(f"machine.mel: expected auto, host or device, found {self.mel!r}")
        if self.workers < 0 or self.ahead < 1 or self.pieces < 1:
            raise ConfigError("machine: expected workers >= 0, ahead >= 1 and pieces >= 1")
