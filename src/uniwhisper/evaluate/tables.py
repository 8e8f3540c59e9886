"""Read a CSV table of labelled audio files as an evaluation task.

Reads: a CSV with the columns `path`, `label` and `split` (or `fold`), optionally `group` (or `speaker`) and `domain`;
other columns (duration, transcript, ...) are ignored. Relative paths are relative to the CSV's folder.
Guarantees: every file exists, no file is listed twice, no needed cell is empty, the labels are classes rather than
transcripts, and split names are `train`, `valid`, `test` or `fold<number>`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from uniwhisper.errors import TaskError
from uniwhisper.files import sha256_file
from uniwhisper.types import DOMAINS

__all__ = ["LABEL_SEPARATOR", "Task", "read_table", "task_name"]

LABEL_SEPARATOR = ";"
"""Separates the labels of a clip that has several; one such clip makes the whole task multi-label."""
MIN_CLIPS_PER_CLASS = 2.0
"""Below this average, `label` is a transcript or an identifier and not a class."""

_SPLIT_NAMES = {
    "train": "train",
    "valid": "valid",
    "test": "test",
    "val": "valid",
    "validation": "valid",
    "dev": "valid",
}
_GROUP_COLUMNS = ("group", "speaker")
_FOLD = re.compile(r"(?:fold[ _-]?)?(\d+)", re.IGNORECASE)
_SHOWN = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Task:
    """A classification task over N clips; every sequence is in the table's row order."""

    name: str
    table: Path
    table_sha256: str
    domain: str
    """`speech`, `sound`, `music`, or empty where the table does not say."""
    ids: tuple[str, ...]
    """The `path` cells as written: the clips' identifiers in stored predictions."""
    paths: tuple[Path, ...]
    labels: tuple[tuple[str, ...], ...]
    """One label a clip, or several in a multi-label task."""
    classes: tuple[str, ...]
    """Sorted distinct labels; class indices refer to this order."""
    multilabel: bool
    splits: tuple[str, ...]
    """`train`, `valid`, `test`, or `fold<number>` for every clip."""
    groups: tuple[str, ...] | None
    """Speaker, recording or instrument of every clip, where the table says."""
    group_column: str
    """The column that `groups` came from; empty where there is none."""

    def targets(self) -> np.ndarray:
        """Return class indices, int64 [N], or, in a multi-label task, a 0/1 matrix, uint8 [N, C]."""
        index = {label: i for i, label in enumerate(self.classes)}
        if not self.multilabel:
            return np.array([index[labels[0]] for labels in self.labels], dtype=np.int64)
        matrix = np.zeros((len(self.labels), len(self.classes)), dtype=np.uint8)
        for row, labels in enumerate(self.labels):
            matrix[row, [index[label] for label in labels]] = 1
        return matrix


def task_name(table: Path) -> str:
    """Return the task's name: the table's file name without its suffix and without a leading `eval_`."""
    return table.stem.removeprefix("eval_") or table.stem


def read_table(table: Path, *, domain: str = "") -> Task:
    """Return the task that `table` describes.

    Args:
        table: CSV file, UTF-8, with a header row.
        domain: `speech`, `sound` or `music`; overrides the table's `domain` column.

    Raises:
        TaskError: The table is missing, lacks a column, has an empty cell, an unknown split, a repeated or missing
            file, fewer than two classes, or labels that are not classes; the message names the row or the column.
    """
    rows, columns = _read_rows(table)
    split_column = _first_of(columns, ("split", "fold"))
    if split_column is None or not {"path", "label"} <= set(columns):
        raise TaskError(
            f"{table}: expected the columns path, label and split (or fold); found {', '.join(columns) or 'none'}. "
            "Rename or add the missing ones in the header row"
        )
    group_column = _first_of(columns, _GROUP_COLUMNS)
    ids = tuple(_cell(table, line, row, "path") for line, row in rows)
    labels = tuple(_labels(table, line, row) for line, row in rows)
    splits = tuple(_split(table, line, row, split_column) for line, row in rows)
    groups = tuple(_cell(table, line, row, group_column) for line, row in rows) if group_column else None
    classes = tuple(sorted({label for clip in labels for label in clip}))
    paths = tuple(table.parent / id for id in ids)
    _check_classes(table, classes, labels)
    _check_files(table, ids, paths)
    return Task(
        name=task_name(table),
        table=table,
        table_sha256=sha256_file(table),
        domain=_domain(table, rows, domain),
        ids=ids,
        paths=paths,
        labels=labels,
        classes=classes,
        multilabel=any(len(clip) > 1 for clip in labels),
        splits=splits,
        groups=groups,
        group_column=group_column or "",
    )


