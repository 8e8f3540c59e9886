"""Clips of one's own audio, put together from rows of cells: shared by the sources that read owners' annotations.

`table.py` says what the cells mean. Writes nothing; a cell that cannot be understood is refused with its place.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from uniwhisper.clips import measure
from uniwhisper.errors import AudioError, ManifestError
from uniwhisper.identifiers import parse
from uniwhisper.manifest import check_clip
from uniwhisper.types import Annotation, Clip, Domain, Event, Question

__all__ = ["KINDS", "TEXT_COLUMNS", "Draft"]

TEXT_COLUMNS = ("text", "label", "transcript", "caption")
"""Columns of which a row needs one."""

KINDS = ("asr", "translation", "caption", "tag", "event", "question")
"""What the `text` column may hold."""

_SHARED = ("dataset", "domain", "language", "speaker", "group", "split", "duration", "license")
"""Columns on which all rows of one clip must agree; an empty cell agrees with everything."""
_ATTRIBUTE = re.compile(r"(?P<name>[^:]+):\s+(?P<value>\S.*)")
_EVENT = re.compile(r"(?P<label>\S.*?)\s+(?P<onset>\d+(\.\d*)?)\s+(?P<offset>\d+(\.\d*)?)")


@dataclass(kw_only=True, slots=True)
class Draft:
    """A clip while its rows are being read."""

    id: str
    where: str
    """Table and line of the first row."""
    audio: Path
    offset_bytes: int = 0
    num_bytes: int = 0
    shared: dict[str, str] = field(default_factory=dict)
    transcript: str = ""
    translation: str = ""
    captions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    upstream_ids: list[str] = field(default_factory=list)

    def add(self, row: dict[str, str], where: str) -> None:
        """Add one row of the clip."""
        for column in _SHARED:
            value = row.get(column, "")
            if value:
                self._agree(column, self.shared.setdefault(column, value), value, where)
        if row.get("transcript"):
            self._set("transcript", row["transcript"], where)
        self.labels += _new(self.labels, row.get("label", "").split(";"))
        self.captions += _new(self.captions, [row.get("caption", "")])
        self.upstream_ids += _new(self.upstream_ids, row.get("upstream", "").split(";"))
        text, kind = row.get("text", ""), row.get("kind", "").lower()
        if not text:
            if not any(row.get(column) for column in TEXT_COLUMNS):
                raise ManifestError(f"{where}: expected one of {', '.join(TEXT_COLUMNS)} for {self.id}, found none")
            return
        if not kind:
            kind = "caption" if self.shared.get("domain") in ("sound", "music") else "asr"
        self._add_text(kind, text, where)

    def _add_text(self, kind: str, text: str, where: str) -> None:
        match kind:
            case "asr":
                self._set("transcript", text, where)
            case "translation":
                self._set("translation", text, where)
            case "caption":
                self.captions += _new(self.captions, [text])
            case "tag":
                self._add_tags(text, where)
            case "event":
                events = [_event(part, where) for part in text.split(";") if part.strip()]
                self.events += [event for event in dict.fromkeys(events) if event not in self.events]
            case "question":
                question = _question(text, where)
                self.questions += [question] if question not in self.questions else []
            case _:
                raise ManifestError(f"{where}: expected kind to be one of {', '.join(KINDS)}, found {kind!r}")

    def _add_tags(self, text: str, where: str) -> None:
        for part in (part.strip() for part in text.split(";")):
            match = _ATTRIBUTE.fullmatch(part)
            if match is None:
                self.labels += _new(self.labels, [part])
            else:
                name, value = match["name"].strip(), match["value"].strip()
                self._agree(name, self.attributes.setdefault(name, value), value, where)

    def _set(self, name: str, value: str, where: str) -> None:
        self._agree(name, getattr(self, name) or value, value, where)
        setattr(self, name, value)

    def _agree(self, name: str, earlier: str, value: str, where: str) -> None:
        if earlier != value:
            raise ManifestError(
                f"{where}: expected one {name} for {self.id}, found {earlier!r} in an earlier row and {value!r} here"
            )

    def clip(self, default_source: str, *, measured: bool = True) -> Clip:
        """Return the finished clip; where the rows state no duration and `measured` is false, with `duration_s=0`."""
        shared = self.shared
        source = shared.get("dataset", default_source)
        spoken = bool(self.transcript or self.translation)
        clip = Clip(
            id=self.id,
            source=source,
            path=str(self.audio),
            split=shared.get("split", "train"),
            duration_s=_duration_s(shared.get("duration", ""), self.audio, self.where),
            offset_bytes=self.offset_bytes,
            num_bytes=self.num_bytes,
            domain=cast(Domain, shared.get("domain", "speech" if spoken else "sound")),
            annotation=Annotation(
                transcript=self.transcript,
                translations={"en": self.translation} if self.translation else {},
                captions=tuple(self.captions),
                labels=tuple(self.labels),
                label_set=source if self.labels else "",
                attributes=self.attributes,
                events=tuple(self.events),
                questions=tuple(self.questions),
            ),
            language=shared.get("language", ""),
            speaker=shared.get("speaker", ""),
            group=shared.get("group", shared.get("speaker", "")),
            license=shared.get("license", ""),
            upstream_ids=tuple(self._checked_ids()),
        )
        if not clip.duration_s and measured:
            clip = replace(clip, duration_s=self._measure(clip))
        if clip.duration_s:
            check_clip(clip, self.where)
        return clip

    def _measure(self, clip: Clip) -> float:
        try:
            return measure(clip)
        except AudioError as e:
            raise ManifestError(f"{self.where}: {e}") from e

    def _checked_ids(self) -> list[str]:
        for text in self.upstream_ids:
            try:
                parse(text)
            except ManifestError as e:
                raise ManifestError(f"{self.where}: column upstream: {e}") from e
        return self.upstream_ids


def _new(known: list[str], values: list[str]) -> list[str]:
    """Return the stripped, non-empty values that are not known yet, each once."""
    return list(dict.fromkeys(value.strip() for value in values if value.strip() and value.strip() not in known))


def _event(text: str, where: str) -> Event:
    match = _EVENT.fullmatch(text.strip())
    if match is None or float(match["onset"]) >= float(match["offset"]):
        raise ManifestError(f"{where}: expected an event as `label onset_s offset_s`, found {text.strip()!r}")
    return Event(label=match["label"], onset_s=float(match["onset"]), offset_s=float(match["offset"]))


def _question(text: str, where: str) -> Question:
    question, bar, answer = (part.strip() for part in text.partition("|"))
    if not (question and bar and answer):
        raise ManifestError(f"{where}: expected a question as `question | answer`, found {text!r}")
    return Question(question=question, answer=answer)


def _duration_s(cell: str, audio: Path, where: str) -> float:
    """Return the duration from the table, or 0 where it does not say."""
    if not cell:
        return 0.0
    try:
        duration_s = float(cell)
    except ValueError as e:
        raise ManifestError(f"{where}: expected duration in seconds, found {cell!r}") from e
    if not math.isfinite(duration_s) or duration_s <= 0:
        raise ManifestError(f"{where}: expected a positive duration in seconds for {audio}, found {duration_s}")
    return duration_s
