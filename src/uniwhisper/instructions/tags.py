"""The control tags that open a prompt, in Qwen-Audio's order and spelled with words that any tokenizer already has.

The decoder is frozen and cannot learn new tokens, and it is most of the cost of training, so the five tags are bare
words between brackets: `[en transcribe en plain text]` is 8 tokens for SmolLM2, where `[audio: en] [task: transcribe]
[text: en] [time: no] [output: text]` is 26.
"""

from __future__ import annotations

from uniwhisper.types import Family

__all__ = ["TASK_TAGS", "UNKNOWN", "control_tags"]

UNKNOWN = "?"
"""The language of audio that has none, or whose language the prompt must not give away."""

TASK_TAGS: dict[Family, str] = {
    "asr": "transcribe",
    "translation": "translate",
    "captioning": "caption",
    "tagging": "tag",
    "classification": "classify",
    "event_detection": "detect",
    "note_transcription": "notes",
    "question_answering": "answer",
    "audio_text_matching": "match",
    "attribute_prediction": "attribute",
}
"""The word for each task family; one or two tokens each."""


def control_tags(family: Family, *, audio_language: str, text_language: str, timed: bool, output: str) -> str:
    """Return the five tags: audio language, task, text language, timestamps, output constraint.

    Args:
        family: The task family; it decides the second tag.
        audio_language: Code of the spoken language, or `UNKNOWN`.
        text_language: Code of the answer's language, or `UNKNOWN`.
        timed: Whether the answer holds times; spelled `timed` or `plain`.
        output: What the answer must look like (`text`, `list`, `label`, ...); the only tag that may be several words.

    Source: the order of tags in Qwen-Audio (arXiv 2311.07919, section 3); the spelling is our own.
    """
    return f"[{audio_language} {TASK_TAGS[family]} {text_language} {'timed' if timed else 'plain'} {output}]"
