"""What a source declares about itself, and what the driver hands to its `convert`.

A source module holds `SPEC: SourceSpec` and `convert(root: Path, ctx: Context) -> Iterator[Clip]`. It yields clips
whose `path` is absolute; whatever it leaves out goes through `Context.drop`, and audio that it has to decode or
render goes through `Context.write_audio`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import soundfile

from uniwhisper import audio
from uniwhisper.errors import AudioError, ConfigError, LayoutError, SourceError
from uniwhisper.types import DOMAINS, FAMILIES, Domain, Family

__all__ = ["Context", "Dropped", "SourceSpec"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceSpec:
    """The facts about a source; the folder of modules is the registry, so nothing else lists them."""

    name: str
    """The module's stem: the publisher's common name in snake_case."""
    version: str
    """The publisher's version that was measured."""
    homepage: str
    """https address of the publisher's page."""
    license: str
    """SPDX expression, or `as stated by the owner` for tables."""
    citation: str
    """Who made it, as the publisher asks to be credited."""
    domain: Domain | Literal["mixed"]
    families: tuple[Family, ...]
    """Task families that its annotations can train."""
    languages: tuple[str, ...]
    """ISO 639 codes; empty where there is no speech or it depends on the data."""
    splits: tuple[str, ...]
    """Splits that it yields."""
    description: str
    """One line for listings."""
    packages: tuple[str, ...] = ()
    """Debian packages that hold it; empty where the user supplies the folder."""
    num_clips: int = 0
    """Clips yielded when last measured; 0 = unknown."""
    hours: float = 0.0
    """Hours yielded when last measured; 0 = unknown."""
    drop_tolerance: float = 0.0
    """Share of clips, 0 to 1, that may be dropped before the conversion counts as failed."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ConfigError: A field is empty, unknown or out of range.
        """
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"source name: expected snake_case, found {self.name!r}")
        for field in ("version", "license", "citation", "description"):
            if not getattr(self, field):
                raise ConfigError(f"source {self.name}: expected a non-empty {field}")
        if not self.homepage.startswith("https://"):
            raise ConfigError(f"source {self.name}: expected homepage to start with https://, found {self.homepage!r}")
        if self.domain not in (*DOMAINS, "mixed"):
            raise ConfigError(f"source {self.name}: expected a domain of {DOMAINS} or mixed, found {self.domain!r}")
        strangers = sorted(set(self.families) - set(get_args(Family)))
        if strangers or not self.families:
            raise ConfigError(f"source {self.name}: expected families out of {FAMILIES}, found {self.families!r}")
        if not self.splits:
            raise ConfigError(f"source {self.name}: expected at least one split")
        if not 0 <= self.drop_tolerance < 1:
            raise ConfigError(f"source {self.name}: expected drop_tolerance in [0, 1), found {self.drop_tolerance}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Dropped:
    """A clip that a source left out, and why."""

    id: str
    reason: str


class Context:
    """What a source's `convert` gets from the driver: where audio goes, and who hears about dropped clips."""

    def __init__(self, *, source: str, out_dir: Path) -> None:
        """Make a context for one conversion of `source` into `out_dir`."""
        self.source = source
        self.audio_dir = out_dir.resolve() / "audio"
        self.dropped: list[Dropped] = []

    def drop(self, clip_id: str, reason: str) -> None:
        """Record that the clip is left out; the driver writes every one of them to `dropped.jsonl`."""
        self.dropped.append(Dropped(id=clip_id, reason=reason))

    def duration_s(self, path: Path) -> float:
        """Return the file's duration in seconds, from its header.

        Raises:
            AudioError: The file is not audio, or it holds no samples.
        """
        duration_s = audio.info(path).duration_s
        if not duration_s > 0:
            raise AudioError(f"expected audio at {path}, found a file with no samples")
        return duration_s

    def write_audio(self, clip_id: str, wave: np.ndarray) -> Path:
        """Write mono samples at 16 kHz in [-1, 1] as FLAC (16 bits) and return the absolute path.

        Args:
            clip_id: The clip's id; it becomes the file's name below `audio/`, slashes making folders.
            wave: float array [samples].

        Raises:
            SourceError: The id would leave the folder.
            AudioError: The array is empty, not one-dimensional or not finite.
        """
        path = (self.audio_dir / f"{clip_id}.flac").resolve()
        if not path.is_relative_to(self.audio_dir):
            raise SourceError(f"{self.source}: expected a clip id that stays below {self.audio_dir}, found {clip_id!r}")
        if wave.ndim != 1 or wave.size == 0 or not np.isfinite(wave).all():
            raise AudioError(f"{self.source}: clip {clip_id!r}: expected finite mono samples, found shape {wave.shape}")
        path.parent.mkdir(parents=True, exist_ok=True)
        clipped = np.clip(wave, -1.0, 1.0)  # a decoder's overshoot would wrap around in 16 bits
        soundfile.write(str(path), clipped, audio.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        return path

    def require(self, path: Path, root: Path) -> Path:
        """Return `path` if it exists.

        Raises:
            LayoutError: It does not; the message shows what is in `root` instead.
        """
        if path.exists():
            return path
        found = ", ".join(sorted(entry.name for entry in root.iterdir())[:8]) if root.is_dir() else "no such folder"
        raise LayoutError(
            f"{self.source}: expected {path} (found in {root}: {found or 'nothing'}). "
            f"Give the folder that holds the unpacked corpus, or no folder to have it fetched"
        )
