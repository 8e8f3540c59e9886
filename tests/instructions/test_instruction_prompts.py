"""Prompts: tag order, phrasings, seeded choice, what they must not give away, and what they cost."""

from __future__ import annotations

import os
import subprocess
import sys
import timeit
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from uniwhisper.errors import ConfigError
from uniwhisper.instructions import COMPACT, InstructionConfig, families, language_name, render
from uniwhisper.instructions.languages import known_languages
from uniwhisper.instructions.tags import TASK_TAGS
from uniwhisper.instructions.templates import ALL_ATTRIBUTES, TEMPLATES
from uniwhisper.types import FAMILIES, Annotation, Clip, Event, Family, Note, Question

PATIENT = settings(deadline=None)
"""A loaded machine is not a failure."""

SECRET = "Zyxquark"
"""A word that no phrasing or tag contains."""


def full_clip(clip_id: str = "c1") -> Clip:
    """A clip that says everything; every answer contains the secret, but for notes, matching and question."""
    annotation = Annotation(
        transcript=f"{SECRET} spoken",
        translations={"en": f"{SECRET} translated"},
        captions=(f"{SECRET} captioned",),
        labels=(f"{SECRET} one", f"{SECRET} two"),
        attributes={"emotion": f"{SECRET} happy", "gender": f"{SECRET} male"},
        events=(Event(label=SECRET, onset_s=0.32, offset_s=1.8),),
        notes=(Note(pitch=61, onset_s=0.32, offset_s=1.8),),
        questions=(Question(question="How many?", answer=SECRET),),
    )
    return Clip(
        id=clip_id,
        source="made",
        path="c1.wav",
        split="train",
        duration_s=2.0,
        domain="speech",
        annotation=annotation,
        language="nl",
    )


def labelled_clip() -> Clip:
    annotation = Annotation(labels=(SECRET,), label_set="sounds ten")
    return replace(full_clip(), annotation=annotation, domain="sound", language="")


def clip_for(family: Family) -> Clip:
    return labelled_clip() if family == "classification" else full_clip()


def test_full_clip_supports_every_other_family() -> None:
    assert set(families(full_clip())) == set(FAMILIES) - {"classification"}
    assert set(TEMPLATES) == set(TASK_TAGS) == set(FAMILIES)


@pytest.mark.parametrize("templates", [*TEMPLATES.values(), ALL_ATTRIBUTES])
def test_every_family_has_distinct_phrasings(templates: tuple[str, ...]) -> None:
    assert len(set(templates)) == len(templates) >= 5
    assert all(template.isascii() and template == template.strip() for template in templates)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_phrasing_is_drawn_about_equally_often(family: Family) -> None:
    config = InstructionConfig(attributes="one")
    prompts = [render(clip_for(family), family, seed, config=config).prompt for seed in range(600)]
    counts = {prompt: prompts.count(prompt) for prompt in prompts}
    assert len(counts) >= 5
    if family not in ("attribute_prediction", "audio_text_matching"):  # these also draw what they are about
        assert min(counts.values()) > 60  # of 100 expected


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("asr", "[nl transcribe nl plain text]"),
        ("translation", "[nl translate en plain text]"),
        ("captioning", "[? caption en plain text]"),
        ("tagging", "[? tag en plain list]"),
        ("classification", "[? classify en plain sounds ten label]"),
        ("event_detection", "[? detect en timed list]"),
        ("note_transcription", "[? notes en timed names]"),
        ("question_answering", "[? answer en plain text]"),
        ("audio_text_matching", "[? match en plain yes/no]"),
        ("attribute_prediction", "[? attribute en plain label]"),
    ],
)
def test_tags_are_in_qwen_audios_order(family: Family, expected: str) -> None:
    config = InstructionConfig(attributes="one")
    example = render(clip_for(family), family, 0, config=config)
    assert example.prompt.startswith(f"{expected} ")
    audio, task, text, times, *output = expected.strip("[]").split()
    assert (task, times in ("timed", "plain"), bool(output)) == (TASK_TAGS[family], True, True)
    assert {audio, text} <= {"nl", "en", "?"}


@pytest.mark.parametrize("family", FAMILIES)
def test_no_prompt_states_an_answer(family: Family) -> None:
    """Only matching and questions may quote the annotation, for they are about a text."""
    for seed in range(60):
        prompt = render(clip_for(family), family, seed).prompt
        if family != "audio_text_matching":
            assert SECRET not in prompt
        if family not in ("asr", "translation"):
            assert "Dutch" not in prompt
            assert "nl" not in prompt.split("]")[0].strip("[").split()
        assert "C#4" not in prompt
        assert "0.32" not in prompt


