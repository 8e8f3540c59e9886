"""Arrays of one to four axes as list columns of a Parquet file, a row for every entry of the first axis, and back.

Reads and writes: Parquet (zstd, page checksums). Guarantees: a file is complete or not there; a reader gets what was
written, or a ReportError that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from uniwhisper.errors import ReportError
from uniwhisper.files import atomic_path

__all__ = ["flat_values", "list_column", "read_columns", "write_columns"]

_METADATA_KEY = b"uniwhisper"


def list_column(values: pa.Array, *lengths: int | np.ndarray) -> pa.Array:
    """Return flat `values` cut into nested lists, one level for every entry of `lengths`, innermost first.

    Args:
        values: The flat values.
        lengths: How long the lists of a level are: one number for all of them, or one for each.
    """
    for length in lengths:
        per_list = length if isinstance(length, np.ndarray) else np.full(len(values) // length, length)
        offsets = np.concatenate([[0], np.cumsum(per_list)]).astype(np.int32)
        values = pa.ListArray.from_arrays(pa.array(offsets), values)
    return values


def flat_values(column: pa.ChunkedArray, num_levels: int) -> tuple[pa.Array, list[np.ndarray]]:
    """Return the flat values of a list column, and the lengths of its lists at every level, outermost first.

    Raises:
        ReportError: The column has fewer levels, or lists or values are missing.
    """
    array = column.combine_chunks()
    lengths = []
    for _ in range(num_levels):
        if not pa.types.is_list(array.type) or array.null_count:
            raise ReportError(f"expected {num_levels} levels of lists, found {column.type}, or no list in a row")
        lengths.append(np.diff(array.offsets.to_numpy()).astype(np.int64))
        array = array.flatten()
    if array.null_count:
        raise ReportError(f"expected a value in every place of {column.type}, found {array.null_count} without")
    return array, lengths


def write_columns(path: Path, columns: Mapping[str, pa.Array], metadata: Mapping[str, Any]) -> None:
    """Write equally long `columns` to `path`, atomically, with `metadata` as JSON under the key `uniwhisper`."""
    described = {_METADATA_KEY: json.dumps(dict(metadata), ensure_ascii=False).encode()}
    table = pa.table(dict(columns)).replace_schema_metadata(described)
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_columns(path: Path) -> tuple[pa.Table, dict[str, Any]]:
    """Return the table in `path` and its metadata.

    Raises:
        ReportError: The file is missing or damaged, or has no such metadata.
    """
    try:
        with path.open("rb") as file:
            table = pq.ParquetFile(file, page_checksum_verification=True).read(use_threads=False)
        metadata = json.loads((table.schema.metadata or {}).get(_METADATA_KEY, b"null"))
    except (OSError, ValueError, MemoryError, RecursionError, pa.ArrowException) as e:
        raise ReportError(f"expected a Parquet file in {path}, found: {e}") from e
    if not isinstance(metadata, dict):
        raise ReportError(f"{path}: expected a file of uniwhisper's, found Parquet without its metadata")
    return table, metadata
