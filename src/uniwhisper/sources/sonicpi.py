"""Sonic Pi's samples: drums, tabla, loops, guitars, electronic and ambient sounds.

Reads `usr/share/sonic-pi/samples/*.flac` of the Debian package; `labels/sonicpi.csv` beside this module says what their
names mean, and `README.md` gives the Freesound id that each sample comes from, one of the clip's upstream ids.
Dropped: sounds shorter than 0.1 s.

Source: https://github.com/sonic-pi-net/sonic-pi (3.2.2, etc/samples, as packaged by Debian 12).
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.identifiers import freesound
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_text
from uniwhisper.sources._sounds import listed_clips
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="sonicpi",
    version="3.2.2",
    homepage="https://sonic-pi.net/",
    license="CC0-1.0",
    citation="Sonic Pi samples: Sam Aaron and the Freesound users named in the README",
    domain="mixed",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train",),
    description="Drums, tabla, loops, guitars, electronic and ambient sounds for live coding.",
    packages=("sonic-pi-samples",),
    num_clips=159,
    hours=0.0898,
    drop_tolerance=0.06,
)

_FOLDER = "usr/share/sonic-pi/samples"
_ORIGIN = re.compile(r"`:(?P<name>\w+)` - https?://(www\.)?freesound\.org/people/[^/]+/sounds/(?P<id>\d+)")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per sample.

    Raises:
        LayoutError: The folder does not hold the package's files.
    """
    readme = read_text(ctx.require(root / _FOLDER / "README.md", root))
    origins = {match["name"].replace("_", ""): match["id"] for match in _ORIGIN.finditer(readme)}
    for clip in listed_clips(SPEC, ctx, root, (_FOLDER,)):
        origin = origins.get(Path(clip.id).stem.replace("_", ""))  # the README writes loop_mehackit_1
        if origin:
            clip = dataclasses.replace(clip, upstream_ids=(freesound(origin),), group=freesound(origin))
        yield clip
