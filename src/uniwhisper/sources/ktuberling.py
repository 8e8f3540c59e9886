"""KTuberling: volunteers naming the parts of a picture game, the same words in two dozen languages.

Reads `usr/share/ktuberling/sounds/<language>.soundtheme` (word key and file) and `sounds/<language>/*` of the Debian
package. The key is English: it is the transcript of the English words and the translation of the others; it does not
say how a word is inflected. The readers are not named, so a language stands for its voices. All of it is test: a
second corpus, with other voices, of languages that other sources train on. Themes without recordings (Indonesian) are
not part of it. Dropped: recordings under a second name or in a second theme, and files that no theme names.

Source: https://apps.kde.org/ktuberling/ (22.12.3, as packaged by Debian 12).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from uniwhisper.errors import AudioError, LayoutError
from uniwhisper.files import sha256_file
from uniwhisper.sources._context import Context
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="ktuberling",
    version="22.12.3",
    homepage="https://apps.kde.org/ktuberling/",
    license="GPL-2.0-or-later",
    citation="KTuberling: the KDE community",
    domain="speech",
    families=("asr", "translation", "attribute_prediction"),
    languages=(
        *("ca", "da", "de", "el", "en", "es", "fi", "fr", "ga", "gl", "it", "lt"),
        *("nds", "nl", "nn", "pt", "ro", "ru", "sl", "sr", "sv", "uk", "wa"),
    ),
    splits=("test",),
    description="Single spoken words in two dozen languages, each with its English key.",
    packages=("ktuberling-data",),
    num_clips=1804,
    hours=0.52,
    drop_tolerance=0.08,
)

_SCENE = re.compile(r"(egypt|tv|moon|pizzeria|xmas|tux|robot_workshop|butterflies)[_-]")
_SPELLING = {
    "brocolli": "broccoli",
    "dowe": "dove",
    "fallingstar": "falling star",
    "fireengine": "fire engine",
    "frier tux": "friar tux",
    "palmtree": "palm tree",
    "sherif tux": "sheriff tux",
    "sphynx": "sphinx",
    "whitch tux": "witch tux",
}


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per recorded word.

    Raises:
        LayoutError: The folder does not hold the package's files, or a theme is not XML.
    """
    sounds = ctx.require(root / "usr/share/ktuberling/sounds", root)
    seen: dict[str, str] = {}
    for theme in sorted(sounds.glob("*.soundtheme")):
        folder = theme.with_suffix("")
        if not folder.is_dir():
            continue
        names = _names(theme)
        for path in sorted(file for file in folder.iterdir() if file.is_file()):
            clip_id = f"{folder.name}/{path.stem}"
            if path.name not in names:
                ctx.drop(clip_id, "no theme names it")
                continue
            earlier = seen.setdefault(sha256_file(path), clip_id)
            if earlier != clip_id:
                ctx.drop(clip_id, f"same recording: {earlier}")
            else:
                clip = _clip(path, clip_id, names[path.name], ctx)
                if clip is not None:
                    yield clip


def _names(theme: Path) -> dict[str, str]:
    """Return file name -> the first word key that the theme gives it."""
    try:
        sounds = ElementTree.parse(theme).getroot().iter("sound")
    except (ElementTree.ParseError, OSError, ValueError, LookupError) as e:  # the last two: a strange encoding
        raise LayoutError(f"{SPEC.name}: expected XML in {theme}, found: {e}") from e
    names: dict[str, str] = {}
    for sound in sounds:
        names.setdefault(Path(sound.get("file", "")).name, sound.get("name", ""))
    return names


def _clip(path: Path, clip_id: str, name: str, ctx: Context) -> Clip | None:
    try:
        duration_s = ctx.duration_s(path)
    except AudioError as e:
        return ctx.drop(clip_id, f"not audio: {e}")
    language = path.parent.name.partition("@")[0]
    word = _word(name)
    return Clip(
        id=clip_id,
        source=SPEC.name,
        path=str(path),
        split="test",
        duration_s=duration_s,
        domain="speech",
        annotation=Annotation(
            transcript=word if language == "en" else "",
            translations={} if language == "en" else {"en": word},
            attributes={"word": word},
        ),
        language=language,
        group=language,
        license=SPEC.license,
    )


def _word(name: str) -> str:
    """Return the word key without its scene and number, spelled as usual: `egypt_palmtree` -> `palm tree`."""
    word = re.sub(r"[_-]", " ", _SCENE.sub("", name, count=1)).rstrip("0123456789")
    return _SPELLING.get(word, word)
