"""Clip -> Example: which task families an annotation supports, and the prompt and answer of each.

Reads a `Clip` from `types`; guarantees that the same (clip, family, seed, arguments) gives the same example on every
machine, that what is picked from the annotation does not depend on tags, phrasing and style, and that the prompt never
states the answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from uniwhisper.errors import ManifestError
from uniwhisper.instructions import answers, timelines
from uniwhisper.instructions.choice import Choice
from uniwhisper.instructions.config import DEFAULT, InstructionConfig
from uniwhisper.instructions.languages import language_name
from uniwhisper.instructions.tags import UNKNOWN, control_tags
from uniwhisper.instructions.templates import ALL_ATTRIBUTES, LABEL_QUESTION, TEMPLATES
from uniwhisper.types import FAMILIES, Clip, Example, Family

__all__ = ["attribute_values", "families", "render"]

_LANGUAGE = "language"
"""The attribute that is made from `Clip.language`."""


@dataclass(frozen=True, slots=True)
class _Request:
    """What one call of `render` asks for."""

    clip: Clip
    choice: Choice
    config: InstructionConfig
    negative: str
    attribute: str
    language: str


@dataclass(frozen=True, slots=True)
class _Parts:
    """A rendered task before its wording: the answer, the tags and what the instruction is about."""

    answer: str
    output: str
    text: str = ""
    """Fills `{text}`; what a prompt without instruction still has to say."""
    audio_language: str = UNKNOWN
    text_language: str = "en"
    timed: bool = False
    templates: tuple[str, ...] = ()
    """Instead of the family's own."""
    slots: dict[str, str] = field(default_factory=dict)


def attribute_values(clip: Clip, config: InstructionConfig = DEFAULT) -> dict[str, str]:
    """Return the attributes that can be asked about `clip`, sorted by name; blank ones are not known, so not asked.

    A speech clip whose language is known has the attribute `language`, its English name, unless the corpus gives one.
    """
    values: dict[str, str] = {}
    for name, value in clip.annotation.attributes.items():
        name, value = answers.clean_text(name), answers.clean_text(value)
        if name and value:
            values[name] = value
    if config.language_questions and clip.domain == "speech" and clip.language:
        values.setdefault(_LANGUAGE, language_name(clip.language))
    return dict(sorted(values.items()))


def families(clip: Clip, config: InstructionConfig = DEFAULT) -> tuple[Family, ...]:
    """Return the task families that the annotation of `clip` supports, in the order of `types.FAMILIES`.

    One label of a closed set is `classification`; any other labels are `tagging`. A clip with labels or captions
    supports `audio_text_matching`, which only teaches something when `render` is given a `negative`.
    """
    note = clip.annotation
    one_of_set = bool(note.label_set) and len(note.labels) == 1
    supported: dict[Family, bool] = {
        "asr": bool(note.transcript.strip()),
        "translation": any(text.strip() for text in note.translations.values()),
        "captioning": any(text.strip() for text in note.captions),
        "tagging": bool(note.labels) and not one_of_set,
        "classification": one_of_set,
        "event_detection": bool(note.events),
        "note_transcription": bool(note.notes),
        "question_answering": bool(note.questions) or (config.label_questions and bool(note.labels)),
        "audio_text_matching": bool(note.labels) or any(text.strip() for text in note.captions),
        "attribute_prediction": bool(attribute_values(clip, config)),
    }
    return tuple(family for family in FAMILIES if supported[family])


def _spoken(request: _Request) -> tuple[str, dict[str, str]]:
    """Return the audio-language tag and the `{language}` slot; both say nothing where it is not known or not told."""
    code = request.clip.language
    if not (code and request.config.tell_language):
        return UNKNOWN, {"language": ""}
    return code, {"language": f"{language_name(code)} "}


def _asr(request: _Request) -> _Parts:
    code, slots = _spoken(request)
    answer = answers.read_text(request.clip.annotation.transcript)
    return _Parts(answer, "text", audio_language=code, text_language=code, slots=slots)


def _translation(request: _Request) -> _Parts:
    code, slots = _spoken(request)
    known = {target: text for target, text in request.clip.annotation.translations.items() if text.strip()}
    if request.language and request.language not in known:
        raise ManifestError(f"expected a translation into one of {sorted(known)}, found language={request.language!r}")
    target = request.language or request.choice.pick(sorted(known))
    slots["target"] = language_name(target)
    answer = answers.read_text(known[target])
    return _Parts(answer, "text", audio_language=code, text_language=target, slots=slots)


def _captioning(request: _Request) -> _Parts:
    captions = [text for text in request.clip.annotation.captions if text.strip()]
    return _Parts(answers.read_text(request.choice.pick(captions)), "text")


def _tagging(request: _Request) -> _Parts:
    return _Parts(answers.write_labels(request.clip.annotation.labels, request.config.answer_style), "list")


def _classification(request: _Request) -> _Parts:
    note = request.clip.annotation
    answer = answers.write_one_label(note.labels[0], request.config.answer_style)
    return _Parts(answer, f"{answers.clean_text(note.label_set)} label")


def _event_detection(request: _Request) -> _Parts:
    return _Parts(timelines.write_events(request.clip.annotation.events), "list", timed=True)


