"""Files of named tensors, and pieces of tensors, in the safetensors format; read at any number of ranks.

Writes a file as a stream: no second copy of the tensors in memory, the hash made on the way, and Python's other
threads running meanwhile (`safetensors.torch.save_file` reports a full disk as a text and leaves hashing to a second
pass). Reads with the planner of `torch.distributed.checkpoint`, which finds the pieces that a rank needs wherever they
were written; nothing is exchanged between ranks, and no pickle is read.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from uniwhisper.checkpoint.run_folder import go_back, read_document
from uniwhisper.errors import CheckpointError
from uniwhisper.files import sha256_file

if TYPE_CHECKING:
    from torch.distributed.checkpoint.metadata import Metadata

__all__ = ["Piece", "load_tensors", "write_pieces"]

_DTYPES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.float8_e4m3fn: "F8_E4M3",
    torch.float8_e5m2: "F8_E5M2",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
"""The format's names. Source: https://github.com/huggingface/safetensors, safetensors/src/tensor.rs, enum Dtype."""
_LAYOUT = "DCP_SHARDING_INFO"
"""Header entry with every piece's `saved_offsets`, as torch writes it. Source: https://github.com/pytorch/pytorch,
torch/distributed/checkpoint/_hf_utils.py."""
_CHUNK_BYTES = 4 << 20


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """A rectangular piece of a tensor, or all of it."""

    name: str
    shape: tuple[int, ...]
    """Of the whole tensor."""
    offsets: tuple[int, ...]
    """Where the piece begins in the whole tensor."""
    data: Tensor
    """Contiguous, on the CPU."""


def write_pieces(path: Path, pieces: Iterable[Piece]) -> dict[str, Any]:
    """Write pieces, at most one of a name, to `path`, down to the disk, and return the file's `num_bytes` and `sha256`.

    Raises:
        CheckpointError: A dtype is none that safetensors files can hold.
        OSError: The file cannot be written; `errno.ENOSPC` where the disk is full.
    """
    ordered = sorted(pieces, key=lambda piece: (-piece.data.element_size(), piece.name))  # so that all are aligned
    digest, num_bytes = hashlib.sha256(), 0
    with path.open("wb", buffering=0) as file:
        for block in (_header(ordered), *(_bytes_of(piece.data) for piece in ordered)):
            for start in range(0, len(block), _CHUNK_BYTES):
                chunk = block[start : start + _CHUNK_BYTES]
                digest.update(chunk)
                num_bytes += len(chunk)
                while len(chunk):
                    chunk = chunk[file.write(chunk) :]
        os.fsync(file.fileno())
    return {"num_bytes": num_bytes, "sha256": digest.hexdigest()}


def load_tensors(path: Path, into: Mapping[str, Tensor]) -> None:
    """Fill the tensors of `into`, plain ones and the local parts of DTensors, from the checkpoint at `path`.

    The number of ranks may be another than that which wrote it; every rank reads what it needs. Files are verified
    before the first tensor changes.

    Args:
        path: A complete checkpoint.
        into: Every tensor of the checkpoint, by name, of the shape and dtype that was saved.

    Raises:
        CheckpointError: A name, shape or dtype differs; or the checkpoint is incomplete or a file of it damaged, and
            then the message names it and says how to go back.
    """
    from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner

    files = read_document(path)["files"]
    metadata = _metadata(path, files)
    try:
        _check_fit(path, metadata, into)
    except CheckpointError:
        for name, facts in files.items():  # a damaged header looks like another network
            _verify(path / name, facts)
        raise
    planner = DefaultLoadPlanner(flatten_state_dict=False, flatten_sharded_tensors=False)
    planner.set_up_planner(dict(into), metadata, True)
    plan = planner.finish_plan(planner.create_global_plan([planner.create_local_plan()])[0])
    by_file: dict[str, list[Any]] = {}
    for item in plan.items:
        by_file.setdefault(metadata.storage_data[item.storage_index], []).append(item)
    for name in by_file:
        _verify(path / name, files[name])
    with torch.no_grad():
        for name, items in by_file.items():
            _read(path / name, items, planner)


