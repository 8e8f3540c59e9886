"""Clips of sound effects and samples: files whose names, or a table of ours, say what is heard.

Reads the audio files of a corpus and, for `listed_clips`, `labels/<source>.csv` beside this module: columns path (glob,
matched from the right), domain, labels (split at `;`) and caption. A row without labels leaves its files out: their
names do not say what is heard, or nothing can read them. Whatever is left out goes through `Context.drop`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import cast

from uniwhisper.errors import AudioError
from uniwhisper.sources._context import Context
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Annotation, Clip, Domain

__all__ = ["AUDIO_SUFFIXES", "MIN_DURATION_S", "LabelRow", "label_rows", "listed_clips", "sound_clip", "words"]

AUDIO_SUFFIXES = (".flac", ".mp3", ".ogg", ".wav")
MIN_DURATION_S = 0.1
"""Shorter sounds are clicks and single wave periods: five frames of the encoder, and nothing to recognise."""

_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Za-z])(?=\d)|(?<=\d)(?=[A-Za-z])|[^A-Za-z0-9]+")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelRow:
    """What a table says about the files that `pattern` matches."""

    pattern: str
    domain: Domain
    labels: tuple[str, ...]
    caption: str


def words(stem: str) -> str:
    """Return a file's stem as lower-case words: `HorseGallop2`, `horse_gallop-2` -> `horse gallop`."""
    return " ".join(part.lower() for part in _HUMP.split(stem) if part and not part.isdigit())


def sound_clip(
    spec: SourceSpec,
    ctx: Context,
    path: Path,
    *,
    member: str,
    domain: Domain,
    labels: Sequence[str],
    caption: str,
    group: str = "",
) -> Clip | None:
    """Return the clip of a whole file, or None after dropping it because it is too short or not audio.

    Args:
        spec: The source's facts.
        ctx: Hears about a dropped clip.
        path: The audio file.
        member: Its name within the corpus: the clip's id.
        domain: What kind of audio it is.
        labels: What is heard, in an open vocabulary.
        caption: The same as a sentence.
        group: What may not be split between train and test; the file by default.
    """
    try:
        duration_s = ctx.duration_s(path)
    except AudioError as e:
        return ctx.drop(member, f"not audio: {e}")
    if duration_s < MIN_DURATION_S:
        return ctx.drop(member, f"too short: {duration_s:.3f} s, less than {MIN_DURATION_S} s")
    return Clip(
        id=member,
        source=spec.name,
        path=str(path),
        split="train",
        duration_s=duration_s,
        domain=domain,
        annotation=Annotation(captions=(caption,), labels=tuple(labels)),
        group=group or member,
        license=spec.license,
    )


def label_rows(name: str) -> list[LabelRow]:
    """Return the rows of `labels/<name>.csv`."""
    text = files("uniwhisper.sources").joinpath("labels", f"{name}.csv").read_text(encoding="utf-8")
    return [
        LabelRow(
            pattern=row["path"],
            domain=cast(Domain, row["domain"]),
            labels=tuple(label.strip() for label in row["labels"].split(";") if label.strip()),
            caption=row["caption"],
        )
        for row in csv.DictReader(text.splitlines())
    ]


def listed_clips(spec: SourceSpec, ctx: Context, root: Path, folders: Sequence[str]) -> Iterator[Clip]:
    """Yield a clip per audio file in `folders` of `root` that the source's table says something about.

    The first matching row counts. Rows that match nothing belong to other versions of the corpus.

    Raises:
        LayoutError: One of the folders is missing.
    """
    rows = label_rows(spec.name)
    for folder in folders:
        base = ctx.require(root / folder, root)
        for path in sorted(path for path in base.rglob("*") if path.suffix.lower() in AUDIO_SUFFIXES):
            member = path.relative_to(root).as_posix().removeprefix("usr/share/")
            row = next((row for row in rows if path.relative_to(root).match(row.pattern)), None)
            if row is None or not row.labels:
                ctx.drop(member, "left out by the table of labels" if row else "not in the table of labels")
                continue
            clip = sound_clip(
                spec,
                ctx,
                path,
                member=member,
                domain=row.domain,
                labels=row.labels,
                caption=row.caption,
                group=row.pattern,
            )
            if clip is not None:
                yield clip
