"""The audio of a clip, wherever it lies: a file, a span of a file, or a member of a tar.

Reads what `Clip.path`, `offset_bytes`, `num_bytes`, `start_s` and `duration_s` name; writes nothing. Every stage that
needs samples gets them here, so all of them hear the same ones.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from uniwhisper import audio
from uniwhisper.errors import AudioError
from uniwhisper.types import Clip

__all__ = ["clip_bytes", "clip_span", "file_duration_s", "length_s", "measure", "read_clip"]

_END_TOLERANCE_S = 0.05  # durations in manifests are rounded, and lossy files decode to a few samples more or less
_MISSING_S, _MISSING_SHARE = (
    0.2,
    0.05,
)  # tables state durations roughly; more than either is missing, it is another file


def clip_bytes(clip: Clip) -> bytes:
    """Return the encoded audio file of `clip`, as it stands on disk or in its container.

    Raises:
        AudioError: The file is missing, or the container ends before the member does.
    """
    try:
        with Path(clip.path).open("rb") as file:
            if not clip.num_bytes:
                return file.read()
            data = os.pread(file.fileno(), clip.num_bytes, clip.offset_bytes)
    except OSError as e:
        raise AudioError(f"{_where(clip)}: expected a file at {clip.path}, found none that can be read ({e})") from e
    if len(data) < clip.num_bytes:
        raise AudioError(
            f"{_where(clip)}: expected {clip.num_bytes} bytes from byte {clip.offset_bytes} of {clip.path}, found "
            f"{len(data)}: the container is truncated, fetch or make it again"
        )
    return data


def clip_span(clip: Clip) -> tuple[float, float | None]:
    """Return where in its file the clip begins and how long it is, in seconds; None where it is the whole file.

    Raises:
        AudioError: The audio cannot be read; the message names the clip.
    """
    return _span(clip, _file(clip))


def length_s(clip: Clip) -> float:
    """Return the clip's duration in seconds, from the file's header where the clip does not say: an estimate in MP3.

    Raises:
        AudioError: The clip does not say and the file cannot be read; the message names the clip.
    """
    if clip.duration_s > 0:
        return clip.duration_s
    try:
        return max(0.0, audio.info(_file(clip), name=_container(clip)).duration_s - clip.start_s)
    except AudioError as e:
        raise AudioError(f"{_where(clip)}: {e}") from e


def read_clip(clip: Clip, *, sample_rate: int = audio.SAMPLE_RATE) -> np.ndarray:
    """Return exactly the clip's span as a float32 wave [samples], mono, in [-1, 1], by default at 16 kHz.

    Args:
        clip: What to read.
        sample_rate: Rate of the wave in Hz, resampled from the file's own.

    Raises:
        AudioError: The audio cannot be read, or it ends before the clip does; the message names the clip.
    """
    whole = _file(clip)
    start_s, duration_s = _span(clip, whole)
    try:
        wave = audio.read(
            whole, start_s=start_s, max_duration_s=duration_s, sample_rate=sample_rate, name=_container(clip)
        )
    except AudioError as e:
        raise AudioError(f"{_where(clip)}: {e}") from e
    found_s = len(wave) / sample_rate
    if found_s < clip.duration_s - max(_MISSING_S, _MISSING_SHARE * clip.duration_s):
        raise AudioError(
            f"{_where(clip)}: expected {clip.duration_s:.3f} s from {clip.start_s:.3f} s in {clip.path}, found "
            f"{found_s:.3f} s: the file is not the one that was converted, or it is truncated"
        )
    return wave


def measure(clip: Clip) -> float:
    """Return the duration in seconds of the whole audio file behind `clip`.

    Raises:
        AudioError: It is missing, not audio, or holds no samples.
    """
    return file_duration_s(_file(clip), name=_container(clip))


def file_duration_s(file: Path | bytes, *, name: str = "audio in memory") -> float:
    """Return the duration in seconds of an audio file, from its header; an MP3, whose header guesses, is decoded.

    Raises:
        AudioError: It is missing, not audio, or holds no samples.
    """
    header = audio.info(file, name=name)
    duration_s = header.duration_s if header.is_exact else len(audio.read(file, name=name)) / audio.SAMPLE_RATE
    if not duration_s > 0:
        raise AudioError(f"expected audio at {name if isinstance(file, bytes) else file}, found a file with no samples")
    return duration_s


def _file(clip: Clip) -> Path | bytes:
    return clip_bytes(clip) if clip.num_bytes else Path(clip.path)


def _span(clip: Clip, file: Path | bytes) -> tuple[float, float | None]:
    # A whole file is read to its end: its header's length is an estimate in some formats.
    spans = clip.start_s > 0 or (clip.duration_s > 0 and _shorter_than_file(clip, file))
    return clip.start_s, clip.duration_s if spans else None


def _shorter_than_file(clip: Clip, file: Path | bytes) -> bool:
    try:
        return audio.info(file, name=_container(clip)).duration_s > clip.duration_s + _END_TOLERANCE_S
    except AudioError as e:
        raise AudioError(f"{_where(clip)}: {e}") from e


def _container(clip: Clip) -> str:
    return f"{clip.path} at byte {clip.offset_bytes}"


def _where(clip: Clip) -> str:
    return f"clip {clip.id!r} of {clip.source!r}"
