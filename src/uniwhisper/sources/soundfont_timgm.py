"""TimGM6mb notes: 83 instruments of the small General MIDI soundfont by Tim Brechbill, for evaluation.

Reads `TimGM6mb.sf2`. Renders 6 keys per program. Train, valid and test hold different programs of every family (the
column split of `labels/gm_programs.csv`), and programs made from the same recordings stay together. No other source
uses these recordings.

Source: Debian 12 timgm6mb-soundfont 1.3, https://musescore.org/en/node/1463 (terms: comment 9168).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uniwhisper.sources._context import Context
from uniwhisper.sources._notes import note_clips
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="soundfont_timgm",
    version="1.3",
    homepage="https://musescore.org/en/handbook/3/soundfonts-and-sfz-files",
    license="GPL-2.0-only",
    citation="TimGM6mb soundfont: Tim Brechbill",
    domain="music",
    families=("classification", "attribute_prediction", "note_transcription", "audio_text_matching"),
    languages=(),
    splits=("train", "valid", "test"),
    description="Single notes of 83 sampled instruments in 11 families, program-disjoint splits for evaluation.",
    packages=("timgm6mb-soundfont",),
    num_clips=498,
    hours=0.2767,
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield 6 notes per program, each program in its own split.

    Raises:
        LayoutError: There is no such soundfont in `root`.
    """
    path = ctx.require(root / "usr/share/sounds/sf2/TimGM6mb.sf2", root)
    yield from note_clips(SPEC, ctx, path, num_pitches=6, num_velocities=1)
