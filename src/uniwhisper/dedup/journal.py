"""The journal of a search: what each finished chunk gave, so that a stopped search goes on behind it.

Reads and writes one folder: `KEY` (what the search is about) and `journal.jsonl` (a line a chunk, in order). Guarantees
that rows of another search are never read, and that a line cut short by a kill is cut off.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

from uniwhisper.files import write_text

__all__ = ["Journal"]


class Journal:
    """An append-only list of JSON values; a context manager."""

    def __init__(self, folder: Path, key: str) -> None:
        """Open the journal in `folder`; what belongs to another `key` is thrown away with the whole folder."""
        self.folder = folder
        self._path = folder / "journal.jsonl"
        marker = folder / "KEY"
        if not marker.is_file() or marker.read_text(encoding="utf-8") != key:
            shutil.rmtree(folder, ignore_errors=True)
            write_text(marker, key)
        self._path.touch()
        with self._path.open("r+b") as file:
            whole = 0
            for line in file:
                whole += len(line) if line.endswith(b"\n") else 0
            file.truncate(whole)
        self._file = self._path.open("ab")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def rows(self) -> Iterator[Any]:
        """Yield what was appended, also before this process."""
        with self._path.open("rb") as file:
            for line in file:
                yield json.loads(line)

    def append(self, row: Any) -> None:
        """Write a row; it survives the death of this process."""
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()
