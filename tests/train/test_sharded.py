from __future__ import annotations

from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from uniwhisper.train.sharded import as_sharded, local_part


def test_plain_tensors_are_their_own_part() -> None:
    tensor = torch.ones(3)
    assert as_sharded(tensor) is None
    assert local_part(tensor) is tensor


def test_a_part_shares_the_memory_of_its_tensor(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/meet", rank=0, world_size=1)
    try:
        tensor = distribute_tensor(torch.zeros(4, 2), init_device_mesh("cpu", (1,)), [Shard(0)])
        assert as_sharded(tensor) is tensor
        local_part(tensor).fill_(2.0)
        assert torch.equal(tensor.full_tensor(), torch.full((4, 2), 2.0))
    finally:
        dist.destroy_process_group()
