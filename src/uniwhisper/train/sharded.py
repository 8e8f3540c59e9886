"""Tensors that FSDP2 spreads over processes, told from whole ones without loading what spreads them.

`torch.distributed.tensor` takes half as long to import as torch itself; who never shards a network never needs it.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

from torch import Tensor

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

__all__ = ["as_sharded", "local_part"]


def as_sharded(tensor: Tensor) -> DTensor | None:
    """Return `tensor` where it is spread over processes (a DTensor), and None where it is a plain one."""
    module = sys.modules.get("torch.distributed.tensor")  # loaded by whoever made such a tensor
    return cast("DTensor", tensor) if module is not None and isinstance(tensor, module.DTensor) else None


def local_part(tensor: Tensor) -> Tensor:
    """Return what this process holds of `tensor`, sharing its memory: all of it unless it is sharded."""
    sharded = as_sharded(tensor)
    return tensor if sharded is None else sharded.to_local()
