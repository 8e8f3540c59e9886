"""Identifiers of recordings across corpora, spelt one way: `freesound:12345`, `youtube:dQw4w9WgXcQ@30-40`.

The same recording is published again and again under other file names; what survives is the identifier of the place
that it came from. A source writes them into `Clip.upstream_ids` through the functions below, and the identifier stage
of `dedup` compares them. A YouTube id may carry the span that was cut out, because two spans of one video share no
audio.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from uniwhisper.errors import ManifestError

__all__ = [
    "Upstream",
    "fma",
    "freesound",
    "jamendo",
    "librispeech",
    "overlap",
    "parse",
    "same_recording",
    "upstream",
    "youtube",
]

_NAMESPACE = re.compile(r"[a-z][a-z0-9_]*")
_YOUTUBE = re.compile(r"[A-Za-z0-9_-]{11}")
_LIBRISPEECH = re.compile(r"([0-9]{1,9})-([0-9]{1,9})-([0-9]{1,9})")
_SPAN = re.compile(r"(?P<key>.+)@(?P<start>\d+(\.\d+)?)-(?P<end>\d+(\.\d+)?)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Upstream:
    """An identifier taken apart."""

    namespace: str
    key: str
    start_s: float | None = None
    end_s: float | None = None


def upstream(namespace: str, key: str | int) -> str:
    """Return `namespace:key`.

    Raises:
        ManifestError: The namespace is not snake_case, or the key is blank or has whitespace in it.
    """
    text = str(key).strip()
    if not _NAMESPACE.fullmatch(namespace) or not text or text.split() != [text]:
        raise ManifestError(f"expected an identifier like freesound:123, found namespace {namespace!r}, id {key!r}")
    return f"{namespace}:{text}"


def _number(namespace: str, key: str | int) -> str:
    """Return `namespace:key` for a namespace of whole numbers, without leading zeros."""
    text = str(key).strip()
    if not (text.isascii() and text.isdigit()):
        raise ManifestError(f"expected a {namespace} id of digits, found {key!r}")
    return upstream(namespace, text.lstrip("0") or "0")


def freesound(sound_id: str | int) -> str:
    """Return the identifier of a sound on freesound.org; not a number is a ManifestError."""
    return _number("freesound", sound_id)


def jamendo(track_id: str | int) -> str:
    """Return the identifier of a track on jamendo.com (`track_0001234` is meant too); else a ManifestError."""
    return _number("jamendo", str(track_id).removeprefix("track_"))


def fma(track_id: str | int) -> str:
    """Return the identifier of a track of the Free Music Archive (leading zeros do not count); else a ManifestError."""
    return _number("fma", track_id)


def librispeech(utterance: str) -> str:
    """Return the identifier of an utterance `speaker-chapter-number` of LibriSpeech.

    Raises:
        ManifestError: It is not of that form.
    """
    match = _LIBRISPEECH.fullmatch(utterance.strip())
    if match is None:
        raise ManifestError(f"expected a LibriSpeech utterance like 1272-128104-0003, found {utterance!r}")
    speaker, chapter, number = (int(part) for part in match.groups())
    return f"librispeech:{speaker}-{chapter}-{number:04d}"


def youtube(video_id: str, start_s: float | None = None, end_s: float | None = None) -> str:
    """Return the identifier of a video, or of the span of it from `start_s` to `end_s` seconds.

    Raises:
        ManifestError: The id does not have YouTube's 11 characters, or the span is reversed or half given.
    """
    if not _YOUTUBE.fullmatch(video_id):
        raise ManifestError(f"expected a YouTube id of 11 characters out of A-Z a-z 0-9 _ -, found {video_id!r}")
    if start_s is None and end_s is None:
        return f"youtube:{video_id}"
    if start_s is None or end_s is None or not 0 <= start_s < end_s < math.inf:
        raise ManifestError(f"YouTube id {video_id}: expected 0 <= start_s < end_s, found {start_s} and {end_s}")
    return f"youtube:{video_id}@{_seconds(start_s)}-{_seconds(end_s)}"


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def parse(text: str) -> Upstream:
    """Return the parts of an identifier.

    Raises:
        ManifestError: It is not `namespace:id`.
    """
    namespace, colon, rest = text.partition(":")
    if not (colon and rest and _NAMESPACE.fullmatch(namespace)):
        raise ManifestError(f"expected an identifier like freesound:123, found {text!r}")
    match = _SPAN.fullmatch(rest)
    if match is None:
        return Upstream(namespace=namespace, key=rest)
    return Upstream(namespace=namespace, key=match["key"], start_s=float(match["start"]), end_s=float(match["end"]))


def same_recording(a: Upstream, b: Upstream) -> bool:
    """Return whether both name the same recording and, where both name a span, the spans overlap."""
    if (a.namespace, a.key) != (b.namespace, b.key):
        return False
    if a.start_s is None or a.end_s is None or b.start_s is None or b.end_s is None:
        return True
    return a.start_s < b.end_s and b.start_s < a.end_s


def overlap(a: str, b: str) -> bool:
    """Return `same_recording` of two identifiers; one that is malformed is a ManifestError."""
    return same_recording(parse(a), parse(b))
