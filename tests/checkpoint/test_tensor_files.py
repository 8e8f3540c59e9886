from __future__ import annotations

import io
import json
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from checkpoint.saved import blank, same, save_steps, tensors_of
from uniwhisper.checkpoint import load_tensors
from uniwhisper.checkpoint.tensor_files import Piece, write_pieces
from uniwhisper.errors import CheckpointError
from uniwhisper.files import sha256_file

FILE = "tensors_00001_of_00001.safetensors"


def test_what_is_saved_is_loaded_in_place_bit_by_bit(tmp_path: Path) -> None:
    (folder,) = save_steps(tmp_path, 7)
    into = blank(tensors_of(7))
    addresses = {name: tensor.data_ptr() for name, tensor in into.items()}
    load_tensors(folder, into)
    assert same(into, tensors_of(7))
    assert {name: tensor.data_ptr() for name, tensor in into.items()} == addresses


def test_parameters_that_learn_and_strided_tensors_are_filled(tmp_path: Path) -> None:
    (folder,) = save_steps(tmp_path, 7)
    into = blank(tensors_of(7))
    weight = nn.Parameter(torch.ones(7, 5))
    into |= {"model.audio.encoder.layers.0.weight": weight, "original.half": torch.ones(8).half()[::2]}
    load_tensors(folder, into)
    assert torch.equal(weight, tensors_of(7)["model.audio.encoder.layers.0.weight"])
    assert weight.is_leaf
    assert weight.requires_grad
    assert same(into, tensors_of(7))


def test_safetensors_reads_the_file_and_values_that_are_no_numbers_survive(tmp_path: Path) -> None:
    values = torch.tensor([float("nan"), float("inf"), -0.0, 1e-45])
    pieces = [
        Piece(name=name, shape=tuple(data.shape), offsets=(0,) * data.ndim, data=data)
        for name, data in {"bytes": torch.arange(3, dtype=torch.uint8), "values": values}.items()
    ]
    facts = write_pieces(tmp_path / "x.safetensors", pieces)
    found = load_file(tmp_path / "x.safetensors")
    assert torch.equal(found["values"].view(torch.int32), values.view(torch.int32))
    assert found["bytes"].tolist() == [0, 1, 2]
    size = (tmp_path / "x.safetensors").stat().st_size
    assert facts == {"num_bytes": size, "sha256": sha256_file(tmp_path / "x.safetensors")}
    length = int.from_bytes((tmp_path / "x.safetensors").read_bytes()[:8], "little")
    header = json.loads((tmp_path / "x.safetensors").read_bytes()[8 : 8 + length])
    assert length % 8 == 0
    assert header["values"]["data_offsets"] == [0, 16], "wide types come first, so that every tensor is aligned"


def test_a_dtype_that_files_do_not_hold_is_refused(tmp_path: Path) -> None:
    piece = Piece(name="a.b", shape=(1,), offsets=(0,), data=torch.zeros(1, dtype=torch.complex64))
    with pytest.raises(CheckpointError, match=r"a\.b: expected a dtype .* found torch\.complex64"):
        write_pieces(tmp_path / "x.safetensors", [piece])


def test_torchs_own_reader_reads_a_checkpoint(tmp_path: Path) -> None:
    storage = pytest.importorskip("torch.distributed.checkpoint.hf_storage", reason="newer than the oldest torch")
    loader = pytest.importorskip("torch.distributed.checkpoint.state_dict_loader")
    (folder,) = save_steps(tmp_path, 7)
    into = blank(tensors_of(7))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that there is one process
        loader.load(into, storage_reader=storage.HuggingFaceStorageReader(str(folder)))
    assert same(into, tensors_of(7))


def test_nothing_is_unpickled_and_no_file_is_a_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = save_steps(tmp_path, 7)
    for path in folder.iterdir():
        with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, KeyError, IndexError, AttributeError)):
            pickle.load(io.BytesIO(path.read_bytes()))
        assert path.read_bytes()[:2] not in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05")

    def forbidden(*args: Any, **options: Any) -> NoReturn:
        raise AssertionError("something is unpickled")

    for name in ("load", "loads", "Unpickler", "_Unpickler", "_load", "_loads"):
        monkeypatch.setattr(pickle, name, forbidden)
    monkeypatch.setattr("_pickle.load", forbidden)
    monkeypatch.setattr("_pickle.loads", forbidden)
    monkeypatch.setattr(torch, "load", forbidden)
    into = blank(tensors_of(7))
    load_tensors(folder, into)
    assert same(into, tensors_of(7))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more.name": torch.ones(1)}, r"1 are missing in the checkpoint \(more\.name\), and 0"),
        ({"model.adapter.bias": None}, r"0 are missing .* and 1 in it are unknown here \(model\.adapter\.bias\)"),
        ({"model.adapter.bias": torch.ones(3)}, r"bias: expected torch\.float32 .* found torch\.bfloat16"),
        ({"model.adapter.bias": torch.ones(4).bfloat16()}, r"expected .* of shape \(4,\), found .* of shape \(3,\)"),
        ({"original.empty": torch.ones(0, 3, device="meta")}, r"original\.empty: expected a tensor with memory"),
        ({"optim.adapter.bias.step": torch.ones(1)}, r"step: expected .* of shape \(1,\), found .* of shape \(\)"),
    ],
)
def test_tensors_of_another_network_are_refused_by_name(
    tmp_path: Path, change: dict[str, Tensor | None], message: str
) -> None:
    (folder,) = save_steps(tmp_path, 7)
    changed = {**blank(tensors_of(7)), **change}
    into = {name: tensor for name, tensor in changed.items() if tensor is not None}
    before = {name: tensor.clone() for name, tensor in into.items()}
    with pytest.raises(CheckpointError, match=message):
        load_tensors(folder, into)
    real = {name: tensor for name, tensor in into.items() if not tensor.is_meta}
    assert same(real, {name: before[name] for name in real}), "nothing is loaded then"


def flipped(content: bytes, position: int) -> bytes:
    return content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :]


@pytest.mark.parametrize(
    "damage", ["cut", "missing", "garbage", "empty", "another", "length", "name", "dtype", "offset", "last bit"]
)
def test_a_damaged_file_is_refused_by_name_before_anything_is_loaded(tmp_path: Path, damage: str) -> None:
    older, folder = save_steps(tmp_path, 6, 7)
    path = folder / FILE
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "another":
        shutil.copy(older / FILE, path)
    else:
        path.write_bytes(
            {
                "cut": content[:-5],
                "garbage": b"\xff" * len(content),
                "empty": b"",
                "length": flipped(content, 0),
                "name": flipped(content, content.index(b"adapter.bias")),
                "dtype": content.replace(b'"F16"', b'"U16"'),
                "offset": flipped(content, content.index(b'offsets\\": [0') + len(b'offsets\\": [')),
                "last bit": flipped(content, len(content) - 1),
            }[damage]
        )
    into = blank(tensors_of(7))
    with pytest.raises(CheckpointError, match=rf"{FILE}.*Remove .*step_0000007 to go on from step_0000006"):
        load_tensors(folder, into)
    assert same(into, blank(tensors_of(7)))
    load_tensors(older, into)
    assert same(into, tensors_of(6))
