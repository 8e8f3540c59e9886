"""What one of two ranks does in `test_ranks.py`: `python ranks.py RANK FOLDER`; it fails, or writes `FOLDER/ok_RANK`.

Reads `FOLDER/alone`, checkpoints of one process; writes `FOLDER/spread`, and `FOLDER/expected.safetensors`, the whole
tensors of what it saved.
"""

from __future__ import annotations

import errno
import os
import pickle
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor

from uniwhisper.checkpoint import CheckpointWriter, latest_checkpoint, load_tensors
from uniwhisper.checkpoint import writer as module
from uniwhisper.errors import CheckpointError

KEY = "k" * 64


def whole(tensor: Tensor) -> Tensor:
    return (tensor.full_tensor() if isinstance(tensor, DTensor) else tensor).detach().clone()


def trained(mesh: DeviceMesh) -> dict[str, Tensor]:
    """Return the tensors of a small FSDP2 run after one step, and plain ones."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 3), nn.Linear(3, 1))  # 3 and 1 rows over 2 ranks: uneven, and empty
    fully_shard(net, mesh=mesh)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.1)
    net(torch.randn(4, 5)).sum().backward()
    optimizer.step()
    tensors: dict[str, Tensor] = {f"model.{name}": value for name, value in net.named_parameters()}
    for name, parameter in net.named_parameters():
        for kind, value in optimizer.state[parameter].items():
            tensors[f"optim.{name}.{kind}"] = value
    assert isinstance(tensors["optim.0.weight.exp_avg"], DTensor)
    tensors["model.columns"] = distribute_tensor(torch.randn(3, 5).bfloat16(), mesh, [Shard(1)])
    tensors["model.everywhere"] = distribute_tensor(torch.randn(4), mesh, [Replicate()])
    for number in range(6):
        tensors[f"average.{number}"] = torch.randn(2, 3)
    return tensors


def other(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: torch.full_like(value, 7) for name, value in tensors.items()}


def check_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name, value in expected.items():
        assert torch.equal(whole(found[name]), value), name


def saves(folder: Path, rank: int, mesh: DeviceMesh) -> dict[str, Tensor]:
    """Save while the training goes on and exchanges figures of its own."""
    tensors = trained(mesh)
    expected = {name: whole(value) for name, value in tensors.items()}
    real, slow = module.write_pieces, threading.Event()

    def write(*args: Any) -> dict[str, Any]:
        facts = real(*args)
        if rank == 1:
            time.sleep(0.3)
            assert latest_checkpoint(folder) is None, "rank 0 had not waited for rank 1"
        slow.set()
        return facts

    module.write_pieces = write
    with CheckpointWriter(folder, key=KEY, keep=3, rank=rank, size=2) as writer:
        target = writer.save(1, tensors, {"ranks": 2})
        with torch.no_grad():
            for value in tensors.values():
                value.zero_()
        for number in range(200):
            figure = torch.tensor([float(number * (rank + 1))])
            dist.all_reduce(figure)
            assert figure.item() == 3 * number
        writer.wait()
        assert slow.is_set()
        assert latest_checkpoint(folder) == target, "every rank sees it once it has waited"
        writer.note_score(1, 0.5)
    module.write_pieces = real
    if rank == 0:
        save_file(expected, folder.parent / "expected.safetensors")
    written = [set(load_file(path)) for path in sorted(target.glob("*.safetensors"))]
    assert len(written) == 2
    plain = [{name for name in names if name.startswith("average.")} for names in written]
    assert all(len(names) == 3 for names in plain)
    assert not plain[0] & plain[1]
    assert "model.everywhere" in written[0] - written[1]
    assert "model.1.weight" in written[0] - written[1]
    dist.barrier()
    into = other(tensors)
    load_tensors(target, into)
    check_equal(into, expected)
    turned = {
        n: distribute_tensor(torch.zeros_like(v), mesh, [Shard(v.ndim - 1)]) if v.ndim else torch.zeros(())
        for n, v in expected.items()
    }
    load_tensors(target, turned)
    check_equal(turned, expected)
    return tensors


def reads_what_one_process_wrote(folder: Path, mesh: DeviceMesh) -> None:
    stored = load_file(next(folder.glob("step_*/*.safetensors")))

    def forbidden(*args: Any, **options: Any) -> NoReturn:
        raise AssertionError("something is unpickled")

    into = {
        name: distribute_tensor(torch.zeros_like(value), mesh, [Shard(0)]) if value.ndim else torch.zeros_like(value)
        for name, value in stored.items()
    }
    latest = latest_checkpoint(folder)
    assert latest is not None
    with pytest.MonkeyPatch.context() as patch:
        for name in ("load", "loads", "Unpickler"):
            patch.setattr(pickle, name, forbidden)
        load_tensors(latest, into)
    check_equal(into, stored)


def survives_failures(folder: Path, rank: int, tensors: dict[str, Tensor], mesh: DeviceMesh) -> None:
    good, real = latest_checkpoint(folder), module.write_pieces

    def full(*args: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, "No space left on device")

    writer = CheckpointWriter(folder, key=KEY, keep=3, rank=rank, size=2)
    module.write_pieces = full if rank == 1 else real
    writer.save(2, tensors, {})
    with pytest.raises(CheckpointError, match="rank 1: the disk is full: the checkpoint of step 2"):
        writer.wait()
    module.write_pieces = real
    dist.barrier()
    assert latest_checkpoint(folder) == good
    assert not list(folder.glob(".step*"))
    dist.barrier()
    writer.save(3, {f"model.{rank}": torch.ones(1)}, {})
    with pytest.raises(CheckpointError, match="expected the same step, names, shapes and dtypes on all ranks"):
        writer.wait()
    sums = DTensor.from_local(torch.ones(2), mesh, [Partial()])
    with pytest.raises(CheckpointError, match=r"model\.x: expected a DTensor of whole values"):
        writer.save(3, {"model.x": sums}, {})
    with pytest.raises(CheckpointError, match="found the process group's"):
        CheckpointWriter(folder, key=KEY, keep=1, rank=0, size=3)
    newer = writer.save(4, tensors, {})
    writer.wait()
    assert latest_checkpoint(folder) == newer
    dist.barrier()

    def dies(*args: Any) -> NoReturn:
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    module.write_pieces = dies if rank == 1 else real
    writer.save(5, tensors, {})
    with pytest.raises(RuntimeError, match=r"closed|reset"):  # the run's `explained` says which rank it was
        writer.wait()
    assert latest_checkpoint(folder) == newer


def main(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    tensors = saves(folder / "spread", rank, mesh)
    reads_what_one_process_wrote(folder / "alone", mesh)
    (folder / f"ok_{rank}").touch()
    survives_failures(folder / "spread", rank, tensors, mesh)
    (folder / f"survived_{rank}").touch()
    os._exit(0)  # the group cannot be left in order: rank 1 is dead


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
