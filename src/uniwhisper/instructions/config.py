"""How clips are rendered to text: the choices that a recipe may vary, and two named settings of them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from uniwhisper.errors import ConfigError

__all__ = ["COMPACT", "DEFAULT", "AnswerStyle", "AttributeScope", "InstructionConfig", "PitchStyle"]

AnswerStyle = Literal["short", "sentence"]
AttributeScope = Literal["one", "all", "any"]
PitchStyle = Literal["name", "midi"]

_CHOICES: dict[str, tuple[object, ...]] = {
    "answer_style": get_args(AnswerStyle),
    "attributes": get_args(AttributeScope),
    "pitch_style": get_args(PitchStyle),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class InstructionConfig:
    """What is asked about a clip, and the wording of prompts and answers."""

    tags: bool = True
    """Open the prompt with the five control tags."""
    instruction: bool = True
    """Say in English what to do; without it the prompt holds the tags and whatever the task cannot go without."""
    paraphrases: bool = True
    """Pick one of a family's phrasings by seed; otherwise always its first."""
    answer_style: AnswerStyle = "short"
    """`short`: the label alone. `sentence`: labels, attributes and yes/no answers as a full sentence; texts and
    timed lists are the same in both."""
    attributes: AttributeScope = "any"
    """Ask for `one` attribute, for `all` that are known, or pick by seed among each one and all (`any`)."""
    pitch_style: PitchStyle = "name"
    """Spell a pitch as a note name (`C#4`, where C4 is MIDI 60) or as its MIDI number."""
    tell_language: bool = True
    """Name the spoken language in prompts for transcription and translation, where it is known."""
    language_questions: bool = True
    """Treat the language of a speech clip as one of its attributes."""
    label_questions: bool = False
    """Also ask yes/no questions made from labels in the family `question_answering`."""

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            allowed = _CHOICES.get(item.name, (True, False))
            if not any(value is option or (isinstance(value, str) and value == option) for option in allowed):
                raise ConfigError(f"{item.name}: expected one of {list(allowed)}, found {value!r}")
        if not (self.tags or self.instruction):
            raise ConfigError("expected tags or instruction (or both) to be true, found neither: the prompt is empty")


DEFAULT = InstructionConfig()
"""Tags and a paraphrased instruction, the label alone as the answer."""

COMPACT = InstructionConfig(instruction=False, paraphrases=False)
"""The shortest prompt: control tags, and only the text that the task cannot go without."""
