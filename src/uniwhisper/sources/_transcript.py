"""Is a transcript plausible for its recording? Speech sources drop a clip, with the reason given here, if it is not."""

from __future__ import annotations

__all__ = ["why_implausible"]

_MIN_DURATION_S = 0.15
_MAX_DURATION_S = 30.0  # one window of Whisper
_CHARACTERS_PER_SECOND = 28.0  # fast readers reach about 20
_FREE_CHARACTERS = 5  # short prompts are trimmed hard
_SECONDS_PER_CHARACTER = 0.5
_FREE_SECONDS = 3.0  # silence around a single word


def why_implausible(text: str, duration_s: float) -> str:
    """Return why `text` cannot be what is spoken in `duration_s` seconds, or an empty string if it can.

    The bounds are wide on purpose: they catch stage directions, texts of other recordings and empty files, not
    slow or hasty readers. They were set by looking at the outliers of the Debian speech corpora.
    """
    if not any(character.isalnum() for character in text):
        return "empty text"
    if duration_s < _MIN_DURATION_S:
        return f"shorter than {_MIN_DURATION_S:g} s"
    if duration_s > _MAX_DURATION_S:
        return f"longer than {_MAX_DURATION_S:g} s"
    if len(text) > _FREE_CHARACTERS + _CHARACTERS_PER_SECOND * duration_s:
        return f"text too long for the audio: {len(text)} characters in {duration_s:.2f} s"
    if duration_s > _FREE_SECONDS + _SECONDS_PER_CHARACTER * len(text):
        return f"text too short for the audio: {len(text)} characters in {duration_s:.2f} s"
    return ""
