"""Readers of annotation files: CSV, lines, JSON; rows are counted, and a bad one is named by file and line.

Every reader checks that the file is there, is UTF-8 and has the columns asked for, so a source states what it needs
and a user hears which row of which file is not so. A compressed file is read up to a bound.
"""

from __future__ import annotations

import csv
import gzip
import json
import math
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context

_MAX_CELL = 16 << 20
"""Characters of a cell; the default of 131,072 is less than some biographies in the FMA's tables."""
_MAX_GZIP_BYTES = 64 << 20
"""Far above any text that comes compressed; what expands further is damaged or an attack."""
_MAX_LISTED_CHARS = 800
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")

__all__ = ["Row", "by_column", "json_value", "number", "read_csv", "read_gzip", "read_json", "read_lines", "read_text"]


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

    def whole(self, column: str, *, low: int = 0, high: int = 1_000_000) -> int:
        """Return the cell as a whole number in [low, high]; `3.0` is one, as spreadsheets write it.

        Raises:
            LayoutError: It is none; the message names row and column.
        """
        value = self.number(column, low=low, high=high)
        if value != int(value):
            raise LayoutError(f"{self.where}: column {column}: expected a whole number, found {self[column][:80]!r}")
        return int(value)


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
        raise LayoutError(f"{where}: expected a number{span}, found {repr(text)[:80]}")
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
        LayoutError: The file is missing, not UTF-8, lacks a column or has one twice, or a row has another number of
            cells.
    """
    header = list(names)
    cells_of = _cells(path, delimiter, quoting, comment, skip)
    if not header:
        _, first = next(cells_of, (0, []))
        header = [cell.strip() for cell in first]
    missing = [column for column in columns if column not in header]
    if missing:
        raise LayoutError(
            f"{path}: expected the columns {', '.join(columns)}, found {_listed(header) or 'an empty file'}; "
            "give the publisher's own file"
        )
    if twice := [column for column, count in Counter(header).items() if column and count > 1]:
        raise LayoutError(f"{path}: expected every column once, found {_listed(twice)} twice or more")
    for line, cells in cells_of:
        where = f"{path}:{line}"
        if len(cells) != len(header):
            if strict:
                raise LayoutError(f"{where}: expected {len(header)} cells ({_listed(header)}), found {len(cells)}")
            cells = [*cells, *[""] * (len(header) - len(cells))]
            cells = [*cells[: len(header) - 1], delimiter.join(cells[len(header) - 1 :])]
        ctx.rows[path] += count
        yield Row({name: cell.strip() for name, cell in zip(header, cells, strict=True)}, where)


def _listed(names: Sequence[str]) -> str:
    """Return names of columns for a message, which stays short whatever they are."""
    text = ", ".join(name[:80] for name in names)
    return text if len(text) <= _MAX_LISTED_CHARS else f"{text[:_MAX_LISTED_CHARS]}..."


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
    csv.field_size_limit(_MAX_CELL)
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


def by_column(rows: Iterable[Row], column: str) -> dict[str, Row]:
    """Return the rows by the cell of a column that must tell them apart; a row that is repeated counts once.

    Raises:
        LayoutError: Two rows have the same cell there and differ elsewhere; the message names both.
    """
    found: dict[str, Row] = {}
    for row in rows:
        earlier = found.setdefault(row[column], row)
        if earlier != row:
            raise LayoutError(
                f"{row.where}: expected one row with {column} {row[column][:80]!r}, found another one that says "
                f"otherwise at {earlier.where}"
            )
    return found


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
    return json_value(read_text(path), str(path))


def json_value(text: str, where: str) -> Any:
    """Return the value of a JSON text.

    Raises:
        LayoutError: It is no JSON, is nested too deep, holds half of a surrogate pair, or an object has a name twice;
            the message begins with `where`.
    """
    try:
        value = json.loads(text, object_pairs_hook=_object)
        if _SURROGATE.search(text):  # most are pairs, which are characters; half of one is none
            json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as e:
        found = str(e.object)[max(0, e.start - 40) : e.start + 1]
        raise LayoutError(f"{where}: expected text, found half of a surrogate pair after {found!r}") from e
    except (ValueError, RecursionError) as e:
        raise LayoutError(f"{where}: expected JSON, found: {e}") from e
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"{name[:80]!r} {count} times in one object")
    return found


def read_gzip(path: Path) -> str:
    """Return the content of a text file that is compressed by gzip, its byte-order mark left out.

    Raises:
        LayoutError: The file is missing, damaged, not UTF-8, or expands to more than any annotation has.
    """
    try:
        with gzip.open(path) as file:
            content = file.read(_MAX_GZIP_BYTES + 1)
        if len(content) > _MAX_GZIP_BYTES:
            raise LayoutError(f"{path}: expected gzipped text, found one that expands to over {_MAX_GZIP_BYTES} bytes")
        return content.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as e:
        raise LayoutError(f"expected gzipped text in UTF-8 in {path}, found: {e}; fetch it again") from e


def read_text(path: Path) -> str:
    """Return the content of a text file, its byte-order mark left out.

    Raises:
        LayoutError: The file is missing or not UTF-8; the message names the line.
    """
    return "".join(line for _, line in _lines(path))


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
