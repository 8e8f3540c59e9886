"""The manifest of a shard set: one Parquet row per clip, and the arrays that are derived from it for random access.

Writes `journal/<shard>.parquet` for one shard, then `manifest.parquet`, `index.npy` and `durations.npy` of the set;
reads them back. Guarantees: rows stand in the order of shards and of clips within them, one row group a shard; the
arrays hold what the Parquet file says, so they can be made again from it; neither is ever read as a whole.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from uniwhisper.errors import ShardError
from uniwhisper.files import atomic_path

__all__ = [
    "INDEX_DTYPE",
    "SCHEMA",
    "IndexEntry",
    "clip_id",
    "index_offset",
    "map_durations",
    "read_licenses",
    "shard_rows",
    "write_arrays",
    "write_joined",
    "write_rows",
]

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.dictionary(pa.int32(), pa.string())),
        ("split", pa.dictionary(pa.int32(), pa.string())),
        ("shard", pa.dictionary(pa.int32(), pa.string())),
        ("key", pa.string()),
        ("offset_bytes", pa.int64()),
        ("num_bytes", pa.int64()),
        ("json_offset_bytes", pa.int64()),
        ("json_num_bytes", pa.int64()),
        ("json_crc32", pa.uint32()),
        ("duration_s", pa.float64()),
        ("start_s", pa.float64()),
        ("domain", pa.dictionary(pa.int32(), pa.string())),
        ("language", pa.dictionary(pa.int32(), pa.string())),
        ("speaker", pa.string()),
        ("group", pa.string()),
        ("license", pa.dictionary(pa.int32(), pa.string())),
        ("upstream_ids", pa.list_(pa.string())),
        ("annotation", pa.string()),
        ("pcm_sha256", pa.string()),
        ("flac_sha256", pa.string()),
    ]
)
"""Columns of `manifest.parquet`. `shard` is a file name; `offset_bytes` and `num_bytes` are those of the FLAC data in
it; `start_s` is where the clip began in its corpus's file; `annotation` is JSON text."""

INDEX_DTYPE = np.dtype(
    [
        ("offset_bytes", "<u8"),
        ("num_bytes", "<u4"),
        ("json_num_bytes", "<u4"),
        ("json_crc32", "<u4"),
        ("shard", "<u4"),
    ]
)
"""A row of `index.npy`; `shard` is the number of the shard in `shards.json`."""


class IndexEntry(NamedTuple):
    """A row of `index.npy` in memory."""

    offset_bytes: int
    num_bytes: int
    json_num_bytes: int
    json_crc32: int
    shard: int

    @classmethod
    def unpack(cls, data: bytes) -> IndexEntry:
        """Return the row in `data`, the `INDEX_DTYPE.itemsize` bytes of it."""
        return cls(*_INDEX_ROW.unpack(data))


_INDEX_ROW = struct.Struct("<QIIII")  # INDEX_DTYPE; ten times as fast for a single row

