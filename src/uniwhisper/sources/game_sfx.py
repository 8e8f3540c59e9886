"""Sounds of three small packages: Minetest (steps, doors, fire), Simutrans (traffic), sound-icons (notes).

Reads the sound folders of the Debian packages, whichever of them are there; `labels/game_sfx.csv` beside this module
says what the names mean. Dropped: sounds shorter than 0.1 s, and names that do not say what is heard.

Source: https://www.minetest.net/ (5.6.1), https://www.simutrans.com/ (pak64 121.0), and sound-icons 0.1 by Brailcom,
each as packaged by Debian 12.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._sounds import listed_clips
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="game_sfx",
    version="debian12",
    homepage="https://packages.debian.org/bookworm/games/",
    license="CC-BY-SA-3.0 AND Artistic-1.0 AND GPL-2.0-or-later",
    citation="Minetest, Simutrans and sound-icons: their contributors",
    domain="mixed",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train",),
    description="Steps on many floors, doors, fire, digging, water, traffic, and short instrument notes.",
    packages=("minetest-data", "simutrans-pak64", "sound-icons"),
    num_clips=138,
    hours=0.0584,
    drop_tolerance=0.2,
)

_LICENSES = {
    "usr/share/games/minetest/games": "CC-BY-SA-3.0",
    "usr/share/games/simutrans/pak/sound": "Artistic-1.0",
    "usr/share/sounds/sound-icons": "GPL-2.0-or-later",
}
"""Sound folder -> licence of what is in it."""


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per sound of the packages that are there.

    Raises:
        LayoutError: None of them is.
    """
    folders = [folder for folder in _LICENSES if (root / folder).is_dir()]
    if not folders:
        raise LayoutError(
            f"{SPEC.name}: expected one of {', '.join(_LICENSES)} below {root}, found none. "
            f"Give the folder that holds the unpacked packages, or no folder to have them fetched"
        )
    for folder in folders:
        for clip in listed_clips(SPEC, ctx, root, (folder,)):
            yield dataclasses.replace(clip, license=_LICENSES[folder])
