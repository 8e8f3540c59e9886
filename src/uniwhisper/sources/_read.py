"""Readers of annotation files: CSV, lines, JSON; rows are counted, and a bad one is named by file and line.

Every reader checks that the file is there, is UTF-8 and has the columns asked for, so a source states what it needs
and a user hears which row of which file is not so.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context

__all__ = ["Row", "number", "read_csv", "read_json", "read_lines"]


class Row(dict[str, str]):
    """The cells of one row by column name, stripped; `where` is `file:line`."""

    def __init__(self, cells: dict[str, str], where: str) -> None:
        super().__init__(cells)
        self.where = where

    def number(self, column: str, *, low: float = -math.inf, high: float = math.inf) -> float:
        """Return the cell as a finite number in [low, high].

        Raises:
            LayoutError: It is none; the message names row and column.
        """
        return number(self[column], f"{self.where}: column {column}", low=low, high=high)


def number(text: object, where: str, *, low: float = -math.inf, high: float = math.inf) -> float:
    """Return `text` as a finite number in [low, high].

    Raises:
        LayoutError: It is none; the message begins with `where`.
    """
    try:
        value = float(str(text))
    except ValueError:
        value = math.nan
    if not (low <= value <= high and math.isfinite(value)):
        span = "" if (low, high) == (-math.inf, math.inf) else f" from {low:g} to {high:g}"
        raise LayoutError(f"{where}: expected a number{span}, found {text!r}")
    return value


def read_csv(
    ctx: Context,
    path: Path,
    *,
    columns: Sequence[str] = (),
    names: Sequence[str] = (),
    delimiter: str = ",",
    comment: str = "",
    skip: int = 0,
    quoting: bool = True,
    strict: bool = True,
    count: bool = True,
) -> Iterator[Row]:
    """Yield the rows of a table.

    Args:
        ctx: Counts the rows.
        path: The file.
        columns: Columns that must be there; others are kept as well.
        names: The columns of a file without a header.
        delimiter: One character, or " " for runs of spaces and tabs.
        comment: Lines that begin with it are skipped.
        skip: Lines before the header.
        quoting: Whether double quotes quote.
        strict: Whether every row must have as many cells as the header; otherwise missing cells are "" and further
            ones are joined to the last with the delimiter.
        count: Whether the rows count as read; give False when reading a file a second time.

    Raises:
        LayoutError: The file is missing, not UTF-8, lacks a column, or a row has another number of cells.
    """
    header = list(names)
    cells_of = _cells(path, delimiter, quoting, comment, skip)
    if not header:
        _, first = next(cells_of, (0, []))
        header = [cell.strip() for cell in first]
    missing = [column for column in columns if column not in header]
    if missing:
        raise LayoutError(
            f"{path}: expected the columns {', '.join(columns)}, found {', '.join(header) or 'an empty file'}; "
            "give the publisher's own file"
        )
    for line, cells in cells_of:
        where = f"{path}:{line}"
        if len(cells) != len(header):
            if strict:
                raise LayoutError(f"{where}: expected {len(header)} cells ({', '.join(header)}), found {len(cells)}")
            cells = [*cells, *[""] * (len(header) - len(cells))]
            cells = [*cells[: len(header) - 1], delimiter.join(cells[len(header) - 1 :])]
        ctx.rows[path] += count
        yield Row({name: cell.strip() for name, cell in zip(header, cells, strict=True)}, where)


def _cells(path: Path, delimiter: str, quoting: bool, comment: str, skip: int) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of the lines that are neither blank nor comments."""
    lines = (
        (number, line)
        for number, line in _lines(path)
        if number > skip and line.strip() and not (comment and line.startswith(comment))
    )
    if delimiter == " ":
        yield from ((number, line.split()) for number, line in lines)
        return
    current = 0

    def texts() -> Iterator[str]:
        nonlocal current
        for number, line in lines:
            current = number
            yield line

    reader = csv.reader(
        texts(), delimiter=delimiter, quoting=csv.QUOTE_MINIMAL if quoting else csv.QUOTE_NONE, strict=quoting
    )
    try:
        for cells in reader:
            yield current, cells
    except csv.Error as e:
        raise LayoutError(f"{path}:{current}: expected a row of cells between {delimiter!r}, found: {e}") from e


def read_lines(ctx: Context, path: Path) -> Iterator[tuple[str, str]]:
    """Yield (`file:line`, text) of every line that is not blank, stripped.

    Raises:
        LayoutError: The file is missing or not UTF-8.
    """
    for line_number, line in _lines(path):
        if line.strip():
            ctx.rows[path] += 1
            yield f"{path}:{line_number}", line.strip()


def read_json(path: Path) -> Any:
    """Return the value in a JSON file; the caller counts its records in `Context.rows`.

    Raises:
        LayoutError: The file is missing, not UTF-8, or not JSON.
    """
    try:
        return json.loads("".join(line for _, line in _lines(path)))
    except (json.JSONDecodeError, RecursionError) as e:
        raise LayoutError(f"{path}: expected JSON, found: {e}") from e


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, line with its end); a byte-order mark is passed over."""
    try:
        file = path.open("rb")
    except OSError as e:
        raise LayoutError(f"expected the annotation file {path}, found none that can be read ({e})") from e
    with file:
        for line_number, line in enumerate(file, start=1):
            try:
                yield line_number, line.decode("utf-8-sig" if line_number == 1 else "utf-8")
            except UnicodeDecodeError as e:
                raise LayoutError(f"{path}:{line_number}: expected UTF-8, found byte {line[e.start]:#04x}: {e}") from e
