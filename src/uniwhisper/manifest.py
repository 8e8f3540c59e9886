"""Manifests: clips as JSON lines, one clip a line, checked on the way in and on the way out.

Reads and writes `manifest.jsonl`. In the file, audio below the manifest's folder is named relative to it, so that a
folder can be moved; in memory every path is absolute, so that clips of several manifests can be mixed. Fields that
hold nothing are left out of the file. Guarantees: known fields only, a known domain, a positive duration, ids unique
within their source.
"""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniwhisper.errors import ManifestError
from uniwhisper.files import read_jsonl, write_jsonl
from uniwhisper.types import DOMAINS, Annotation, Clip, Event, Note, Question

__all__ = [
    "Statistics",
    "Tally",
    "check_clip",
    "check_unique",
    "clip_from_json",
    "clip_to_json",
    "read_manifest",
    "statistics",
    "write_manifest",
]

_SPLIT = re.compile(r"train|valid|test|fold\d+")
_PARTS: dict[str, type[Event] | type[Note] | type[Question]] = {"events": Event, "notes": Note, "questions": Question}
_TEXTS = ("transcript", "label_set")
_TEXT_LISTS = ("captions", "labels")
_TEXT_MAPS = ("translations", "attributes", "metadata")
_COUNTS = ("offset_bytes", "num_bytes")
_PITCHES = range(128)
_LATEST_S = 1e6
"""Eleven days: no recording is longer, so a later time is damaged, or counts something else than seconds."""
_MAX_ID_CHARS = 1024
_NOT_IN_IDS = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
"""Control characters, line ends, and what UTF-8 cannot hold: half surrogate pairs, file names in another encoding."""
_REQUIRED = ("id", "source", "path", "split", "duration_s", "domain")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tally:
    """How much audio a part of a manifest holds."""

    num_clips: int
    hours: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistics:
    """What a manifest holds, in total and by part; every mapping is sorted by name."""

    num_clips: int
    hours: float
    sources: dict[str, Tally]
    domains: dict[str, Tally]
    splits: dict[str, Tally]
    languages: dict[str, Tally]
    """Clips with a language only."""
    labels: dict[str, int]
    """Label -> number of clips that carry it."""
    num_speakers: int


def check_clip(clip: Clip, where: str) -> Clip:
    """Return `clip` if its own fields are valid.

    Raises:
        ManifestError: A field is empty, unknown or out of range; the message starts with `where`.
    """

    def fail(expected: str, found: object) -> ManifestError:
        text = repr(found)
        shown = text if len(text) <= 200 else f"{text[:197]}..."
        return ManifestError(f"{where}: clip {clip.id[:100]!r}: expected {expected}, found {shown}")

    for name in ("id", "source", "path"):
        value = getattr(clip, name)
        if not value:
            raise fail(f"a non-empty {name}", value)
        if _NOT_IN_IDS.search(value) and name != "path":
            raise fail(f"{name} on one line, without control characters, in UTF-8", value)
    if len(clip.id) > _MAX_ID_CHARS:
        raise fail(f"an id of at most {_MAX_ID_CHARS} characters", clip.id)
    if "\0" in clip.path or not _is_text(clip.path):
        raise fail("path to be a file name in UTF-8", clip.path)
    if clip.domain not in DOMAINS:
        raise fail(f"domain to be one of {', '.join(DOMAINS)}", clip.domain)
    if not 0 < clip.duration_s <= _LATEST_S:
        raise fail("a positive duration_s in seconds, of at most 11 days", clip.duration_s)
    if not _SPLIT.fullmatch(clip.split):
        raise fail("split to be train, valid, test or foldN", clip.split)
    if not 0 <= clip.start_s <= _LATEST_S:
        raise fail("start_s of at least 0 seconds and at most 11 days", clip.start_s)
    if min(clip.offset_bytes, clip.num_bytes) < 0:
        raise fail("offset_bytes and num_bytes of at least 0", (clip.offset_bytes, clip.num_bytes))
    _check_annotation(clip.annotation, fail)
    return clip


