"""Read a CSV table of audio files as an evaluation task.

Reads: a CSV with the columns `path`, `label` and `split` (or `fold`), optionally `group` (or `speaker`) and `domain`;
other columns (duration, transcript, ...) are ignored. Relative paths are relative to the CSV's folder. Where the caller
says that the task is of kind `asr` or `frame`, the answers stand in the column `transcript` or `events` (or `label`).
Guarantees: every file exists, no file is listed twice, no needed cell is empty, the labels are classes rather than
transcripts, and split names are `train`, `valid`, `test` or `fold<number>`.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from uniwhisper.clips import measure
from uniwhisper.errors import TaskError
from uniwhisper.evaluate.task import Kind, Metric, Task
from uniwhisper.types import DOMAINS, Annotation, Clip, Domain, Event

__all__ = ["LABEL_SEPARATOR", "TableKind", "read_table", "task_name"]

TableKind = Literal["clip", "asr", "frame"]
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
_ANSWER_COLUMNS = {"clip": ("label",), "asr": ("transcript", "label"), "frame": ("events", "label")}
_METRIC_OF: dict[Kind, Metric] = {"clip": "accuracy", "multilabel": "map", "frame": "segment_f1", "asr": "iwer"}
_EVENT = re.compile(r"(?P<label>\S.*?)\s+(?P<onset>\d+(?:\.\d+)?)\s+(?P<offset>\d+(?:\.\d+)?)")
_FOLD = re.compile(r"(?:fold[ _-]?)?(\d+)", re.IGNORECASE)
_SHOWN = 3


def task_name(table: Path) -> str:
    """Return the task's name: the table's file name without its suffix and without a leading `eval_`."""
    return table.stem.removeprefix("eval_") or table.stem


def read_table(table: Path, *, domain: str = "", kind: TableKind = "clip") -> Task:
    """Return the task that `table` describes.

    Args:
        table: CSV file, UTF-8, with a header row.
        domain: `speech`, `sound` or `music`; overrides the table's `domain` column.
        kind: `clip`: labels (several in one cell make the task multi-label); `asr`: transcripts; `frame`: events as
            `label onset_s offset_s`, several separated by `;`, an empty cell where nothing is heard.

    Raises:
        TaskError: The table is missing, lacks a column, has an empty cell, an unknown split, a repeated or missing
            file, fewer than two classes, or labels that are not classes; the message names the row or the column.
    """
    rows, columns = _read_rows(table)
    split_column = _first_of(columns, ("split", "fold"))
    answer_column = _first_of(columns, _ANSWER_COLUMNS[kind])
    if split_column is None or answer_column is None or "path" not in columns:
        wanted = " or ".join(_ANSWER_COLUMNS[kind])
        raise TaskError(
            f"{table}: expected the columns path, {wanted} and split (or fold); found {', '.join(columns) or 'none'}. "
            "Rename or add the missing ones in the header row"
        )
    group_column = _first_of(columns, _GROUP_COLUMNS)
    ids = tuple(_cell(table, line, row, "path") for line, row in rows)
    splits = tuple(_split(table, line, row, split_column) for line, row in rows)
    groups = tuple(_cell(table, line, row, group_column) for line, row in rows) if group_column else None
    answers = [_answer(table, line, row, answer_column, kind) for line, row in rows]
    labels = tuple(_labels(table, line, row) for line, row in rows) if kind == "clip" else ()
    classes = sorted({name for clip in labels for name in clip} | {e.label for one in answers for e in one.events})
    paths = tuple(table.parent / id for id in ids)
    if kind != "asr":
        _check_classes(table, tuple(classes), labels)
    _check_files(table, ids, paths)
    found = "multilabel" if any(len(clip) > 1 for clip in labels) else kind
    domain = _domain(table, rows, domain)
    clips = [
        _clip(id, path, domain, answer, timed=kind == "frame")
        for id, path, answer in zip(ids, paths, answers, strict=True)
    ]
    return Task(
        name=task_name(table),
        title=task_name(table),
        domain=domain,
        kind=found,
        metric=_METRIC_OF[found],
        clips=tuple(clips),
        labels=labels,
        classes=tuple(classes),
        splits=splits,
        groups=groups,
        group_kind=group_column or "",
        has_knn=kind == "clip",
        where=str(table),
    )


def _answer(table: Path, line: int, row: dict[str, str], column: str, kind: TableKind) -> Annotation:
    if kind == "asr":
        return Annotation(transcript=_cell(table, line, row, column))
    if kind == "frame":
        parts = [part for part in row[column].split(LABEL_SEPARATOR) if part.strip()]
        return Annotation(events=tuple(_event(f"{table}:{line}", part) for part in parts))
    return Annotation()


def _event(where: str, text: str) -> Event:
    match = _EVENT.fullmatch(text.strip())
    if match is None or not float(match["onset"]) < float(match["offset"]):
        raise TaskError(f"{where}: expected an event as `label onset_s offset_s`, found {text.strip()!r}")
    return Event(label=match["label"], onset_s=float(match["onset"]), offset_s=float(match["offset"]))


def _clip(id: str, path: Path, domain: str, answer: Annotation, *, timed: bool) -> Clip:
    """Return a whole file as a clip; its duration is measured only where events need it."""
    clip = Clip(
        id=id,
        source="table",
        path=path.resolve().as_posix(),
        split="",
        duration_s=0.0,
        domain=cast("Domain", domain or "sound"),
        annotation=answer,
    )
    return replace(clip, duration_s=measure(clip)) if timed else clip


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
    if labels and len(labels) < MIN_CLIPS_PER_CLASS * len(classes):
        raise TaskError(
            f"{table}: expected classes in the column 'label', found {len(classes)} distinct values in {len(labels)} "
            f"clips ({classes[0][:40]!r}, ...): these look like transcripts or identifiers. "
            "Give a table whose labels repeat; for speech recognition say so (--table-kind TASK=asr)"
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
