"""Sound for the page: short excerpts of clips, small enough to live inside it.

Reads audio wherever a clip lies (a file, a span, a member of a tar), returns Ogg/Opus at 16 kHz mono as base64. An
excerpt is the loudest two seconds, brought to one peak level so that quiet corpora are heard too. Guarantees that all
excerpts together stay under the budget, and counts the clips that got none and why.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.clips import read_clip
from uniwhisper.errors import AudioError, ReportError
from uniwhisper.evaluate.neighbours import Recording

__all__ = ["AUDIO_BUDGET_BYTES", "EXCERPT_S", "MIME", "Players", "encode", "excerpt", "make_players"]

EXCERPT_S = 2.0
AUDIO_BUDGET_BYTES = 4_000_000
"""Most that the excerpts may add to a page, counted in base64."""
MIME = "audio/ogg"
_PEAK = 0.9
_FADE_S = 0.01  # an excerpt cut out of a sound would click
_COMPRESSION = 0.94  # libsndfile's scale for Opus: about 21 kbit/s, where speech and music at 16 kHz stay clear


@dataclass(frozen=True, kw_only=True, slots=True)
class Players:
    """Excerpts by recording, and what is missing."""

    audio: tuple[str, ...]
    """Base64 of each excerpt."""
    index: dict[Recording, int]
    """Recording -> position in `audio`."""
    num_missing: int
    """Recordings whose file is not there."""
    num_unreadable: int
    """Recordings whose file is there and is not usable audio."""
    num_over_budget: int
    """Recordings left out because the budget was spent."""

    def of(self, recording: Recording) -> int:
        """Return the position of a recording's excerpt in `audio`, -1 where there is none."""
        return self.index.get(recording, -1)


def excerpt(wave: np.ndarray) -> np.ndarray:
    """Return the loudest `EXCERPT_S` seconds of a wave at 16 kHz, faded at its ends and scaled to one peak level."""
    length = int(EXCERPT_S * SAMPLE_RATE)
    if len(wave) > length:
        energy = np.concatenate([[0.0], np.cumsum(wave.astype(np.float64) ** 2)])
        start = int(np.argmax(energy[length:] - energy[:-length]))
        wave = wave[start : start + length]
    peak = float(np.abs(wave).max())
    wave = wave * (_PEAK / peak) if peak > 0 else wave.copy()
    fade = min(int(_FADE_S * SAMPLE_RATE), len(wave) // 2)
    ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
    wave[:fade] *= ramp
    wave[len(wave) - fade :] *= ramp[::-1]
    return wave


def encode(wave: np.ndarray) -> str:
    """Return a wave at 16 kHz as base64 of Ogg/Opus.

    Raises:
        ReportError: The installed libsndfile cannot write Opus.
    """
    buffer = io.BytesIO()
    try:
        soundfile.write(buffer, wave, SAMPLE_RATE, format="OGG", subtype="OPUS", compression_level=_COMPRESSION)
    except (soundfile.LibsndfileError, ValueError) as e:
        version = soundfile.__libsndfile_version__
        raise ReportError(
            f"expected libsndfile to write Ogg/Opus, found version {version}: {e}; update soundfile"
        ) from e
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def make_players(recordings: Iterable[Recording], *, budget_bytes: int = AUDIO_BUDGET_BYTES) -> Players:
    """Return excerpts of `recordings` in their order until the budget is spent.

    Args:
        recordings: The most wanted first; repeats count once.
        budget_bytes: Most bytes of base64 in all.

    Raises:
        ReportError: The installed libsndfile cannot write Opus.
    """
    audio: list[str] = []
    index: dict[Recording, int] = {}
    spent = num_missing = num_unreadable = num_over_budget = 0
    is_full = False
    for recording in dict.fromkeys(recordings):
        if not Path(recording.path).is_file():
            num_missing += 1
        elif is_full:
            num_over_budget += 1
        else:
            try:
                text = encode(excerpt(read_clip(recording.clip())))
            except AudioError:
                num_unreadable += 1
                continue
            is_full = spent + len(text) > budget_bytes
            if is_full:
                num_over_budget += 1
                continue
            index[recording] = len(audio)
            audio.append(text)
            spent += len(text)
    return Players(
        audio=tuple(audio),
        index=index,
        num_missing=num_missing,
        num_unreadable=num_unreadable,
        num_over_budget=num_over_budget,
    )
