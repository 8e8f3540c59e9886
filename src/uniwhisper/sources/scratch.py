"""Scratch's sounds: animals, people, effects, instruments, loops and singing for children's programs.

Reads `usr/share/scratch/Media/Sounds/<kind>/*` of the Debian package; `labels/scratch.csv` beside this module says what
the names mean. Dropped: sounds shorter than 0.1 s.

Source: https://scratch.mit.edu/scratch_1.4 (1.4.0.6, as packaged by Debian 12; Media is under CC BY-SA 3.0).
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
    name="scratch",
    version="1.4.0.6",
    homepage="https://scratch.mit.edu/scratch_1.4",
    license="CC-BY-SA-3.0",
    citation="Scratch 1.4 media: Massachusetts Institute of Technology",
    domain="mixed",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train",),
    description="Animals, people, effects, instruments, loops and singing, one or a few of each.",
    packages=("scratch",),
    num_clips=110,
    hours=0.0988,
    drop_tolerance=0.06,
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per sound.

    Raises:
        LayoutError: The folder does not hold the package's files.
    """
    yield from listed_clips(SPEC, ctx, root, ("usr/share/scratch/Media/Sounds",))
