"""What a source declares about itself: `SPEC: SourceSpec` of its module."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

from uniwhisper.errors import ConfigError
from uniwhisper.types import DOMAINS, FAMILIES, Domain, Family

__all__ = ["Remote", "SourceSpec", "Use"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_CHECKSUM = re.compile(r"md5:[0-9a-f]{32}|sha256:[0-9a-f]{64}")

Use = Literal["starter", "training", "evaluation", "own"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Remote:
    """A file that the publisher offers for download."""

    url: str
    """https address."""
    size_bytes: int = 0
    """As published; 0 = not published."""
    checksum: str = ""
    """`md5:` or `sha256:` and hex digits as published; empty where the publisher states none."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ConfigError: The address is not https, the size is negative, or the checksum is not of a known kind.
        """
        if not self.url.startswith("https://"):
            raise ConfigError(f"remote: expected an https address, found {self.url!r}")
        if self.size_bytes < 0 or (self.checksum and not _CHECKSUM.fullmatch(self.checksum)):
            raise ConfigError(
                f"remote {self.url}: expected size_bytes >= 0 and a checksum like md5:<32 hex> or sha256:<64 hex>, "
                f"found {self.size_bytes} and {self.checksum!r}"
            )


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
    uses: tuple[Use, ...] = ("starter",)
    """What it serves: the starter corpus, the paper's training mixture or evaluation, or one's own audio."""
    packages: tuple[str, ...] = ()
    """Debian packages that hold it; empty where the user supplies the folder."""
    remotes: tuple[Remote, ...] = ()
    """What the publisher offers for download."""
    not_downloadable: str = ""
    """What has to be had another way, and how (audio from YouTube, a form to sign); empty where all can be fetched."""
    placement: str = ""
    """What to place where below the source's root, one line each: `<path>  <what it is>`."""
    num_clips: int = 0
    """Clips in all: as published, or of a packaged source as last converted; 0 = unknown."""
    hours: float = 0.0
    """Hours in all, in the same way; 0 = unknown."""
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
        if not self.uses or set(self.uses) - set(get_args(Use)):
            raise ConfigError(f"source {self.name}: expected uses out of {get_args(Use)}, found {self.uses!r}")
        if {"training", "evaluation"} & set(self.uses) and not self.placement:
            raise ConfigError(f"source {self.name}: expected placement to say what to place where, found nothing")
        if not 0 <= self.drop_tolerance < 1:
            raise ConfigError(f"source {self.name}: expected drop_tolerance in [0, 1), found {self.drop_tolerance}")