def _header(pieces: Sequence[Piece]) -> memoryview:
    """Return the length and the text of the file's header."""
    layout = {piece.name: {"saved_offsets": piece.offsets} for piece in pieces}
    metadata = {"format": "pt", "DCP_VERSION": "1.0", _LAYOUT: json.dumps(layout)}
    entries: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for piece in pieces:
        if piece.data.dtype not in _DTYPES:
            raise CheckpointError(
                f"{piece.name}: expected a dtype that safetensors holds, found {piece.data.dtype}; store it as "
                "several plain tensors"
            )
        begin, end = end, end + piece.data.numel() * piece.data.element_size()
        entries[piece.name] = {
            "dtype": _DTYPES[piece.data.dtype],
            "shape": list(piece.data.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return memoryview(len(text).to_bytes(8, "little") + text)


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _metadata(path: Path, files: Mapping[str, Any]) -> Metadata:
    """Return what lies where, from the headers; `storage_data` holds the file's name of every piece."""
    from torch.distributed.checkpoint.metadata import (
        ChunkStorageMetadata,
        Metadata,
        MetadataIndex,
        TensorProperties,
        TensorStorageMetadata,
    )

    tensors: dict[str, Any] = {}
    where: dict[MetadataIndex, str] = {}
    for file_name, facts in files.items():
        for name, dtype, shape, offsets in _entries(path / file_name, facts):
            end = torch.Size(begin + length for begin, length in zip(offsets, shape, strict=True))
            entry = tensors.setdefault(
                name, TensorStorageMetadata(properties=TensorProperties(dtype=dtype), size=end, chunks=[])
            )
            entry.size = torch.Size(max(sizes) for sizes in zip(entry.size, end, strict=True))
            entry.chunks.append(ChunkStorageMetadata(offsets=torch.Size(offsets), sizes=torch.Size(shape)))
            where[MetadataIndex(name, torch.Size(offsets))] = file_name
    return Metadata(state_dict_metadata=tensors, storage_data=where)


def _entries(path: Path, facts: Mapping[str, Any]) -> list[tuple[str, torch.dtype, list[int], list[int]]]:
    """Return name, dtype, shape and offsets of every piece in a file."""
    dtypes = {name: dtype for dtype, name in _DTYPES.items()}
    try:
        found = path.stat().st_size
        if found != facts["num_bytes"]:
            raise CheckpointError(f"{path}: expected {facts['num_bytes']} bytes, found {found}. {go_back(path.parent)}")
        with safe_open(path, framework="pt") as file:
            layout = json.loads((file.metadata() or {})[_LAYOUT])
            names = file.keys()
            slices = {name: file.get_slice(name) for name in names}
            return [(n, dtypes[s.get_dtype()], s.get_shape(), layout[n]["saved_offsets"]) for n, s in slices.items()]
    except (OSError, SafetensorError, KeyError, ValueError) as e:
        raise CheckpointError(f"expected safetensors at {path}, found: {e}. {go_back(path.parent)}") from e


def _verify(path: Path, facts: Mapping[str, Any]) -> None:
    found = sha256_file(path)
    if found != facts["sha256"]:
        raise CheckpointError(
            f"{path}: expected the content that was saved (sha256 {facts['sha256'][:8]}), found another ({found[:8]}): "
            f"the file is damaged or another checkpoint's. {go_back(path.parent)}"
        )


def _check_fit(path: Path, metadata: Metadata, into: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not exactly those of the checkpoint, and pieces that do not make up whole tensors."""
    stored: dict[str, Any] = metadata.state_dict_metadata
    missing, unknown = sorted(into.keys() - stored.keys()), sorted(stored.keys() - into.keys())
    if missing or unknown:
        raise CheckpointError(
            f"{path}: expected the tensors of this run; {len(missing)} are missing in the checkpoint "
            f"({', '.join(missing[:5])}), and {len(unknown)} in it are unknown here ({', '.join(unknown[:5])}). "
            "Resume with the configuration and version that wrote it"
        )
    for name, tensor in into.items():
        entry = stored[name]
        if tensor.is_meta:
            raise CheckpointError(f"{name}: expected a tensor with memory to load into, found one on the meta device")
        if tuple(tensor.shape) != tuple(entry.size) or tensor.dtype != entry.properties.dtype:
            raise CheckpointError(
                f"{path}: {name}: expected {tensor.dtype} of shape {tuple(tensor.shape)}, found "
                f"{entry.properties.dtype} of shape {tuple(entry.size)}"
            )
        if sum(math.prod(chunk.sizes) for chunk in entry.chunks) != math.prod(entry.size):
            raise CheckpointError(f"{path}: {name}: its pieces do not make up the whole tensor. {go_back(path)}")


def _read(path: Path, items: Sequence[Any], planner: Any) -> None:
    """Copy the pieces that the plan wants from one file into their tensors."""
    with safe_open(path, framework="pt") as file:
        for item in items:
            name = item.storage_index.fqn
            if item.lengths:
                window = tuple(
                    slice(begin, begin + length)
                    for begin, length in zip(item.storage_offsets, item.lengths, strict=True)
                )
                found = file.get_slice(name)[window]
            else:
                found = file.get_tensor(name)
            planner.resolve_tensor(item).detach().copy_(found)
