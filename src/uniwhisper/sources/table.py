"""Any CSV table of labelled audio: the way to train on files of one's own.

Reads a CSV with a header. Column `path` (relative to the table's folder, or absolute) and at least one of `text`,
`label`, `transcript`; optional `kind`, `domain`, `language`, `speaker`, `group`, `dataset`, `split`, `duration`
(seconds; read from the file otherwise), `license`. Further columns are ignored. Rows with the same path become one
clip. `kind` says what `text` is:

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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from uniwhisper.audio import info
from uniwhisper.errors import AudioError, ManifestError
from uniwhisper.manifest import check_clip
from uniwhisper.sources._context import Context
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import FAMILIES, Annotation, Clip, Domain, Event, Question

__all__ = ["KINDS", "SPEC", "convert", "read_table"]

SPEC = SourceSpec(
    name="table",
    version="1",
    homepage="https://www.rfc-editor.org/rfc/rfc4180",
    license="as stated by the owner",
    citation="the table's owner",
    domain="mixed",
    families=FAMILIES,
    languages=(),
    splits=("train", "valid", "test"),
    description="Any CSV with columns path and text (or label, transcript); the way to use files of your own.",
)

KINDS = ("asr", "translation", "caption", "tag", "event", "question")
"""What the `text` column may hold."""

_SHARED = ("dataset", "domain", "language", "speaker", "group", "split", "duration", "license")
"""Columns on which all rows of one clip must agree; an empty cell agrees with everything."""
_ATTRIBUTE = re.compile(r"(?P<name>[^:]+):\s+(?P<value>\S.*)")
_EVENT = re.compile(r"(?P<label>\S.*?)\s+(?P<onset>\d+(\.\d*)?)\s+(?P<offset>\d+(\.\d*)?)")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield the clips of the table `root`: a CSV file, or a folder with exactly one.

    Raises:
        ManifestError: The table is not what the module's docstring says; the message names row and file.
    """
    tables = [root] if root.is_file() else sorted(root.glob("*.csv"))
    if len(tables) != 1:
        names = ", ".join(table.name for table in tables) or "none"
        raise ManifestError(f"{ctx.source}: expected a CSV file or a folder with exactly one, found {names} in {root}")
    yield from read_table(tables[0])


def read_table(path: Path, root: Path | None = None) -> list[Clip]:
    """Return the clips of the CSV `path`, in order of first appearance, with absolute audio paths.

    Args:
        path: The table.
        root: Folder that relative audio paths start from; the table's own by default.

    Raises:
        ManifestError: A column is missing, a cell is invalid, rows of one clip contradict each other, or an audio
            file is missing; the message names the table and the row (line 1 is the header).
    """
    root = (path.parent if root is None else root).resolve()
    drafts: dict[str, _Draft] = {}
    for number, row in _rows(path):
        where = f"{path}:{number}"
        name = row.get("path", "")
        if not name:
            raise ManifestError(f"{where}: expected an audio file in column path, found an empty cell")
        draft = drafts.get(name)
        if draft is None:
            draft = drafts[name] = _Draft(id=name, where=where, audio=_existing(root / name, where))
        draft.add(row, where)
    if not drafts:
        raise ManifestError(f"{path}: expected rows below the header, found none")
    return [draft.clip(default_source=_source_name(path)) for draft in drafts.values()]


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, cells by lower-case column name), checking the header."""
    try:
        file = path.open(encoding="utf-8-sig", newline="")
    except OSError as e:
        raise ManifestError(f"expected a CSV table at {path}, found none that can be read ({e})") from e
    with file:
        reader = csv.reader(file)
        try:
            header = [column.strip().lower() for column in next(reader, [])]
            if "path" not in header or not {"text", "label", "transcript"} & set(header):
                raise ManifestError(
                    f"{path}:1: expected a header with the column path and at least one of text, label, transcript; "
                    f"found {', '.join(header) or 'an empty file'}"
                )
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


def _existing(audio: Path, where: str) -> Path:
    if not audio.is_file():
        raise ManifestError(f"{where}: expected an audio file at {audio}, found none; paths start from the table")
    return audio


def _source_name(path: Path) -> str:
    return re.sub(r"[^a-z0-9]+", "_", path.stem.lower()).strip("_") or SPEC.name


@dataclass(kw_only=True, slots=True)
class _Draft:
    """A clip while its rows are being read."""

    id: str
    where: str
    """Table and line of the first row."""
    audio: Path
    shared: dict[str, str] = field(default_factory=dict)
    transcript: str = ""
    translation: str = ""
    captions: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    attributes: dict[str, str] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def add(self, row: dict[str, str], where: str) -> None:
        """Add one row of the clip."""
        for column in _SHARED:
            value = row.get(column, "")
            if value:
                self._agree(column, self.shared.setdefault(column, value), value, where)
        if row.get("transcript"):
            self._set("transcript", row["transcript"], where)
        self.labels += _new(self.labels, row.get("label", "").split(";"))
        text, kind = row.get("text", ""), row.get("kind", "").lower()
        if not text:
            if not row.get("label") and not row.get("transcript"):
                raise ManifestError(f"{where}: expected a text, label or transcript for {self.id}, found empty cells")
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
                self.events += [_event(part, where) for part in text.split(";") if part.strip()]
            case "question":
                self.questions.append(_question(text, where))
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

    def clip(self, default_source: str) -> Clip:
        """Return the finished clip."""
        shared = self.shared
        source = shared.get("dataset", default_source)
        spoken = bool(self.transcript or self.translation)
        clip = Clip(
            id=self.id,
            source=source,
            path=str(self.audio),
            split=shared.get("split", "train"),
            duration_s=_duration_s(shared.get("duration", ""), self.audio, self.where),
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
        )
        return check_clip(clip, self.where)


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
    """Return the duration from the table, or from the file's header where the table does not say."""
    try:
        duration_s = float(cell) if cell else info(audio).duration_s
    except ValueError as e:
        raise ManifestError(f"{where}: expected duration in seconds, found {cell!r}") from e
    except AudioError as e:
        raise ManifestError(f"{where}: {e}") from e
    if not math.isfinite(duration_s) or duration_s <= 0:
        raise ManifestError(f"{where}: expected a positive duration in seconds for {audio}, found {duration_s}")
    return duration_s
