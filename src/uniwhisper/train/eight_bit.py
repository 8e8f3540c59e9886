"""AdamW with moments in 8 bits, from bitsandbytes or torchao; neither package is loaded before it is asked for.

Each moment is cut into blocks; a block keeps one byte an element (its place in a table of 256 values) and one scale.
Source of the method: 8-bit Optimizers via Block-wise Quantization, arXiv 2110.02861.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from uniwhisper.errors import ConfigError
from uniwhisper.train.sharded import as_sharded, local_part

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["bitsandbytes_adamw", "block_size", "packed_tensors", "torchao_adamw"]

_CHATTY = ("bitsandbytes", "torchao", "torch.utils._pytree")
"""Loggers that say at import which of the packages' own kernels do not fit this machine; AdamW needs none of them."""
_SMALLEST = 4096
"""Elements from which a moment is kept in 8 bits. Source: `min_8bit_size` of bitsandbytes, which torchao follows."""
_BLOCKS = (256, 128, 64)
"""Elements that share a scale, the most that fit first: at 64, a scale of 4 bytes makes 1 byte an element 1.06.
Source of 256: the default of both packages."""


def bitsandbytes_adamw(groups: Sequence[dict[str, Any]], betas: tuple[float, float]) -> torch.optim.Optimizer:
    """Return bitsandbytes' AdamW8bit; tensors of fewer than 4,096 elements keep their moments in float32.

    Raises:
        ConfigError: bitsandbytes is missing, or parameters are sharded, which it cannot update.
    """
    module = _load("bitsandbytes.optim", "adamw8bit", "bitsandbytes")
    if any(as_sharded(p) is not None for group in groups for p in group["params"]):
        raise ConfigError(
            "optim.kind: adamw8bit (bitsandbytes) cannot update parameters that are sharded over processes. "
            "Use optim.kind=adamw8bit_ao, or machine.sharding=ddp"
        )
    return module.AdamW8bit(list(groups), betas=betas)


def torchao_adamw(
    groups: Sequence[dict[str, Any]], betas: tuple[float, float], *, random_rounding: bool
) -> torch.optim.Optimizer:
    """Return torchao's AdamW8bit, with state that does not depend on how parameters are sharded.

    On a GPU its step is compiled, once for every shape of parameter; on a CPU it runs as it stands, because compiling
    takes longer there than it saves and needs a C++ compiler.

    Args:
        groups: Parameter groups.
        betas: Decay of the two moments.
        random_rounding: Round bfloat16 weights up or down at random, so that the mean is exact. The noise is a function
            of the number of the step: it is the same in every process and after a restart.

    Raises:
        ConfigError: torchao is missing.
    """
    _load("torchao.optim", "adamw8bit_ao", "torchao")
    return _torchao_class()(list(groups), betas=betas, bf16_stochastic_round=random_rounding)


def block_size(parameter: Tensor) -> int:
    """Return how many elements of this parameter's moments share a scale; 0 where they are kept in float32.

    Blocks never cross a row (the first dimension), along which FSDP2 cuts: the state is the same numbers for any number
    of processes, and a checkpoint of one can be loaded by another.
    """
    if parameter.ndim < 2 or parameter.numel() < _SMALLEST or not _cut_by_rows(parameter):
        return 0
    row = parameter.numel() // parameter.shape[0]
    return next((size for size in _BLOCKS if row % size == 0), 0)


def _cut_by_rows(parameter: Tensor) -> bool:
    """Return whether every process holds whole rows, and at least one."""
    sharded = as_sharded(parameter)
    if sharded is None:
        return True
    from torch.distributed.tensor import Shard

    processes = 1
    for dimension, placement in enumerate(sharded.placements):
        if placement.is_replicate():
            continue
        if type(placement) is not Shard or placement.dim != 0 or processes > 1:
            return False
        processes = sharded.device_mesh.size(dimension)
    rows = -(-parameter.shape[0] // processes)  # of all processes but the last ones
    return rows * (processes - 1) < parameter.shape[0]


def packed_tensors(value: Tensor) -> dict[str, Tensor] | None:
    """Return the plain tensors of one of torchao's 8-bit moments, sharing their memory; None for any other tensor.

    `codes` has the moment's shape; `scale` has a row for each of its rows, so both are sharded as the moment is.
    """
    local, sharded = local_part(value), as_sharded(value)
    if not (hasattr(local, "codes") and hasattr(local, "qmap")):
        return None
    codes, scale, qmap = (getattr(local, name) for name in ("codes", "scale", "qmap"))
    scale = scale.view(codes.shape[0], -1)
    if sharded is not None:
        codes, scale = _sharded_like(sharded, codes), _sharded_like(sharded, scale)
    return {"codes": codes, "scale": scale, "qmap": qmap}


def _sharded_like(tensor: DTensor, local: Tensor) -> Tensor:
    """Return `local`, of which every process holds its rows, as one tensor of as many rows as `tensor`."""
    from torch.distributed.tensor import DTensor

    shape = torch.Size((tensor.shape[0], *local.shape[1:]))
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(local, tensor.device_mesh, tensor.placements, run_check=False, shape=shape, stride=stride)


@cache
def _torchao_class() -> Callable[..., torch.optim.Optimizer]:
    from torchao.optim import AdamW8bit  # type: ignore[import-not-found]
    from torchao.optim.subclass_8bit import OptimState8bit  # type: ignore[import-not-found]

    class RowBlockAdamW8bit(AdamW8bit):
        """AdamW8bit whose blocks are cut as `block_size` says; the update itself is torchao's."""

        def init_state(self, group: dict[str, Any], p: Tensor, group_number: int, number: int) -> None:
            """Allocate the state of one parameter; the name and arguments are those of bitsandbytes."""
            self.state[p] = {
                "step": torch.tensor(0.0),
                "exp_avg": self._new_buffer(p, True),
                "exp_avg_sq": self._new_buffer(p, False),
            }

        def _new_buffer(self, p: Tensor, signed: bool) -> Tensor:
            local, size = local_part(p), block_size(p)
            if size:
                out = OptimState8bit.zeros(local.shape, signed, size, local.device, dtype=p.dtype)
            else:
                out = torch.zeros_like(local, dtype=torch.float32)
            sharded = as_sharded(p)
            return out if sharded is None else _sharded_like(sharded, out)

        @torch.no_grad()
        def step(self, closure: Callable[[], float] | None = None) -> float | None:
            parameter = local_part(self.param_groups[0]["params"][0])
            with ExitStack() as stack:
                if self.bf16_stochastic_round:
                    done = max((int(state["step"]) for state in self.state.values() if state), default=0)
                    stack.enter_context(_random_numbers_of(done, parameter.device))
                if parameter.device.type == "cpu":
                    stack.enter_context(torch.compiler.set_stance("force_eager"))
                return super().step(closure)

    return RowBlockAdamW8bit


@contextmanager
def _random_numbers_of(step: int, device: torch.device) -> Iterator[None]:
    """Make what is drawn inside a function of `step`, and leave the generators as they were."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(step)
        yield


def _load(module: str, kind: str, package: str) -> ModuleType:
    try:
        with _quiet():
            return importlib.import_module(module)
    except ImportError as e:
        raise ConfigError(
            f"optim.kind: {kind} needs {package}, which cannot be loaded ({e}). Run: pip install 'uniwhisper[optim8]'"
        ) from e


@contextmanager
def _quiet() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in _CHATTY]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
