"""Instructions: the one place where a clip's annotation becomes prompt and answer, and an answer becomes an annotation.

    families(clip)               which task families the annotation supports
    render(clip, family, seed)   -> Example: control tags, an English instruction, the canonical answer
    parse(family, answer)        -> the part of the annotation that the answer states

Rendering is a pure function of its arguments, uses the standard library only and takes microseconds, so examples are
rendered when a batch is made and never stored.
"""

from __future__ import annotations

from uniwhisper.instructions.config import COMPACT, DEFAULT, InstructionConfig
from uniwhisper.instructions.languages import language_name
from uniwhisper.instructions.parsing import ParsedAnswer, parse
from uniwhisper.instructions.rendering import attribute_values, families, render

__all__ = [
    "COMPACT",
    "DEFAULT",
    "InstructionConfig",
    "ParsedAnswer",
    "attribute_values",
    "families",
    "language_name",
    "parse",
    "render",
]