def _check_annotation(annotation: Annotation, fail: Callable[[str, object], ManifestError]) -> None:
    """Raise what `fail` makes unless times are in order, pitches are MIDI's, and no label or caption is blank."""
    for item in (*annotation.events, *annotation.notes):
        if not 0 <= item.onset_s <= item.offset_s <= _LATEST_S:
            raise fail("onset_s of at least 0 seconds, offset_s not before it, both of at most 11 days", item)
    for note in annotation.notes:
        if note.pitch not in _PITCHES:
            raise fail("pitch to be a whole number from 0 to 127", note)
    if min(annotation.votes.values(), default=0) < 0:
        raise fail("votes of at least 0", annotation.votes)
    for name in _TEXT_LISTS:
        if not all(text.strip() for text in getattr(annotation, name)):
            raise fail(f"{name} without a blank one", getattr(annotation, name))


def _is_text(text: str) -> bool:
    """Return whether UTF-8 can hold `text`."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_unique(clips: Iterable[Clip], where: str) -> Iterator[Clip]:
    """Yield the clips, each checked by `check_clip`, and stop at the first id that its source already used.

    Raises:
        ManifestError: A clip is invalid or its id repeats; the message starts with `where`.
    """
    seen: dict[tuple[str, str], str] = {}
    for clip in clips:
        check_clip(clip, where)
        key = (clip.source, clip.id)
        if key in seen:
            raise ManifestError(
                f"{where}: expected ids to be unique within source {clip.source!r}, found {clip.id!r} for both "
                f"{seen[key]} and {clip.path}; give each clip its own id"
            )
        seen[key] = clip.path
        yield clip


def clip_to_json(clip: Clip) -> dict[str, Any]:
    """Return `clip` as a JSON-ready object without its empty fields."""
    row = dataclasses.asdict(clip)
    row["annotation"] = {name: value for name, value in row["annotation"].items() if value}
    return {name: value for name, value in row.items() if value or name in _REQUIRED or name == "annotation"}


def clip_from_json(row: Any, where: str) -> Clip:
    """Return the clip in `row`; the inverse of `clip_to_json`.

    Raises:
        ManifestError: A field is missing, unknown or mistyped; the message starts with `where`.
    """
    row = _object(row, "a clip object", where)
    missing = [name for name in (*_REQUIRED, "annotation") if name not in row]
    if missing:
        raise ManifestError(f"{where}: expected a clip with {', '.join(missing)}, found only {', '.join(sorted(row))}")
    _no_strangers(Clip, row, where)
    values = dict(row)
    for name, value in row.items():
        if name in ("duration_s", "start_s"):
            values[name] = _seconds(value, name, where)
        elif name in _COUNTS:
            _check(value, int, name, where)
        elif name == "upstream_ids":
            values[name] = tuple(
                _check(item, str, f"each of {name}", where) for item in _check(value, list, name, where)
            )
        elif name != "annotation":
            _check(value, str, name, where)
    values["annotation"] = _annotation_from_json(row["annotation"], where)
    return check_clip(Clip(**values), where)


def _annotation_from_json(value: Any, where: str) -> Annotation:
    row = dict(_object(value, "annotation to be an object", where))
    _no_strangers(Annotation, row, where)
    for name in _TEXTS:
        _check(row.get(name, ""), str, name, where)
    for name in _TEXT_LISTS:
        items = _check(row.get(name, []), list, name, where)
        row[name] = tuple(_check(item, str, f"each of {name}", where) for item in items)
    for name in _TEXT_MAPS:
        for item in _object(row.get(name, {}), f"{name} to be an object", where).values():
            _check(item, str, f"each of {name}", where)
    for item in _object(row.get("votes", {}), "votes to be an object", where).values():
        _check(item, int, "each of votes", where)
    for name, kind in _PARTS.items():
        row[name] = tuple(_part(kind, item, where) for item in _check(row.get(name, []), list, name, where))
    return Annotation(**row)


def _part(kind: type[Event] | type[Note] | type[Question], value: Any, where: str) -> Any:
    row = _object(value, f"{kind.__name__.lower()} to be an object", where)
    _no_strangers(kind, row, where)
    values = dict(row)
    for name, item in row.items():
        if name in ("onset_s", "offset_s"):
            values[name] = _seconds(item, name, where)
        else:
            _check(item, int if name == "pitch" else str, name, where)
    try:
        return kind(**values)
    except TypeError as e:
        raise ManifestError(f"{where}: expected a complete {kind.__name__.lower()}, found {row!r} ({e})") from e


def _seconds(value: Any, name: str, where: str) -> float:
    try:
        return float(_check(value, (int, float), name, where))
    except OverflowError as e:
        raise ManifestError(f"{where}: expected {name} in seconds, found a number with hundreds of digits") from e


def _object(value: Any, expected: str, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ManifestError(f"{where}: expected {expected}, found {repr(value)[:200]}")
    return value


def _check(value: Any, kind: type | tuple[type, type], name: str, where: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        expected = "a number" if isinstance(kind, tuple) else kind.__name__
        raise ManifestError(f"{where}: expected {name} to be {expected}, found {repr(value)[:200]}")
    return value


def _no_strangers(kind: type, row: Mapping[str, Any], where: str) -> None:
    known = {field.name for field in dataclasses.fields(kind)}
    strangers = sorted(set(row) - known)
    if strangers:
        raise ManifestError(
            f"{where}: expected only the fields of {kind.__name__} ({', '.join(sorted(known))}), "
            f"found also {', '.join(strangers)}"
        )


def write_manifest(path: Path, clips: Iterable[Clip]) -> int:
    """Write `clips` to `path`, atomically, and return how many; audio below its folder is named relative to it.

    Raises:
        ManifestError: A clip is invalid or an id repeats within its source; nothing is written then.
    """
    folder = path.parent.resolve()

    def rows() -> Iterator[dict[str, Any]]:
        for clip in check_unique(clips, str(path)):
            yield clip_to_json(dataclasses.replace(clip, path=_relative(clip.path, folder)))

    return write_jsonl(path, rows())


def _relative(path: str, folder: Path) -> str:
    audio = Path(path)
    if audio.is_absolute() and audio.is_relative_to(folder):
        return audio.relative_to(folder).as_posix()
    return path


def read_manifest(path: Path) -> list[Clip]:
    """Return the clips of `path` in the file's order, their audio paths made absolute.

    Raises:
        ManifestError: The file is missing, a line is not a valid clip, or an id repeats; the message names the line.
    """
    folder = path.parent.resolve()
    clips = (clip_from_json(row, f"{path}:{number}") for number, row in enumerate(read_jsonl(path), start=1))
    return [dataclasses.replace(clip, path=str(folder / clip.path)) for clip in check_unique(clips, str(path))]


def statistics(clips: Iterable[Clip]) -> Statistics:
    """Return how many clips and hours there are, in total and per source, domain, split, language and label."""
    clips = list(clips)

    def by(values: Iterable[str]) -> dict[str, Tally]:
        counts: Counter[str] = Counter()
        seconds: dict[str, float] = {}
        for clip, value in zip(clips, values, strict=True):
            counts[value] += 1
            seconds[value] = seconds.get(value, 0.0) + clip.duration_s
        return {name: Tally(num_clips=counts[name], hours=seconds[name] / 3600) for name in sorted(counts) if name}

    labels = Counter(label for clip in clips for label in clip.annotation.labels)
    return Statistics(
        num_clips=len(clips),
        hours=sum(clip.duration_s for clip in clips) / 3600,
        sources=by(clip.source for clip in clips),
        domains=by(clip.domain for clip in clips),
        splits=by(clip.split for clip in clips),
        languages=by(clip.language for clip in clips),
        labels=dict(sorted(labels.items())),
        num_speakers=len({(clip.source, clip.speaker) for clip in clips if clip.speaker}),
    )
