"""Answer -> annotation part: the inverse of `rendering`, for rendered answers and for those of a decoder."""

from __future__ import annotations

from typing import Literal, TypeAlias, overload

from uniwhisper.errors import ManifestError
from uniwhisper.instructions import answers, timelines
from uniwhisper.instructions.config import DEFAULT, InstructionConfig
from uniwhisper.types import FAMILIES, Event, Family, Note

__all__ = ["ParsedAnswer", "parse"]

ParsedAnswer: TypeAlias = str | bool | tuple[str, ...] | tuple[Event, ...] | tuple[Note, ...] | dict[str, str]
"""What an answer says, in the types of `Annotation`."""

TextFamily = Literal["asr", "translation", "captioning", "classification", "question_answering"]


@overload
def parse(family: TextFamily, answer: str, *, config: InstructionConfig = DEFAULT, attribute: str = "") -> str: ...
@overload
def parse(
    family: Literal["tagging"], answer: str, *, config: InstructionConfig = DEFAULT, attribute: str = ""
) -> tuple[str, ...]: ...
@overload
def parse(
    family: Literal["event_detection"], answer: str, *, config: InstructionConfig = DEFAULT, attribute: str = ""
) -> tuple[Event, ...]: ...
@overload
def parse(
    family: Literal["note_transcription"], answer: str, *, config: InstructionConfig = DEFAULT, attribute: str = ""
) -> tuple[Note, ...]: ...
@overload
def parse(
    family: Literal["audio_text_matching"], answer: str, *, config: InstructionConfig = DEFAULT, attribute: str = ""
) -> bool: ...
@overload
def parse(
    family: Literal["attribute_prediction"], answer: str, *, config: InstructionConfig = DEFAULT, attribute: str = ""
) -> dict[str, str]: ...
@overload
def parse(family: Family, answer: str, *, config: InstructionConfig = DEFAULT, attribute: str = "") -> ParsedAnswer: ...
def parse(family: Family, answer: str, *, config: InstructionConfig = DEFAULT, attribute: str = "") -> ParsedAnswer:
    """Return what `answer` says about the clip.

    Texts and labels come back in canonical whitespace, labels unique and sorted, events and notes on the 20 ms grid and
    sorted by time, attributes as name -> value sorted by name, matching as whether the text describes the clip.

    Args:
        family: The task family that was asked.
        answer: Rendered by `render`, or generated.
        config: The wording that the answer follows; only `answer_style` matters.
        attribute: The attribute that was asked for, where it was one: a short answer is its bare value, which is filed
            under this name, or under "" when it is not given.

    Raises:
        ManifestError: The answer is not of the form that the family has in this style.
    """
    style = config.answer_style
    match family:
        case "asr" | "translation" | "captioning" | "question_answering":
            return answers.read_text(answer)
        case "tagging":
            return answers.read_labels(answer, style)
        case "classification":
            return answers.read_one_label(answer, style)
        case "event_detection":
            return timelines.read_events(answer)
        case "note_transcription":
            return timelines.read_notes(answer)
        case "audio_text_matching":
            return answers.read_yes_no(answer, style)
        case "attribute_prediction":
            return answers.read_attributes(answer, style, attribute)
        case _:
            raise ManifestError(f"expected a task family, one of {list(FAMILIES)}, found {family!r}")