def _note_transcription(request: _Request) -> _Parts:
    notes, style = request.clip.annotation.notes, request.config.pitch_style
    return _Parts(timelines.write_notes(notes, style), "names" if style == "name" else "midi", timed=True)


def _true_or_false(request: _Request, truths: list[str]) -> tuple[str, bool]:
    """Pick a text that describes the clip, or the negative, by seed, and say whether it is true.

    A negative that happens to describe the clip is answered with yes, so it may be drawn from any other clip.
    """
    text = request.choice.pick(truths)
    negative = answers.clean_text(request.negative)
    if negative and request.choice.pick((False, True)):
        text = negative
    return text, text.casefold() in {truth.casefold() for truth in truths}


def _question_answering(request: _Request) -> _Parts:
    note = request.clip.annotation
    questions = list(note.questions)
    made = request.config.label_questions and bool(note.labels)
    question = request.choice.pick([*questions, None] if made else questions)
    if question is None:
        text, true = _true_or_false(request, [answers.clean_label(label) for label in note.labels])
        # The answer is short in every style: whoever parses answers to questions cannot know which were made here.
        return _Parts(answers.write_yes_no(true, "short"), "yes/no", text=LABEL_QUESTION.format(text=text))
    return _Parts(answers.read_text(question.answer), "text", text=answers.read_text(question.question))


def _audio_text_matching(request: _Request) -> _Parts:
    note = request.clip.annotation
    captions = [answers.clean_text(caption) for caption in note.captions if caption.strip()]
    text, true = _true_or_false(request, captions + [answers.clean_label(label) for label in note.labels])
    return _Parts(answers.write_yes_no(true, request.config.answer_style), "yes/no", text=text)


def _attribute_prediction(request: _Request) -> _Parts:
    values, config = attribute_values(request.clip, request.config), request.config
    if request.attribute and request.attribute not in values:
        raise ManifestError(f"expected one of the attributes {list(values)}, found attribute={request.attribute!r}")
    options: list[str | None] = []  # None stands for all
    if request.attribute:
        options = [request.attribute]
    else:
        options += values if config.attributes != "all" else []
        options += [None] if config.attributes != "one" and len(values) > 1 else []
    name = request.choice.pick(options or list(values))
    if name is None:
        text = ", ".join(values)
        return _Parts(answers.write_attributes(values, config.answer_style), "list", text, templates=ALL_ATTRIBUTES)
    return _Parts(answers.write_one_attribute(name, values[name], config.answer_style), "label", name)


_RENDERERS: dict[Family, Callable[[_Request], _Parts]] = {
    "asr": _asr,
    "translation": _translation,
    "captioning": _captioning,
    "tagging": _tagging,
    "classification": _classification,
    "event_detection": _event_detection,
    "note_transcription": _note_transcription,
    "question_answering": _question_answering,
    "audio_text_matching": _audio_text_matching,
    "attribute_prediction": _attribute_prediction,
}


def _prompt(family: Family, parts: _Parts, choice: Choice, config: InstructionConfig) -> str:
    pieces: list[str] = []
    if config.tags:
        pieces.append(
            control_tags(
                family,
                audio_language=parts.audio_language,
                text_language=parts.text_language,
                timed=parts.timed,
                output=parts.output,
            )
        )
    if config.instruction:
        templates = parts.templates or TEMPLATES[family]
        template = choice.pick(templates) if config.paraphrases else templates[0]
        pieces.append(template.format(text=parts.text, **parts.slots))
    elif parts.text:
        pieces.append(parts.text)
    return " ".join(pieces)


def render(
    clip: Clip,
    family: Family,
    seed: int,
    *,
    config: InstructionConfig = DEFAULT,
    negative: str = "",
    attribute: str = "",
    language: str = "",
) -> Example:
    """Return one example of `family` for `clip`: a prompt without whitespace at its ends, and the canonical answer.

    The phrasing and, where an annotation offers several, the caption, translation, question or attribute are picked by
    a hash of (seed, clip id, family). Give another seed for every visit of a clip to see all of them.

    Args:
        clip: The clip; `families(clip, config)` lists what it supports.
        family: The task family.
        seed: Any integer.
        config: The wording.
        negative: For matching and label questions: a caption or label of another clip, shown instead of a true one in
            half of the seeds. Without it the answer is always yes.
        attribute: For attribute prediction: ask for this one instead of picking.
        language: For translation: the code of the target language instead of picking.

    Raises:
        ManifestError: The annotation does not support the family or the choice asked for, or contains text that could
            not be read back from an answer; the message names the clip.
    """
    where = f"clip {clip.id!r} of {clip.source!r}, {family}"
    supported = families(clip, config)
    if family not in supported:
        raise ManifestError(f"{where}: expected a family that the annotation supports {list(supported)}")
    choice = Choice(seed, clip.id, family)
    request = _Request(clip, choice, config, negative, attribute, language)
    try:
        parts = _RENDERERS[family](request)
    except ManifestError as e:
        raise ManifestError(f"{where}: {e}") from e
    prompt = _prompt(family, parts, choice, config)
    return Example(clip_id=clip.id, source=clip.source, family=family, prompt=prompt, answer=parts.answer)
