"""Any table of labelled audio, as CSV, JSON lines or Parquet: the way to train on files of one's own.

Column `path` (relative to the table's folder, or absolute) and at least one of `text`, `label`, `transcript`,
`caption`; optional `kind`, `domain`, `language`, `speaker`, `group`, `dataset`, `split`, `duration` (seconds; read from
the file otherwise), `license`, `upstream` (identifiers as `freesound:123`, split at `;`; they are what finds leakage by
name). Further columns are ignored. In JSON lines and Parquet a cell may be a list, whose items count as if each stood
in a row of its own. Rows with the same path become one clip. `kind` says what `text` is:

    asr          what is spoken                            -> transcript
    translation  the same in English                       -> translations["en"]
    caption      a free description                        -> captions
    tag          `emotion: happy; gender: male; dog bark`  -> attributes (`name: value`) and labels (the other parts)
    event        `dog 0.5 1.2; car horn 2 3.5`             -> events (label, onset, offset in seconds)
    question     `How many dogs? | Two.`                   -> questions

Without a kind, text is a transcript, or a caption where the domain is sound or music. Without a domain, a clip with
a transcript or translation is speech and any other is sound. `label` holds labels split at `;`. Labels belong to
the label set named by `dataset`, which is also the clip's source, so that a mixture can weigh data sets.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from uniwhisper.errors import ManifestError
from uniwhisper.files import read_jsonl
from uniwhisper.sources._context import Context
from uniwhisper.sources._draft import KINDS, TEXT_COLUMNS, Draft
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import FAMILIES, Clip

__all__ = ["KINDS", "SPEC", "SUFFIXES", "convert", "read_table"]

SPEC = SourceSpec(
    name="table",
    version="1",
    homepage="https://www.rfc-editor.org/rfc/rfc4180",
    license="as stated by the owner",
    citation="the table's owner",
    domain="mixed",
    families=FAMILIES,
    languages=(),
    uses=("own",),
    splits=("train", "valid", "test"),
    description="A CSV, JSONL or Parquet table with columns path and text (or label, transcript, caption).",
)

SUFFIXES = (".csv", ".jsonl", ".parquet")
"""The kinds of table."""


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield the clips of the table `root`: a file, or a folder with exactly one.

    Raises:
        ManifestError: The table is not what the module's docstring says; the message names row and file.
    """
    tables = [root] if root.is_file() else sorted(path for path in root.iterdir() if path.suffix.lower() in SUFFIXES)
    if len(tables) != 1:
        names = ", ".join(table.name for table in tables) or "none"
        raise ManifestError(
            f"{ctx.source}: expected a table ({', '.join(SUFFIXES)}) or a folder with exactly one, found {names} in "
            f"{root}"
        )
    ctx.rows[tables[0]] += sum(1 for _ in _rows(tables[0]))
    yield from read_table(tables[0], measured=not ctx.dry_run)