def test_languages_are_named_or_withheld() -> None:
    told = render(full_clip(), "translation", 0, config=InstructionConfig(paraphrases=False)).prompt
    assert told == "[nl translate en plain text] Translate the Dutch speech into English."
    silent = InstructionConfig(paraphrases=False, tell_language=False)
    assert render(full_clip(), "asr", 0, config=silent).prompt == "[? transcribe ? plain text] Transcribe the speech."
    rare = render(replace(full_clip(), language="qzx"), "asr", 0, config=InstructionConfig(paraphrases=False))
    assert rare.prompt == "[qzx transcribe qzx plain text] Transcribe the qzx speech."


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("paraphrases", [True, False])
def test_wording_does_not_change_what_is_picked(family: Family, paraphrases: bool) -> None:
    for seed in range(20):
        example = render(clip_for(family), family, seed, negative="other")
        for config in (COMPACT, InstructionConfig(tags=False, paraphrases=paraphrases)):
            other = render(clip_for(family), family, seed, negative="other", config=config)
            assert other.answer == example.answer


@pytest.mark.parametrize("family", FAMILIES)
def test_compact_prompts_keep_what_the_task_is_about(family: Family) -> None:
    example = render(clip_for(family), family, 3, config=replace(COMPACT, attributes="one"))
    tail = example.prompt.split("]", 1)[1].strip()
    needed = {"question_answering": {"How many?"}, "attribute_prediction": {"emotion", "gender", "language"}}
    if family == "audio_text_matching":
        assert SECRET in tail
    else:
        assert tail in needed.get(family, {""})
    plain = render(clip_for(family), family, 3, config=InstructionConfig(tags=False, paraphrases=False)).prompt
    assert "[" not in plain
    assert plain


@PATIENT
@given(seed=st.integers(), clip_id=st.text(max_size=20), family=st.sampled_from(FAMILIES))
def test_prompts_are_one_tidy_line(seed: int, clip_id: str, family: Family) -> None:
    example = render(replace(clip_for(family), id=clip_id), family, seed)
    assert example.prompt == " ".join(example.prompt.split())
    assert "{" not in example.prompt
    assert (example.clip_id, example.source, example.family) == (clip_id, "made", family)


def test_choice_depends_on_seed_clip_and_family() -> None:
    def prompts(clip_id: str, family: Family, first: int = 0) -> list[int]:
        found = (render(full_clip(clip_id), family, seed).prompt for seed in range(first, first + 40))
        return [TEMPLATES[family].index(prompt.split("] ")[1]) for prompt in found]

    base = prompts("c1", "captioning")
    assert base == prompts("c1", "captioning")
    assert base != prompts("c2", "captioning")
    assert base != prompts("c1", "tagging")
    assert base != prompts("c1", "captioning", first=40)


def test_examples_are_the_same_in_another_process_and_forever() -> None:
    """Python's `hash` is salted per process; a stored expectation also catches a change of the draw itself."""
    code = (
        "from uniwhisper.instructions import render\n"
        "from uniwhisper.types import Annotation, Clip\n"
        "clip = Clip(id='c1', source='s', path='p', split='train', duration_s=1.0, domain='sound',\n"
        "            annotation=Annotation(captions=tuple('abcdefgh')))\n"
        "print([render(clip, 'captioning', seed).answer for seed in range(12)])\n"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": salt, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for salt in ("1", "2")
    }
    assert runs == {EXPECTED_DRAWS}


EXPECTED_DRAWS = "['b', 'e', 'f', 'e', 'f', 'e', 'a', 'd', 'h', 'f', 'h', 'a']"


def test_import_is_light() -> None:
    code = (
        "import sys, uniwhisper.instructions\n"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules), sorted(sys.modules)\n"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True)


def test_rendering_is_fast() -> None:
    source = full_clip()
    supported = families(source)

    def render_all() -> None:
        for family in supported:
            render(source, family, 7, negative="other")

    best_s = min(timeit.repeat(render_all, number=100, repeat=5)) / (100 * len(supported))
    assert best_s < 50e-6 * 5  # five times the goal: a loaded machine is not a failure, a slow path is


@pytest.mark.parametrize(
    "fields",
    [
        {"answer_style": "long"},
        {"attributes": "some"},
        {"pitch_style": "hertz"},
        {"tags": "no"},
        {"tags": False, "instruction": False},
    ],
)
def test_bad_configs_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        InstructionConfig(**fields)


def test_language_table() -> None:
    table = known_languages()
    assert len(table) >= 40
    assert all(code.isalpha() and code.islower() and name.strip() == name for code, name in table.items())
    assert [language_name(code) for code in ("nl", "NL", "pt-BR", "zh_CN", "mdw")] == [
        "Dutch",
        "Dutch",
        "Portuguese",
        "Chinese",
        "Mbochi",
    ]
    assert (language_name("qzx"), language_name("")) == ("qzx", "")
