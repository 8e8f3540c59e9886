"""Tux Paint stamps: volunteers saying what a picture shows, in two dozen languages, with the written sentence.

Reads `usr/share/tuxpaint/stamps/**/<stamp>_desc[_<language>].ogg` (descriptions; English without a language) and
`<stamp>_<language>.ogg` (numerals) of the Debian package, and `<stamp>.txt`: the English sentence, then one
`<language>.utf8=sentence` a line. The readers are not named, so a language stands for its voices: Danish, Lithuanian
and Dutch are test, the rest train. English sentences are also the translations of the others.
Dropped: recordings without a sentence in their language, and sentences that cannot be what is heard.

Source: https://tuxpaint.org/stamps/ (2022-06-04, as packaged by Debian 12).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import AudioError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_text
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.sources._transcript import why_implausible
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="tuxpaint_speech",
    version="2022.06.04",
    homepage="https://tuxpaint.org/stamps/",
    license="GPL-2.0-only",
    citation="Tux Paint stamps: Bill Kendrick and contributors",
    domain="speech",
    families=("asr", "translation", "attribute_prediction"),
    languages=(
        *("be", "bg", "ca", "da", "de", "el", "en", "es", "fr", "it", "ja", "ko"),
        *("lt", "ml", "nb", "nl", "nn", "pt", "ro", "ru", "sl", "sv", "zh"),
    ),
    splits=("train", "test"),
    description="Spoken picture descriptions by volunteers in 23 languages, with texts and English translations.",
    packages=("tuxpaint-stamps-default",),
    num_clips=7356,
    hours=2.93,
    drop_tolerance=0.06,
)

_TEST_LANGUAGES = ("da", "lt", "nl")
_RECORDING = re.compile(r"(?P<stamp>.+?)(?P<desc>_desc)?(_(?P<locale>[a-z]{2}(_[A-Za-z]{2})?))?(\.ogg)?\.(ogg|wav)")
_ENGLISH = "en"


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per recording of a sentence; sound effects are another source's.

    Raises:
        LayoutError: The folder does not hold the package's files.
    """
    stamps = ctx.require(root / "usr/share/tuxpaint/stamps", root)
    for path in sorted(path for path in stamps.rglob("*") if path.suffix in (".ogg", ".wav")):
        match = _RECORDING.fullmatch(path.name)
        if match is None or not (match["desc"] or match["locale"]):
            continue  # <stamp>.ogg is a sound effect
        if not match["desc"] and not (path.parent / f"{match['stamp']}.txt").is_file():
            continue  # an effect whose name only looks like a locale
        clip = _clip(path, match, path.relative_to(stamps), ctx)
        if clip is not None:
            yield clip


def _clip(path: Path, match: re.Match[str], member: Path, ctx: Context) -> Clip | None:
    clip_id = member.as_posix()
    locale = match["locale"] or _ENGLISH
    language = locale[:2]
    texts = _texts(path.parent / f"{match['stamp']}.txt")
    text = texts.get(locale.lower()) or texts.get(language, "")
    if not text:
        return ctx.drop(clip_id, "no text")
    try:
        duration_s = ctx.duration_s(path)
    except AudioError as e:
        return ctx.drop(clip_id, f"not audio: {e}")
    reason = why_implausible(text, duration_s)
    if reason:
        return ctx.drop(clip_id, reason)
    english = texts.get(_ENGLISH, "")
    return Clip(
        id=clip_id,
        source=SPEC.name,
        path=str(path),
        split="test" if language in _TEST_LANGUAGES else "train",
        duration_s=duration_s,
        domain="speech",
        annotation=Annotation(
            transcript=text,
            translations={_ENGLISH: english} if english and language != _ENGLISH else {},
        ),
        language=language,
        group=language,
        license=SPEC.license,
    )


def _texts(path: Path) -> dict[str, str]:
    """Return locale in lower case -> sentence; the first line is English."""
    if not path.is_file():
        return {}
    lines = read_text(path).splitlines()
    texts = {_ENGLISH: lines[0].strip()} if lines else {}
    for line in lines[1:]:
        locale, equals, text = line.partition(".utf8=")
        if equals and text.strip():
            texts[locale.strip().lower()] = text.strip()
    return texts
