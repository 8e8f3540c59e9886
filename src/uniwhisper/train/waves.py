"""Samples of training clips, decoded when they are asked for and kept in memory up to a limit.

Reads audio wherever `clips.py` finds it; writes nothing. Guarantees: 16-bit samples; those of a 16-bit file at 16 kHz,
which is what shards hold, are its own to the last bit. Audio that cannot be read raises an error that says which clip
it is, which member of which tar, and what to do; no clip is ever left out silently.
"""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import numpy as np

from uniwhisper import audio
from uniwhisper.clips import clip_bytes, read_clip
from uniwhisper.errors import AudioError, ShardError
from uniwhisper.shards.members import BLOCK_BYTES, decode_flac, to_pcm
from uniwhisper.types import Clip

__all__ = ["FULL_SCALE", "WaveStore"]

FULL_SCALE = 1 << 15
"""A 16-bit sample divided by this lies in [-1, 1)."""

_ROUNDING_S = 0.5  # a clip cut at 30 s may come a little longer out of a lossy file or a rounded cut
_FLAC_START = b"fLaC"
_STREAMINFO_BYTES = slice(18, 26)  # 20 bits rate, 3 bits channels - 1, 5 bits width - 1, 36 bits samples


class WaveStore:
    """Decoded audio, kept in memory as 16-bit samples up to a limit; the rest is decoded again when asked for."""

    def __init__(self, limit_mb: float) -> None:
        self._limit_mb = limit_mb
        self._used = 0
        self._waves: dict[tuple[str, int, float, float], np.ndarray] = {}

    def samples(self, clip: Clip) -> np.ndarray:
        """Return the clip's samples, int16 at 16 kHz, at most 30 s; not to be written to.

        Raises:
            AudioError: The audio cannot be read, or the clip is longer than what an encoder sees at once; the message
                names the clip, where it lies, and what to do.
        """
        # Clips may share a file, a start, or both: two cuts of one recording.
        key = (clip.path, clip.offset_bytes, clip.start_s, clip.duration_s)
        stored = self._waves.get(key)
        if stored is None:
            stored = _read(clip)
            if self._used + stored.nbytes <= self._limit_mb * 1e6:
                self._waves[key] = stored
                self._used += stored.nbytes
        return stored

    def wave(self, clip: Clip) -> np.ndarray:
        """Return the clip's samples, float32 in [-1, 1) at 16 kHz, at most 30 s.

        Raises:
            AudioError: As in `samples`.
        """
        return self.samples(clip) / np.float32(FULL_SCALE)

    def shared_by(self, processes: int) -> WaveStore:
        """Return an empty store with the part of the limit that one of several processes may use."""
        return WaveStore(self._limit_mb / max(1, processes))

    def __reduce__(self) -> tuple[Any, ...]:
        return (WaveStore, (self._limit_mb,))  # another process decodes for itself: samples are not sent


def _read(clip: Clip) -> np.ndarray:
    """Return the 16-bit samples of a clip from disk."""
    _check_fits(clip, clip.duration_s)
    try:
        pcm = _stored_pcm(clip)
        if pcm is None:
            pcm = to_pcm(read_clip(clip))
    except AudioError as e:
        raise AudioError(f"{e}. {_advice(clip)}") from e
    except ShardError as e:
        raise AudioError(f"{_where(clip)}: {e}. {_advice(clip)}") from e
    _check_fits(clip, len(pcm) / audio.SAMPLE_RATE)
    return pcm[: audio.WINDOW_SAMPLES]


def _stored_pcm(clip: Clip) -> np.ndarray | None:
    """Return the samples of a member of a tar that is a clip as `shards.members.pack` stores it, else None.

    Its samples are what is wanted already, so nothing has to be looked up, rounded or checked for size.

    Source: RFC 9639, section 8.2 (STREAMINFO): https://www.rfc-editor.org/rfc/rfc9639
    """
    if not clip.num_bytes or clip.start_s:
        return None
    data = clip_bytes(clip)
    facts = int.from_bytes(data[_STREAMINFO_BYTES], "big")
    rate, channels, width, count = facts >> 44, (facts >> 41 & 7) + 1, (facts >> 36 & 31) + 1, facts & (1 << 36) - 1
    expected = (audio.SAMPLE_RATE, 1, 16, round(clip.duration_s * audio.SAMPLE_RATE))
    if not data.startswith(_FLAC_START) or (rate, channels, width, count) != expected:
        return None
    pcm = decode_flac(data)
    if len(pcm) != count:
        raise ShardError(f"expected {count} samples, as its header says; found {len(pcm)}")
    return pcm


def _check_fits(clip: Clip, duration_s: float) -> None:
    """Raise if a clip is longer than the encoder's window by more than rounding."""
    if duration_s > audio.WINDOW_S + _ROUNDING_S:
        raise AudioError(
            f"{_where(clip)}: expected at most {audio.WINDOW_S} s, found {duration_s:.2f} s: "
            "`uniwhisper shards` cuts longer clips where their annotations allow"
        )


def _where(clip: Clip) -> str:
    return f"clip {clip.id!r} of {clip.source!r}"


def _advice(clip: Clip) -> str:
    """Return where exactly a clip that cannot be read lies, and what to do about it."""
    if not clip.num_bytes:
        return "Fetch or make the file again, or take the clip out of the manifest; training leaves no clip out itself"
    tar = Path(clip.path)
    place = f"It is {_member(tar, clip.offset_bytes)} of {tar}, {clip.num_bytes} bytes from byte {clip.offset_bytes}."
    if not (tar.parent / "shards.json").is_file():
        return f"{place} Fetch the tar again, or take the clip out of the manifest"
    return (
        f"{place} `uniwhisper shards --verify {tar.parent}` names everything that is damaged there. Fetch those shards "
        "again; or take the clips out of their manifest and run `uniwhisper shards` with --rebuild, which makes only "
        "those shards anew. Then run the same training command again: it goes on from its last checkpoint"
    )


def _member(tar: Path, offset_bytes: int) -> str:
    """Return what the header in front of a member says it is, as far as it can still be read."""
    try:
        with tar.open("rb") as file:
            file.seek(offset_bytes - BLOCK_BYTES)
            name = tarfile.TarInfo.frombuf(file.read(BLOCK_BYTES), "utf-8", "replace").name
    except (OSError, ValueError, tarfile.TarError):
        return "a member"
    return f"member {name!r}"
