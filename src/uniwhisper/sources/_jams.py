"""Reader of JAMS files: JSON with time-stamped observations of several kinds about one recording.

Reads one `.jams` file; returns its annotations in the file's order and its metadata, checked in form only: what a
value means is the namespace's and the source's affair. Rows are counted by the source, which knows what it takes for
one.

Source: https://jams.readthedocs.io/en/stable/jams_structure.html; dense namespaces (pitch contours) are written as
one list per field instead of one object per observation (https://github.com/marl/jams, jams/core.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from uniwhisper.errors import LayoutError
from uniwhisper.sources._read import number, read_json

__all__ = ["Jams", "JamsAnnotation", "Observation", "read_jams"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """What was observed from `time_s` for `duration_s`; `value` is a text, a number or an object by namespace."""

    time_s: float
    duration_s: float
    value: Any
    confidence: float | None = None
    where: str = ""
    """`file: annotation i (namespace), observation j`, for errors."""

    @property
    def end_s(self) -> float:
        """Return when the observation ends."""
        return self.time_s + self.duration_s


@dataclass(frozen=True, kw_only=True, slots=True)
class JamsAnnotation:
    """One annotator's or one string's observations in one namespace."""

    namespace: str
    observations: tuple[Observation, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    """`annotation_metadata`: annotator, corpus, data source, ..."""
    sandbox: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Jams:
    """A JAMS file."""

    path: Path
    annotations: tuple[JamsAnnotation, ...]
    metadata: dict[str, Any] = field(default_factory=dict)
    """`file_metadata`: title, artist, duration, identifiers, ..."""
    sandbox: dict[str, Any] = field(default_factory=dict)

    def of(self, *namespaces: str) -> tuple[JamsAnnotation, ...]:
        """Return the annotations in any of `namespaces`, in the file's order."""
        return tuple(annotation for annotation in self.annotations if annotation.namespace in namespaces)


def read_jams(path: Path) -> Jams:
    """Return what the JAMS file holds.

    Raises:
        LayoutError: The file is missing, is no JAMS, or an observation has no time, a negative one or a negative
            duration; the message names file, annotation and observation.
    """
    content = _object(read_json(path), str(path))
    annotations = content.get("annotations")
    if not isinstance(annotations, list):
        raise LayoutError(f"{path}: expected JAMS with a list of annotations, found {_excerpt(annotations)}")
    return Jams(
        path=path,
        annotations=tuple(
            _annotation(item, f"{path}: annotation {index}")
            for index, item in enumerate(cast(list[object], annotations))
        ),
        metadata=_object(content.get("file_metadata"), f"{path}: file_metadata"),
        sandbox=_object(content.get("sandbox"), f"{path}: sandbox"),
    )


def _annotation(item: object, where: str) -> JamsAnnotation:
    content = _object(item, where)
    namespace = content.get("namespace")
    if not isinstance(namespace, str) or not namespace:
        raise LayoutError(f"{where}: expected a namespace, found {_excerpt(namespace)}")
    where = f"{where} ({namespace})"
    return JamsAnnotation(
        namespace=namespace,
        observations=tuple(_observation(_object(row, at), at) for row, at in _rows(content.get("data"), where)),
        metadata=_object(content.get("annotation_metadata"), f"{where}: annotation_metadata"),
        sandbox=_object(content.get("sandbox"), f"{where}: sandbox"),
    )


def _rows(data: object, where: str) -> Iterator[tuple[object, str]]:
    """Yield every observation as an object and where it stands, from either way of writing them."""
    if isinstance(data, dict):
        fields = cast(dict[str, object], data)
        columns = {name: cast(list[object], column) for name, column in fields.items() if isinstance(column, list)}
        if len(columns) < len(fields) or len({len(column) for column in columns.values()}) > 1:
            raise LayoutError(f"{where}: expected lists of one length in data, found {_excerpt(data)}")
        names = list(columns)
        rows: list[object] = [dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
    elif isinstance(data, list):
        rows = cast(list[object], data)
    else:
        raise LayoutError(f"{where}: expected a list or lists of observations as data, found {_excerpt(data)}")
    for index, row in enumerate(rows):
        yield row, f"{where}, observation {index}"


def _observation(row: dict[str, Any], where: str) -> Observation:
    missing = sorted({"time", "duration", "value"} - row.keys())
    if missing:
        raise LayoutError(f"{where}: expected time, duration and value, found no {', '.join(missing)}")
    confidence = row.get("confidence")
    return Observation(
        time_s=number(row["time"], f"{where}: time", low=0),
        duration_s=number(row["duration"], f"{where}: duration", low=0),
        value=row["value"],
        confidence=None if confidence is None else number(confidence, f"{where}: confidence"),
        where=where,
    )


def _object(value: object, where: str) -> dict[str, Any]:
    """Return a JSON object; one that is not there is empty.

    Raises:
        LayoutError: It is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise LayoutError(f"{where}: expected a JSON object, found {_excerpt(value)}")
    return cast(dict[str, Any], value)


def _excerpt(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
