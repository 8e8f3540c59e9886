"""FluidR3 notes: 83 instruments of the General MIDI soundfont by Frank Wen, for training.

Reads `FluidR3Mono_GM.sf3`, the mono edition, which is a sixth of the original's download; `FluidR3_GM.sf2` is taken
where it lies instead. Renders 8 keys at 2 velocities per program; instrument, pitch and family are known exactly.

Source: Debian 12 fluidr3mono-gm-soundfont 2.315, https://musescore.org/en/handbook/soundfonts-and-sfz-files.
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
    name="soundfont_fluid",
    version="2.315",
    homepage="https://musescore.org/en/handbook/3/soundfonts-and-sfz-files",
    license="MIT",
    citation="Fluid (R3) soundfont: Frank Wen; mono edition: Michael Cowgill",
    domain="music",
    families=("classification", "attribute_prediction", "note_transcription", "audio_text_matching"),
    languages=(),
    splits=("train",),
    description="Single notes of 83 sampled instruments in 11 families, with pitch, rendered from FluidR3.",
    packages=("fluidr3mono-gm-soundfont",),
    num_clips=1328,
    hours=0.7378,
)

_FILES = ("usr/share/fluidr3mono-gm-soundfont/FluidR3Mono_GM.sf3", "usr/share/sounds/sf2/FluidR3_GM.sf2")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield 16 notes per program, all of them train.

    Raises:
        LayoutError: There is no such soundfont in `root`.
    """
    path = next((root / name for name in _FILES if (root / name).is_file()), root / _FILES[0])
    yield from note_clips(SPEC, ctx, ctx.require(path, root), num_pitches=8, num_velocities=2, split="train")
