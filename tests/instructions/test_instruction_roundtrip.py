"""Every family: what is rendered parses back to the annotation, in every style, and what could not is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniwhisper.errors import ManifestError
from uniwhisper.instructions import InstructionConfig, attribute_values, families, parse, render
from uniwhisper.instructions.timelines import note_name, note_pitch, quantise_events, quantise_notes
from uniwhisper.types import Annotation, Clip, Event, Note, Question

PATIENT = settings(deadline=None)
"""A loaded machine is not a failure."""

TEXTS = st.text(min_size=1, max_size=40).filter(lambda text: text.strip())
LABELS = TEXTS.filter(lambda text: ";" not in text)
VALUES = LABELS.filter(lambda text: ": " not in canonical(text))
NAMES = VALUES.filter(lambda text: ":" not in text and " is " not in f"{canonical(text)} ")
SEEDS = st.integers(-(2**40), 2**40)
STYLES = st.sampled_from([InstructionConfig(), InstructionConfig(answer_style="sentence")])
SPANS = st.tuples(st.floats(0, 4000), st.floats(0, 60)).map(lambda span: (span[0], span[0] + span[1]))


def canonical(text: str) -> str:
    return " ".join(text.split())


def clip(language: str = "", domain: Any = "sound", **annotation: Any) -> Clip:
    return Clip(
        id="c1",
        source="made",
        path="c1.wav",
        split="train",
        duration_s=1.0,
        domain=domain,
        language=language,
        annotation=Annotation(**annotation),
    )


@PATIENT
@given(TEXTS, SEEDS, STYLES)
def test_asr(text: str, seed: int, config: InstructionConfig) -> None:
    example = render(clip(domain="speech", language="en", transcript=text), "asr", seed, config=config)
    assert parse("asr", example.answer, config=config) == canonical(text)


@PATIENT
@given(st.dictionaries(st.sampled_from(["en", "de", "xx"]), TEXTS, min_size=1), SEEDS, STYLES)
def test_translation(translations: dict[str, str], seed: int, config: InstructionConfig) -> None:
    source = clip(domain="speech", translations=translations)
    for code, text in translations.items():
        example = render(source, "translation", seed, config=config, language=code)
        assert parse("translation", example.answer, config=config) == canonical(text)
    picked = render(source, "translation", seed, config=config).answer
    assert picked in {canonical(text) for text in translations.values()}


@PATIENT
@given(st.lists(TEXTS, min_size=1, max_size=4), SEEDS, STYLES)
def test_captioning(captions: list[str], seed: int, config: InstructionConfig) -> None:
    example = render(clip(captions=tuple(captions)), "captioning", seed, config=config)
    assert parse("captioning", example.answer, config=config) in {canonical(text) for text in captions}


@PATIENT
@given(st.lists(LABELS, min_size=1, max_size=6), SEEDS, STYLES)
def test_tagging(labels: list[str], seed: int, config: InstructionConfig) -> None:
    example = render(clip(labels=tuple(labels)), "tagging", seed, config=config)
    parsed = parse("tagging", example.answer, config=config)
    assert set(parsed) == {canonical(label) for label in labels}
    assert len(parsed) == len(set(parsed))
    backwards = render(clip(labels=tuple(reversed(labels))), "tagging", seed, config=config)
    assert backwards == example


@PATIENT
@given(LABELS, SEEDS, STYLES)
def test_classification(label: str, seed: int, config: InstructionConfig) -> None:
    example = render(clip(labels=(label,), label_set="set"), "classification", seed, config=config)
    assert parse("classification", example.answer, config=config) == canonical(label)


@PATIENT
@given(st.lists(st.tuples(LABELS, SPANS), min_size=1, max_size=6), SEEDS, STYLES)
def test_event_detection(items: list[tuple[str, tuple[float, float]]], seed: int, config: InstructionConfig) -> None:
    events = tuple(Event(label=label, onset_s=on, offset_s=off) for label, (on, off) in items)
    example = render(clip(events=events), "event_detection", seed, config=config)
    parsed = parse("event_detection", example.answer, config=config)
    assert parsed == quantise_events(events)
    assert sorted(event.label for event in parsed) == sorted(canonical(label) for label, _ in items)
    closest = sorted(on for _, (on, _) in items)
    assert all(abs(event.onset_s - on) <= 0.01 + 1e-9 for event, on in zip(parsed, closest, strict=True))


@PATIENT
@given(
    st.lists(st.tuples(st.integers(0, 127), SPANS, st.just("") | LABELS), min_size=1, max_size=6),
    SEEDS,
    st.sampled_from([InstructionConfig(pitch_style="midi"), InstructionConfig(pitch_style="name")]),
)
def test_note_transcription(items: list[tuple[int, tuple[float, float], str]], seed: int, config: Any) -> None:
    notes = tuple(Note(pitch=p, onset_s=on, offset_s=off, instrument=name) for p, (on, off), name in items)
    example = render(clip(domain="music", notes=notes), "note_transcription", seed, config=config)
    parsed = parse("note_transcription", example.answer, config=config)
    assert parsed == quantise_notes(notes)
    expected = sorted((p, canonical(name)) for p, _, name in items)
    assert sorted((note.pitch, note.instrument) for note in parsed) == expected


@PATIENT
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3), SEEDS, STYLES)
def test_question_answering(items: list[tuple[str, str]], seed: int, config: InstructionConfig) -> None:
    questions = tuple(Question(question=question, answer=answer) for question, answer in items)
    example = render(clip(questions=questions), "question_answering", seed, config=config)
    answer = parse("question_answering", example.answer, config=config)
    assert any(answer == canonical(a) and canonical(q) in example.prompt for q, a in items)


@PATIENT
@given(st.lists(LABELS, min_size=1, max_size=3), TEXTS, SEEDS, STYLES)
def test_audio_text_matching(labels: list[str], negative: str, seed: int, config: InstructionConfig) -> None:
    source = clip(labels=tuple(labels))
    truths = {canonical(label).casefold() for label in labels}
    example = render(source, "audio_text_matching", seed, config=config, negative=negative)
    bare = InstructionConfig(tags=False, instruction=True, paraphrases=False)
    shown = render(source, "audio_text_matching", seed, config=bare, negative=negative).prompt
    shown = shown.removeprefix("Does this describe the audio? ")
    assert parse("audio_text_matching", example.answer, config=config) is (shown.casefold() in truths)
    assert shown in example.prompt


@PATIENT
@given(st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), SEEDS, STYLES)
def test_attribute_prediction(attributes: dict[str, str], seed: int, config: InstructionConfig) -> None:
    source = clip(attributes=attributes)
    values = attribute_values(source)
    for name, value in values.items():
        example = render(source, "attribute_prediction", seed, config=config, attribute=name)
        parsed = parse("attribute_prediction", example.answer, config=config, attribute=name)
        assert parsed == {name: value}
    everything = InstructionConfig(answer_style=config.answer_style, attributes="all")
    example = render(source, "attribute_prediction", seed, config=everything)
    parsed = parse("attribute_prediction", example.answer, config=everything)
    if len(values) > 1:
        assert parsed == values
    else:  # one attribute is asked by its name, so a short answer need not repeat it
        assert list(parsed.values()) == list(values.values())


def test_exact_spellings() -> None:
    """The forms that the documentation promises; a change of spelling is a change of training data."""
    events = (Event(label="siren", onset_s=1.011, offset_s=3.449), Event(label="dog_bark", onset_s=0.31, offset_s=1.8))
    assert render(clip(events=events), "event_detection", 0).answer == "dog_bark 0.32-1.80; siren 1.02-3.44"
    notes = (Note(pitch=61, onset_s=0.32, offset_s=1.8), Note(pitch=64, onset_s=0.5, offset_s=1, instrument="piano"))
    assert render(clip(notes=notes), "note_transcription", 0).answer == "C#4 0.32-1.80; E4 piano 0.50-1.00"
    voice = clip(attributes={"gender": "male", "emotion": "happy"})
    every = InstructionConfig(attributes="all")
    assert render(voice, "attribute_prediction", 0, config=every).answer == "emotion: happy; gender: male"
    assert render(voice, "attribute_prediction", 0, attribute="emotion").answer == "happy"
    spoken = InstructionConfig(attributes="all", answer_style="sentence")
    answer = render(voice, "attribute_prediction", 0, config=spoken).answer
    assert answer == "The emotion is happy; the gender is male."
    tags = clip(labels=("siren", "Dog", "siren"))
    assert render(tags, "tagging", 0).answer == "Dog; siren"
    assert render(tags, "tagging", 0, config=spoken).answer == "The clip contains Dog; siren."
    assert (note_name(0), note_name(60), note_name(127), note_pitch("A4"), note_pitch("69")) == (
        "C-1",
        "C4",
        "G9",
        69,
        69,
    )


def test_language_is_an_attribute_of_speech_only() -> None:
    speech = clip(domain="speech", language="nl", transcript="Verdraaide kombuis.")
    assert families(speech) == ("asr", "attribute_prediction")
    assert attribute_values(speech) == {"language": "Dutch"}
    assert families(speech, InstructionConfig(language_questions=False)) == ("asr",)
    assert attribute_values(clip(domain="music", language="nl")) == {}
    given_by_corpus = clip(domain="speech", language="nl", attributes={"language": "Flemish"})
    assert attribute_values(given_by_corpus) == {"language": "Flemish"}


def test_families_follow_the_annotation() -> None:
    assert families(clip()) == ()
    assert families(clip(labels=("dog",), label_set="esc50")) == ("classification", "audio_text_matching")
    assert families(clip(labels=("dog",))) == ("tagging", "audio_text_matching")
    assert families(clip(labels=("dog", "cat"), label_set="audioset")) == ("tagging", "audio_text_matching")
    assert families(clip(captions=("a dog",))) == ("captioning", "audio_text_matching")
    assert families(clip(captions=(" ",), translations={"en": ""}, transcript="\n")) == ()
    with_questions = InstructionConfig(label_questions=True)
    assert "question_answering" in families(clip(labels=("dog",)), with_questions)


def test_label_questions_are_true() -> None:
    config = InstructionConfig(label_questions=True, tags=False, paraphrases=False)
    seen = set()
    for seed in range(40):
        example = render(clip(labels=("dog",)), "question_answering", seed, config=config, negative="cat")
        seen.add((example.prompt, example.answer))
    assert seen == {("Can dog be heard?", "yes"), ("Can cat be heard?", "no")}


def test_matching_is_balanced_and_never_lies() -> None:
    source = clip(labels=("dog",))
    answers = [render(source, "audio_text_matching", seed, negative="cat").answer for seed in range(1000)]
    assert 430 < answers.count("yes") < 570  # binomial, 4.4 standard deviations
    assert {render(source, "audio_text_matching", seed, negative=" DOG ").answer for seed in range(50)} == {"yes"}
    assert {render(source, "audio_text_matching", seed).answer for seed in range(50)} == {"yes"}


@pytest.mark.parametrize(
    ("family", "annotation"),
    [
        ("tagging", {"labels": ("a;b",)}),
        ("tagging", {"labels": (" ",)}),
        ("classification", {"labels": ("a;b",), "label_set": "set"}),
        ("event_detection", {"events": (Event(label="a;b", onset_s=0, offset_s=1),)}),
        ("event_detection", {"events": (Event(label="a", onset_s=2, offset_s=1),)}),
        ("event_detection", {"events": (Event(label="a", onset_s=-1, offset_s=1),)}),
        ("event_detection", {"events": (Event(label="a", onset_s=0, offset_s=math.nan),)}),
        ("event_detection", {"events": (Event(label="a", onset_s=0, offset_s=math.inf),)}),
        ("note_transcription", {"notes": (Note(pitch=128, onset_s=0, offset_s=1),)}),
        ("note_transcription", {"notes": (Note(pitch=60, onset_s=0, offset_s=1, instrument="a;b"),)}),
        ("attribute_prediction", {"attributes": {"a": "b;c"}}),
        ("attribute_prediction", {"attributes": {"a:b": "c"}}),
        ("attribute_prediction", {"attributes": {"a": "b: c"}}),
        ("attribute_prediction", {"attributes": {"what is": "b"}}),
        ("audio_text_matching", {"labels": ("a;b",)}),
        ("question_answering", {"questions": (Question(question="?", answer=" "),)}),
    ],
)
def test_what_cannot_be_read_back_is_refused(family: Any, annotation: dict[str, Any]) -> None:
    with pytest.raises(ManifestError, match="clip 'c1' of 'made'"):
        render(clip(**annotation), family, 0)


def test_unsupported_requests_are_refused() -> None:
    with pytest.raises(ManifestError, match=r"asr: expected a family that the annotation supports \['tagging'"):
        render(clip(labels=("dog",)), "asr", 0)
    with pytest.raises(ManifestError, match="expected one of the attributes"):
        render(clip(attributes={"emotion": "happy"}), "attribute_prediction", 0, attribute="gender")
    with pytest.raises(ManifestError, match="expected a translation into one of"):
        render(clip(translations={"en": "yes"}), "translation", 0, language="de")


@pytest.mark.parametrize(
    ("family", "answer", "style"),
    [
        ("asr", " ", "short"),
        ("tagging", "a;; b", "short"),
        ("tagging", "a; b", "sentence"),
        ("classification", "a; b", "short"),
        ("event_detection", "dog", "short"),
        ("event_detection", "dog 1.80-0.32", "short"),
        ("note_transcription", "H4 0.32-1.80", "short"),
        ("note_transcription", "200 0.32-1.80", "short"),
        ("audio_text_matching", "maybe", "short"),
        ("audio_text_matching", "yes", "sentence"),
        ("attribute_prediction", "emotion: happy; gender", "short"),
        ("attribute_prediction", "emotion: happy; emotion: sad", "short"),
        ("attribute_prediction", "happy", "sentence"),
        ("music", "a", "short"),
    ],
)
def test_malformed_answers_are_refused(family: Any, answer: str, style: Any) -> None:
    with pytest.raises(ManifestError, match="expected"):
        parse(family, answer, config=InstructionConfig(answer_style=style))


def test_generated_answers_are_read_leniently() -> None:
    assert parse("audio_text_matching", " Yes\n") is True
    assert parse("tagging", "siren;dog ; siren") == ("dog", "siren")
    assert parse("event_detection", "dog 0.33-1.81") == (Event(label="dog", onset_s=0.32, offset_s=1.8),)
    assert parse("attribute_prediction", "happy") == {"": "happy"}