_DURATION_DTYPE = np.dtype("<f8")
_BATCH_ROWS = 1 << 16


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the rows of one shard as one row group, atomically."""
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=SCHEMA)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", row_group_size=max(1, len(rows)))


def write_joined(parts: Iterable[Path], path: Path) -> int:
    """Write the rows of all `parts` into one file, atomically, and return how many there are."""
    count = 0
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
        for part in parts:
            with pq.ParquetFile(part) as file:
                table = file.read()
            writer.write_table(table, row_group_size=max(1, len(table)))
            count += len(table)
    return count


def read_licenses(manifest: Path, rows: range) -> tuple[str, ...]:
    """Return the licences, sorted, that rows of the Parquet file `manifest` state; empty text where one states none."""
    found: set[str] = set()
    with pq.ParquetFile(manifest) as file:
        first = 0
        for number in range(file.num_row_groups):
            size = file.metadata.row_group(number).num_rows
            low, high = max(rows.start - first, 0), min(rows.stop - first, size)
            if low < high:
                column = file.read_row_group(number, columns=["license"]).column("license")[low:high]
                found.update(name or "" for name in column.unique().to_pylist())
            first += size
    return tuple(sorted(found))


def write_arrays(manifest: Path, folder: Path, shards: Sequence[str]) -> None:
    """Write `index.npy` and `durations.npy` into `folder` from the Parquet file `manifest`, atomically.

    Raises:
        ShardError: A row names another shard than `shards`.
    """
    numbers = {name: number for number, name in enumerate(shards)}
    columns = list(INDEX_DTYPE.names or ())
    with (
        pq.ParquetFile(manifest) as file,
        atomic_path(folder / "index.npy") as index_path,
        atomic_path(folder / "durations.npy") as durations_path,
        index_path.open("wb") as index_file,
        durations_path.open("wb") as durations_file,
    ):
        for stream, dtype in ((index_file, INDEX_DTYPE), (durations_file, _DURATION_DTYPE)):
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
            np.lib.format.write_array_header_1_0(stream, {**header, "shape": (file.metadata.num_rows,)})
        for batch in file.iter_batches(_BATCH_ROWS, columns=[*columns, "duration_s"]):
            index = np.empty(len(batch), INDEX_DTYPE)
            for name in columns:
                column = batch.column(name)
                index[name] = _numbers(column, numbers, manifest) if name == "shard" else column.to_numpy()
            index_file.write(index.tobytes())
            durations_file.write(batch.column("duration_s").to_numpy().astype(_DURATION_DTYPE).tobytes())


def _numbers(names: pa.DictionaryArray, numbers: Mapping[str, int], manifest: Path) -> np.ndarray:
    known = names.dictionary.to_pylist()
    strangers = sorted(set(known) - numbers.keys())
    if strangers:
        raise ShardError(f"expected only the shards of the set in {manifest}, found {strangers[0]}")
    return np.array([numbers[name] for name in known], dtype=np.uint32)[names.indices.to_numpy()]


def map_durations(folder: Path) -> np.ndarray:
    """Return the durations of the set in `folder`, mapped into memory: pages are read when they are used.

    Raises:
        ShardError: The file is missing or is not such an array.
    """
    # A plain view of the mapped file: every slice of np.memmap would carry its bookkeeping along.
    return _mapped(folder / "durations.npy", _DURATION_DTYPE).view(np.ndarray)


def index_offset(folder: Path, num_rows: int) -> int:
    """Return the byte of `index.npy` at which its first row stands.

    Raises:
        ShardError: The file is missing, is not an index, or has another number of rows than `num_rows`.
    """
    index = _mapped(folder / "index.npy", INDEX_DTYPE)
    if len(index) != num_rows:
        raise ShardError(f"expected {num_rows} rows in {folder / 'index.npy'}, found {len(index)}: shard again")
    return index.offset


def _mapped(path: Path, dtype: np.dtype) -> np.memmap:
    try:
        array = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as e:
        raise ShardError(f"expected an array in {path}, found: {e}") from e
    if array.dtype != dtype or array.ndim != 1:
        raise ShardError(f"expected one axis of {dtype} in {path}, found {array.shape} of {array.dtype}: shard again")
    return array


def shard_rows(manifest: Path, shard: str) -> list[dict[str, Any]]:
    """Return the rows of one shard, in order.

    Raises:
        ShardError: The file is missing or damaged.
    """
    import pyarrow.dataset as ds  # loads pandas where there is one, which readers of shards need not wait for

    # A dataset of one file skips the row groups of other shards by their statistics.
    try:
        return ds.dataset(manifest, format="parquet").to_table(filter=ds.field("shard") == shard).to_pylist()
    except (OSError, pa.ArrowInvalid) as e:
        raise ShardError(f"expected the manifest {manifest}, found: {e}. Fetch it again") from e


def clip_id(manifest: Path, row: int) -> str:
    """Return the id in one row of the manifest, for messages about clips; empty where that cannot be read either."""
    try:
        for number, batch in _batches(manifest):
            if row < number + len(batch):
                return batch.column("id")[row - number].as_py()
    except (OSError, pa.ArrowInvalid):
        pass
    return ""


def _batches(manifest: Path) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the ids in batches, each with the number of its first row."""
    number = 0
    with pq.ParquetFile(manifest) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=["id"]):
            yield number, batch
            number += len(batch)
