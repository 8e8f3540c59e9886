"""GCompris's sounds: farm animals, musical instruments, and everyday sounds of a memory game.

Reads `usr/share/gcompris-qt/rcc/{explore_farm_animals,instruments,memory-sound}.rcc` of the Debian package and writes
the Ogg files in them, as they are, below the output's `audio/`; `labels/gcompris.csv` beside this module says what the
names mean. Dropped: sounds without a meaning, and the drum kit, whose licence (Sampling Plus) is not free.

Source: https://gcompris.net/ (3.1, as packaged by Debian 12; licences in the README files beside the sounds).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.sources._context import Context
from uniwhisper.sources._rcc import read_resources
from uniwhisper.sources._sounds import listed_clips
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="gcompris",
    version="3.1",
    homepage="https://gcompris.net/",
    license="GPL-3.0-only AND LAL-1.2",
    citation="GCompris: Bruno Coudoin, Timothee Giet and contributors",
    domain="mixed",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train",),
    description="Farm animals, 25 instruments playing a phrase each, and everyday sounds.",
    packages=("gcompris-qt-data",),
    num_clips=60,
    hours=0.0773,
    drop_tolerance=0.15,
)

_LICENSES = {
    "explore_farm_animals": "GPL-3.0-only",
    "instruments": "GPL-3.0-only",
    "memory-sound": "LAL-1.2",
}
"""Activity -> licence of its sounds."""
_PREFIX = "gcompris/src/activities/"


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per sound whose name says what is heard.

    Raises:
        LayoutError: The folder does not hold the package's files.
    """
    for activity, license in _LICENSES.items():
        rcc = ctx.require(root / f"usr/share/gcompris-qt/rcc/{activity}.rcc", root)
        for name, content in read_resources(rcc, (".ogg",)):
            path = ctx.audio_dir / name.removeprefix(_PREFIX)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        for clip in listed_clips(SPEC, ctx, ctx.audio_dir, (activity,)):
            yield dataclasses.replace(clip, license=license)
