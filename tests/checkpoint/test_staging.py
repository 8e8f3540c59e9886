from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from uniwhisper.checkpoint.staging import stage
from uniwhisper.errors import CheckpointError


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_every_plain_tensor_is_written_once_and_the_load_is_spread(size: int) -> None:
    tensors = {f"t{number}": torch.full((number * 10,), float(number)) for number in range(1, 20)} | {
        "step": torch.ones(())
    }
    staged = [stage(tensors, rank=rank, size=size) for rank in range(size)]
    names = [piece.name for part in staged for piece in part.pieces]
    assert sorted(names) == sorted(tensors)
    loads = [sum(piece.data.nbytes for piece in part.pieces) for part in staged]
    assert sum(loads) == staged[0].total_bytes == sum(tensor.nbytes for tensor in tensors.values())
    assert max(loads) - min(loads) <= max(tensor.nbytes for tensor in tensors.values())
    assert len({part.layout for part in staged}) == 1
    for part in staged:
        for piece in part.pieces:
            assert torch.equal(piece.data, tensors[piece.name])


def test_the_copy_is_one_and_contiguous() -> None:
    weight = nn.Parameter(torch.arange(6.0).reshape(2, 3))
    turned = torch.arange(6.0).reshape(2, 3).t()
    staged = stage({"a": weight, "b": turned}, rank=0, size=1)
    pieces = {piece.name: piece.data for piece in staged.pieces}
    with torch.no_grad():
        weight.zero_()
        turned.zero_()
    assert pieces["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert pieces["b"].tolist() == [[0, 3], [1, 4], [2, 5]]
    assert pieces["b"].is_contiguous()
    assert not pieces["a"].requires_grad


@pytest.mark.parametrize(
    "other", [{"b": torch.ones(2)}, {"a": torch.ones(3)}, {"a": torch.ones(2).double()}, {"a": torch.ones(2, 1)}]
)
def test_the_layout_tells_names_shapes_and_dtypes_apart(other: dict[str, Tensor]) -> None:
    assert stage({"a": torch.ones(2)}, rank=0, size=1).layout != stage(other, rank=0, size=1).layout
    assert stage({"a": torch.ones(2)}, rank=0, size=1).layout == stage({"a": torch.zeros(2)}, rank=0, size=1).layout


def test_a_tensor_of_another_kind_is_refused() -> None:
    class Wrapped(Tensor):
        pass

    with pytest.raises(
        CheckpointError, match=r"optim\.a\.exp_avg: expected a plain tensor or a DTensor of one, found Wrapped"
    ):
        stage({"optim.a.exp_avg": torch.ones(2).as_subclass(Wrapped)}, rank=0, size=1)