def read_table(path: Path, root: Path | None = None, *, measured: bool = True) -> list[Clip]:
    """Return the clips of the table `path`, in order of first appearance, with absolute audio paths.

    Args:
        path: The table.
        root: Folder that relative audio paths start from; the table's own by default.
        measured: Read durations that the table does not state from the audio, which has to be there.

    Raises:
        ManifestError: A column is missing, a cell is invalid, rows of one clip contradict each other, or an audio
            file is missing; the message names the table and the row (line 1 is the header).
    """
    root = (path.parent if root is None else root).resolve()
    drafts: dict[str, Draft] = {}
    for number, row in _rows(path):
        where = f"{path}:{number}"
        name = row.get("path", "")
        if not name:
            raise ManifestError(f"{where}: expected an audio file in column path, found an empty cell")
        draft = drafts.get(name)
        if draft is None:
            draft = drafts[name] = Draft(id=name, where=where, audio=_existing(root / name, where, measured))
        draft.add(row, where)
    if not drafts:
        raise ManifestError(f"{path}: expected rows below the header, found none")
    source = _source_name(path)
    return [draft.clip(default_source=source, measured=measured) for draft in drafts.values()]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line or row number, cells by lower-case column name), checking the columns."""
    match path.suffix.lower():
        case ".jsonl":
            yield from _rows_of_objects(path, enumerate(read_jsonl(path), start=1))
        case ".parquet":
            yield from _rows_of_objects(path, enumerate(_parquet_objects(path), start=1))
        case _:
            yield from _csv_rows(path)


def _rows_of_objects(path: Path, objects: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the cells of JSON-like objects as text; a list makes several rows, of which only the first has the rest."""
    for number, value in objects:
        if not isinstance(value, dict) or not any(column in value for column in TEXT_COLUMNS):
            raise ManifestError(
                f"{path}:{number}: expected an object with path and at least one of {', '.join(TEXT_COLUMNS)}, "
                f"found {repr(value)[:80]}"
            )
        cells = {str(name).lower(): cell for name, cell in value.items() if not _is_missing(cell)}
        if len({str(name).lower() for name in value}) < len(value):
            raise ManifestError(
                f"{path}:{number}: expected every column once, found {', '.join(map(str, value))[:300]}"
            )
        lists = {name: cell for name, cell in cells.items() if isinstance(cell, list | tuple)}
        plain = {name: _text(cell, name, f"{path}:{number}") for name, cell in cells.items() if name not in lists}
        first = max((len(cell) for cell in lists.values()), default=0) or 1
        for place in range(first):
            items = {
                name: _text(cell[place], name, f"{path}:{number}") for name, cell in lists.items() if place < len(cell)
            }
            kept = plain if place == 0 else {name: plain[name] for name in ("path", "kind", "domain") if name in plain}
            yield number, {**kept, **items}


def _is_missing(cell: Any) -> bool:
    """Return whether a cell is null or NaN, which tables made from data frames hold where there is nothing."""
    return cell is None or (isinstance(cell, float) and math.isnan(cell))


def _text(cell: Any, name: str, where: str) -> str:
    if isinstance(cell, dict | list | tuple | bytes):
        raise ManifestError(f"{where}: expected text or a number in column {name}, found {type(cell).__name__}")
    return str(cell).strip()


def _parquet_objects(path: Path) -> Iterator[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as e:  # the last two: values beyond Python's
        raise ManifestError(f"expected a Parquet table at {path}, found none that can be read ({e})") from e


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by lower-case column name), checking the header."""
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as e:
        raise ManifestError(f"expected a CSV table at {path}, found none that can be read ({e})") from e
    with file:
        reader = csv.reader(file)
        try:
            header = [column.strip().lower() for column in next(reader, [])]
            if "path" not in header or not set(TEXT_COLUMNS) & set(header):
                raise ManifestError(
                    f"{path}:1: expected a header with the column path and at least one of {', '.join(TEXT_COLUMNS)}; "
                    f"found {', '.join(header)[:300] or 'an empty file'}"
                )
            if len(set(header)) < len(header):
                raise ManifestError(f"{path}:1: expected every column once, found {', '.join(header)[:300]}")
            for cells in reader:
                if not cells:
                    continue
                if len(cells) != len(header):
                    raise ManifestError(
                        f"{path}:{reader.line_num}: expected {len(header)} cells as in the header, found {len(cells)} "
                        f"(quote a text that contains a comma)"
                    )
                yield reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True))
        except (csv.Error, UnicodeDecodeError) as e:
            raise ManifestError(f"{path}:{reader.line_num + 1}: expected CSV in UTF-8, found: {e}") from e


def _existing(audio: Path, where: str, measured: bool) -> Path:
    try:
        if not measured or audio.is_file():
            return audio
    except OSError:  # a name too long, or no permission to look
        pass
    raise ManifestError(
        f"{where}: expected an audio file at {str(audio)[:300]}, found none; paths start from the table"
    )


def _source_name(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or SPEC.name
