"""LMMS's samples: drums, beats, basses, pads, instruments and effects of a music workstation.

Reads `usr/share/lmms/samples/<folder>/*.ogg` of the Debian package; `labels/lmms.csv` beside this module says what
their names mean. The folders `shapes` and `waveforms` hold single periods of oscillators and are no part of this
source. Dropped: sounds shorter than 0.1 s, one called `undefined`, and five Vorbis streams in WAV
containers, which nothing of today decodes.

Source: https://github.com/LMMS/lmms (1.2.2, data/samples, as packaged by Debian 12).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uniwhisper.sources._context import Context
from uniwhisper.sources._sounds import listed_clips
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="lmms",
    version="1.2.2",
    homepage="https://lmms.io/",
    license="GPL-2.0-or-later",
    citation="LMMS samples: the LMMS developers",
    domain="mixed",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train",),
    description="Drums, beats, basses, pads, instruments and effects of a music workstation.",
    packages=("lmms-common",),
    num_clips=155,
    hours=0.0958,
    drop_tolerance=0.15,
)

_FOLDERS = ("bassloops", "basses", "beats", "drums", "effects", "instruments", "latin", "misc", "stringsnpads")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per sample.

    Raises:
        LayoutError: The folder does not hold the package's files.
    """
    samples = ctx.require(root / "usr/share/lmms/samples", root)
    folders = [folder for folder in _FOLDERS if (samples / folder).is_dir()]
    yield from listed_clips(SPEC, ctx, root, [f"usr/share/lmms/samples/{folder}" for folder in folders])
