"""Tux Paint stamps: the sounds that the things on the pictures make: animals, tools, instruments.

Reads `usr/share/tuxpaint/stamps/**/<stamp>.ogg` of the Debian package and the first line of `<stamp>.txt`, an English
sentence like `A blackbird.`; without a text the file's name says it. The thing is the label, its kind (by folder) a
second one. The folder `symbols` (letters, numbers and moods, spoken or played) is no part of this source.
Dropped: texts that are not the name of a thing (`Remember to flush the toilet ...!`), things without a sound of their
own (road signs, hats, fruit).

Source: https://tuxpaint.org/stamps/ (2022-06-04, as packaged by Debian 12).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_text
from uniwhisper.sources._sounds import sound_clip, words
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="tuxpaint_sfx",
    version="2022.06.04",
    homepage="https://tuxpaint.org/stamps/",
    license="GPL-2.0-only",
    citation="Tux Paint stamps: Bill Kendrick and contributors",
    domain="mixed",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train",),
    description="Sounds of animals and everyday things, one each, named by an English phrase.",
    packages=("tuxpaint-stamps-default",),
    num_clips=92,
    hours=0.0607,
    drop_tolerance=0.2,
)

_KINDS = (
    ("animals/birds", ("bird", "animal")),
    ("animals/insects", ("insect", "animal")),
    ("animals", ("animal",)),
    ("hobbies/music", ("musical instrument",)),
    ("household/tools", ("tool",)),
    ("vehicles", ("vehicle",)),
)
"""Folder -> what all things in it are; the first that fits."""
_SPOKEN = re.compile(r".+_desc(_.+)?|.+_[a-z]{2}(_[A-Za-z]{2})?")
_THING = re.compile(r"((an?|the)\s+)?(?P<thing>[^.!?\"\u201c()]{2,40}?)(\s*\([^)]*\))?\.?", re.IGNORECASE)
_SOUNDLESS = ("food", "military", "seasonal/christmas", "space", "town")
"""Folders of things that make no sound of their own: what is heard is something else."""


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per sound effect; spoken descriptions are another source's.

    Raises:
        LayoutError: The folder does not hold the package's files.
    """
    stamps = ctx.require(root / "usr/share/tuxpaint/stamps", root)
    for path in sorted(stamps.rglob("*.ogg")):
        member = path.relative_to(stamps)
        if member.parts[0] == "symbols" or (_SPOKEN.fullmatch(path.stem) and not path.with_suffix(".txt").is_file()):
            continue  # speech
        text = _text(path)
        match = _THING.fullmatch(text)
        if match is None or any(member.is_relative_to(folder) for folder in _SOUNDLESS):
            ctx.drop(
                member.as_posix(), "its text does not name a thing" if match is None else "a thing without a sound"
            )
            continue
        thing = match["thing"].strip().lower()
        kinds = next((kinds for folder, kinds in _KINDS if member.is_relative_to(folder)), ())
        clip = sound_clip(
            SPEC,
            ctx,
            path,
            member=member.as_posix(),
            domain="music" if member.is_relative_to("hobbies/music") else "sound",
            labels=(thing, *kinds),
            caption=f"The sound of {text[:1].lower()}{text[1:].rstrip('.')}.",
        )
        if clip is not None:
            yield clip


def _text(path: Path) -> str:
    """Return the English text of the stamp that `path` belongs to, or the file's name as one."""
    text = path.with_suffix(".txt")
    lines = read_text(text).splitlines() if text.is_file() else []
    return lines[0].strip() if lines and lines[0].strip() else f"A {words(path.stem)}."