def _read_rows(table: Path) -> tuple[list[tuple[int, dict[str, str]]], list[str]]:
    """Return (line number, row) pairs and the column names."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows = [(reader.line_num, cast("dict[str, str]", row)) for row in reader]
            columns = [name.strip() for name in reader.fieldnames or []]
    except OSError as e:
        raise TaskError(f"expected a CSV table at {table}, found none that can be read ({e.strerror})") from e
    except (UnicodeDecodeError, csv.Error) as e:
        raise TaskError(f"{table}: expected a UTF-8 CSV table, found: {e}. Save the table as UTF-8 CSV") from e
    if not rows:
        raise TaskError(f"{table}: expected one row a clip, found no rows")
    for line, row in rows:
        if None in cast("dict[Any, Any]", row):
            raise TaskError(f"{table}:{line}: expected {len(columns)} cells, found more. Quote cells that hold commas")
    return [(line, {key.strip(): value for key, value in row.items()}) for line, row in rows], columns


def _first_of(columns: list[str], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in columns), None)


def _cell(table: Path, line: int, row: dict[str, str], column: str) -> str:
    value = row[column].strip()
    if not value:
        raise TaskError(f"{table}:{line}: expected a value in the column {column!r}, found an empty cell")
    return value


def _labels(table: Path, line: int, row: dict[str, str]) -> tuple[str, ...]:
    cell = _cell(table, line, row, "label")
    labels = tuple(dict.fromkeys(part.strip() for part in cell.split(LABEL_SEPARATOR) if part.strip()))
    if not labels:
        raise TaskError(f"{table}:{line}: expected labels separated by {LABEL_SEPARATOR!r}, found {cell!r}")
    return labels


def _split(table: Path, line: int, row: dict[str, str], column: str) -> str:
    value = _cell(table, line, row, column)
    if (name := _SPLIT_NAMES.get(value.lower())) is not None:
        return name
    if match := _FOLD.fullmatch(value):
        return f"fold{int(match[1])}"
    raise TaskError(f"{table}:{line}: expected train, valid, test or fold<number> in {column!r}, found {value!r}")


def _domain(table: Path, rows: list[tuple[int, dict[str, str]]], override: str) -> str:
    found = {override} if override else {row.get("domain", "").strip() for _, row in rows}
    if len(found) > 1 or not found <= {"", *DOMAINS}:
        raise TaskError(
            f"{table}: expected one domain for the whole task, of {', '.join(DOMAINS)}; found {sorted(found)}"
        )
    return found.pop()


def _check_classes(table: Path, classes: tuple[str, ...], labels: tuple[tuple[str, ...], ...]) -> None:
    if len(classes) < 2:
        raise TaskError(f"{table}: expected at least two classes in the column 'label', found {len(classes)}")
    if len(labels) < MIN_CLIPS_PER_CLASS * len(classes):
        raise TaskError(
            f"{table}: expected classes in the column 'label', found {len(classes)} distinct values in {len(labels)} "
            f"clips ({classes[0][:40]!r}, ...): these look like transcripts or identifiers. "
            "Speech recognition is not a classification task; give a table whose labels repeat"
        )


def _check_files(table: Path, ids: tuple[str, ...], paths: tuple[Path, ...]) -> None:
    repeated = [id for id, count in Counter(ids).items() if count > 1]
    if repeated:
        raise TaskError(f"{table}: expected each path once, found {len(repeated)} repeated: {_some(repeated)}")
    missing = [str(path) for path in paths if not path.is_file()]
    if missing:
        raise TaskError(
            f"{table}: expected {len(paths)} audio files, found {len(missing)} missing: {_some(missing)}. "
            "Relative paths are relative to the table's folder"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
