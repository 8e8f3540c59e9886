"""Music of two games, in pieces of 10 seconds: Neverball and Frozen-Bubble.

Reads the music files of the Debian packages, whichever of them are there, and writes pieces of 10 s; what is left at
the end is a piece of its own from 5 s on. The packages say nothing about the music, so the caption is the same for all.

Source: https://neverball.org/ (1.6.0) and http://www.frozen-bubble.org/ (2.212), as packaged by Debian 12.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uniwhisper.audio import SAMPLE_RATE, read
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="game_music",
    version="debian12",
    homepage="https://packages.debian.org/bookworm/games/",
    license="GPL-2.0-or-later AND GPL-2.0-only",
    citation="Neverball contributors; the Frozen-Bubble team (music by Matthias Le Bidan)",
    domain="music",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train",),
    description="Game music in pieces of 10 seconds.",
    packages=("neverball-common", "frozen-bubble-data"),
    num_clips=128,
    hours=0.3503,
)

_PIECE_S = 10.0
_SHORTEST_S = 5.0
_MUSIC = (
    ("usr/share/games/neverball/bgm", "*.ogg", "GPL-2.0-or-later"),
    ("usr/share/games/frozen-bubble/snd", "*zik*.ogg", "GPL-2.0-only"),
)
"""Folder, files and licence of each game's music."""
_CAPTION = "Background music of a computer game."


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield the pieces of every track, in order; the pieces of a track are one group.

    Raises:
        LayoutError: Neither game is there.
        AudioError: A track cannot be read.
    """
    present = [row for row in _MUSIC if (root / row[0]).is_dir()]
    if not present:
        raise LayoutError(
            f"{SPEC.name}: expected one of {', '.join(row[0] for row in _MUSIC)} below {root}, found none. "
            f"Give the folder that holds the unpacked packages, or no folder to have them fetched"
        )
    for folder, pattern, license in present:
        for path in sorted((root / folder).glob(pattern)):
            yield from _pieces(path, path.relative_to(root / "usr/share/games").with_suffix(""), license, ctx)


def _pieces(path: Path, track: Path, license: str, ctx: Context) -> Iterator[Clip]:
    """Cut one track and yield its pieces."""
    wave = read(path)
    step = round(_PIECE_S * SAMPLE_RATE)
    for start in range(0, len(wave), step):
        piece = wave[start : start + step]
        if start and len(piece) < _SHORTEST_S * SAMPLE_RATE:
            break
        clip_id = f"{track.as_posix()}-{start // SAMPLE_RATE:04d}"
        yield Clip(
            id=clip_id,
            source=SPEC.name,
            path=str(ctx.write_audio(clip_id, piece)),
            split="train",
            duration_s=len(piece) / SAMPLE_RATE,
            domain="music",
            annotation=Annotation(captions=(_CAPTION,), labels=("music", "game soundtrack")),
            group=track.as_posix(),
            license=license,
        )
