"""Fish Fillets: the acted dialogues of a puzzle game in Czech and Dutch, subtitled, with the English original.

Reads `usr/share/games/fillets-ng/sound/<level>/<language>/<line>.ogg` and the lines' texts in
`usr/share/games/fillets-ng/script/<level>/dialogs_<language>.lua` (for `share`: `*_dialogs_<language>.lua`) of the
Debian packages. The subtitle's font names the character, which with the language stands for the voice. Split by
voice: the Dutch small fish is test, the others train. Dropped: sounds without a subtitle, subtitles that are empty or
have a placeholder, and subtitles that cannot be what is heard.

Source: https://fillets.sourceforge.net/ (1.0.1, as packaged by Debian 12).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from uniwhisper.errors import AudioError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_text
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.sources._transcript import why_implausible
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="fillets",
    version="1.0.1",
    homepage="https://fillets.sourceforge.net/",
    license="GPL-2.0-only",
    citation="Fish Fillets - Next Generation: ALTAR interactive, Ivo Danihelka, Pavel Danihelka and translators",
    domain="speech",
    families=("asr", "translation", "attribute_prediction"),
    languages=("cs", "nl"),
    splits=("train", "test"),
    description="Acted game dialogues in Czech and Dutch with subtitles and the English original.",
    packages=("fillets-ng-data", "fillets-ng-data-cs", "fillets-ng-data-nl"),
    num_clips=3416,
    hours=3.32,
    drop_tolerance=0.04,
)

_TEST_VOICES = ("nl/small",)
_STRING = r'"((?:[^"\\]|\\.)*)"'
_LINE = re.compile(
    rf"dialogId\(\s*{_STRING}\s*,\s*{_STRING}\s*,\s*{_STRING}\s*\)\s*dialogStr\(\s*{_STRING}\s*\)", re.DOTALL
)
_PLACEHOLDER = re.compile(r"%\d")  # the game fills in a number
_SHARED = "share"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Line:
    """A line of dialogue."""

    character: str
    english: str
    subtitle: str


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per recorded line.

    Raises:
        LayoutError: The folder does not hold the packages' files.
    """
    game = root / "usr/share/games/fillets-ng"
    sounds = ctx.require(game / "sound", root)
    for language in SPEC.languages:
        lines = _lines(ctx.require(game / "script", root), language)
        for path in sorted(sounds.glob(f"**/{language}/*.ogg")):
            clip = _clip(path, path.relative_to(sounds), language, lines, ctx)
            if clip is not None:
                yield clip


def _lines(scripts: Path, language: str) -> dict[tuple[str, str], _Line]:
    """Return (level, line name) -> line; levels below `share` are one."""
    lines = {}
    for path in sorted(scripts.glob(f"*/*dialogs_{language}.lua")):
        for match in _LINE.finditer(read_text(path)):
            name, font, english, subtitle = (_unquoted(text) for text in match.groups())
            line = _Line(character=font.removeprefix("font_"), english=english, subtitle=subtitle)
            lines[path.parent.name, name] = line
    return lines


def _unquoted(text: str) -> str:
    """Return what a Lua string says, on one line."""
    return re.sub(r"\s+", " ", text.replace("\\n", " ").replace('\\"', '"').replace("\\\\", "\\")).strip()


def _clip(path: Path, member: Path, language: str, lines: dict[tuple[str, str], _Line], ctx: Context) -> Clip | None:
    clip_id = member.with_suffix("").as_posix()
    line = lines.get((member.parts[0], path.stem)) or lines.get((_SHARED, path.stem))
    if line is None:
        return ctx.drop(clip_id, "no subtitle")
    if _PLACEHOLDER.search(line.subtitle):
        return ctx.drop(clip_id, f"subtitle with a placeholder: {line.subtitle}")
    try:
        duration_s = ctx.duration_s(path)
    except AudioError as e:
        return ctx.drop(clip_id, f"not audio: {e}")
    reason = why_implausible(line.subtitle, duration_s)
    if reason:
        return ctx.drop(clip_id, reason)
    voice = f"{language}/{line.character}"
    return Clip(
        id=clip_id,
        source=SPEC.name,
        path=str(path),
        split="test" if voice in _TEST_VOICES else "train",
        duration_s=duration_s,
        domain="speech",
        annotation=Annotation(
            transcript=line.subtitle,
            translations={"en": line.english} if line.english else {},
        ),
        language=language,
        speaker=voice,
        group=voice,
        license=SPEC.license,
    )
