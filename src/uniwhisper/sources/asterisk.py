"""Asterisk prompts: telephone announcements in five languages, read by four professional voices, transcribed.

Reads `usr/share/asterisk/sounds/<voice>/**/*.g722` and `usr/share/doc/asterisk-core-sounds-<language>/
core-sounds-<language>.txt.gz` of the Debian packages. Split by voice: Carlo (Italian) is test, the others train;
Allison reads English and Spanish, so both are on one side. Dropped: tones and silence, prompts without a text, with
stage directions in it, or with signs that are read aloud (`press #`), and prompts of more than 30 s.

Source: https://downloads.asterisk.org/pub/telephony/sounds/ (1.6.1, as packaged by Debian 12).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper import audio
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_gzip
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.sources._transcript import why_implausible
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_LANGUAGES = ("en", "es", "fr", "it", "ru")

SPEC = SourceSpec(
    name="asterisk",
    version="1.6.1",
    homepage="https://downloads.asterisk.org/pub/telephony/sounds/",
    license="CC-BY-SA-3.0 AND CC-BY-3.0",
    citation="Asterisk core sounds: Allison Smith, June Wallack, Carlo Flora, Maxim Topal; Digium, Inc.",
    domain="speech",
    families=("asr", "attribute_prediction"),
    languages=_LANGUAGES,
    splits=("train", "test"),
    description="Telephone prompts in en, es, fr, it, ru by four voices, with transcripts.",
    packages=tuple(
        name for code in _LANGUAGES for name in (f"asterisk-core-sounds-{code}", f"asterisk-core-sounds-{code}-g722")
    ),
    num_clips=2625,
    hours=1.82,
    drop_tolerance=0.10,
)

_TEST_VOICES = ("Carlo",)
_LICENSES = {"it": "CC-BY-3.0", "ru": "CC-BY-3.0"}  # the package's copyright file; CC-BY-SA-3.0 for the others
_GENDERS = {"f": "female", "m": "male"}
_VOICE = re.compile(r"(?P<language>[a-z]{2})_[A-Z]{2}_(?P<gender>[fm])_(?P<name>\w+)")
_NOT_SPEECH = re.compile(
    r"silence/\d+|.*-2tone|beep|beeperr|confbridge-(join|leave)|tt-(monkeys|weasels|monkeysintro-tone)"
)
_SIGN_IN_BRACKETS = re.compile(r"\[\W?\s*\]")  # `dash [-]`: the sign that the letter prompt names
_UNSPOKEN = re.compile(r"[\[\]<>{}()*#@=]")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per prompt, decoded from G.722 to FLAC.

    Raises:
        LayoutError: The folder does not hold the packages' files.
        AudioError: PyAV, which decodes G.722, is not installed.
    """
    sounds = ctx.require_folder(root / "usr/share/asterisk/sounds", root)
    for folder in sorted(sounds.iterdir()):
        voice = _VOICE.fullmatch(folder.name)
        if voice is None:
            continue  # the packages also link the folder under the bare language code
        texts = _texts(voice["language"], root, ctx)
        for path in sorted(folder.rglob("*.g722")):
            name = path.relative_to(folder).with_suffix("").as_posix()
            clip = _clip(path, name, voice, texts, ctx)
            if clip is not None:
                yield clip


def _texts(language: str, root: Path, ctx: Context) -> dict[str, str]:
    """Return prompt name (case folded, since list and files disagree on it) -> transcript."""
    name = f"asterisk-core-sounds-{language}"
    path = ctx.require(root / "usr/share/doc" / name / f"core-sounds-{language}.txt.gz", root)
    pairs = (line.partition(":") for line in read_gzip(path).splitlines() if not line.startswith(";"))
    return {name.strip().casefold(): text.strip() for name, colon, text in pairs if colon}


def _clip(path: Path, name: str, voice: re.Match[str], texts: dict[str, str], ctx: Context) -> Clip | None:
    language = voice["language"]
    clip_id = f"{language}/{name}"
    if _NOT_SPEECH.fullmatch(name):
        return ctx.drop(clip_id, "not speech")
    if name.casefold() not in texts:
        return ctx.drop(clip_id, "no text")
    text = _spoken(texts[name.casefold()], name)
    if _UNSPOKEN.search(text):
        return ctx.drop(clip_id, f"text is not what is spoken: {text[:80]}")
    if path.is_file() and path.stat().st_size == 0:
        return ctx.drop(clip_id, "empty file")
    wave = audio.read(path)
    duration_s = wave.size / audio.SAMPLE_RATE
    reason = why_implausible(text, duration_s)
    if reason:
        return ctx.drop(clip_id, reason)
    return Clip(
        id=clip_id,
        source=SPEC.name,
        path=str(ctx.write_audio(clip_id, wave)),
        split="test" if voice["name"] in _TEST_VOICES else "train",
        duration_s=duration_s,
        domain="speech",
        annotation=Annotation(transcript=text, attributes={"gender": _GENDERS[voice["gender"]]}),
        language=language,
        speaker=voice["name"],
        group=voice["name"],
        license=_LICENSES.get(language, "CC-BY-SA-3.0"),
    )


def _spoken(text: str, name: str) -> str:
    """Return the text without the marks that the lists add: the prompt's own name, signs, leading and trailing dots."""
    text = _SIGN_IN_BRACKETS.sub("", text.removeprefix(f"{name}:"))
    return re.sub(r"\s+", " ", re.sub(r"\.{2,}|\u2026", " ", text)).strip()
