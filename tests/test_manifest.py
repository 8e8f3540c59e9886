from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniwhisper.errors import ManifestError
from uniwhisper.manifest import clip_from_json, clip_to_json, read_manifest, statistics, write_manifest
from uniwhisper.types import Annotation, Clip, Event, Note, Question


def clip(**changes: Any) -> Clip:
    fields: dict[str, Any] = {
        "id": "a",
        "source": "toy",
        "path": "/audio/a.wav",
        "split": "train",
        "duration_s": 1.5,
        "domain": "speech",
        "annotation": Annotation(transcript="hi"),
    }
    return Clip(**{**fields, **changes})


FULL = Annotation(
    transcript="Gr\u00fc\u00df dich",
    translations={"en": "hello"},
    captions=("a voice", "someone talks"),
    labels=("greeting",),
    label_set="toy",
    attributes={"gender": "female"},
    events=(Event(label="click", onset_s=0.0, offset_s=0.25),),
    notes=(Note(pitch=60, onset_s=0.0, offset_s=1.0, instrument="piano"),),
    questions=(Question(question="Who?", answer="Anna."),),
)


def test_everything_survives_the_file(tmp_path: Path) -> None:
    clips = [
        clip(
            annotation=FULL, language="de", speaker="anna", group="g", license="CC0-1.0", upstream_ids=("freesound:7",)
        )
    ]
    assert write_manifest(tmp_path / "manifest.jsonl", clips) == 1
    assert read_manifest(tmp_path / "manifest.jsonl") == clips


texts = st.text(max_size=12)
times = st.floats(0, 1e4, allow_nan=False)


@given(
    annotation=st.builds(
        Annotation,
        transcript=texts,
        translations=st.dictionaries(texts, texts, max_size=2),
        captions=st.lists(texts, max_size=2).map(tuple),
        labels=st.lists(texts, max_size=3).map(tuple),
        label_set=texts,
        attributes=st.dictionaries(texts, texts, max_size=2),
        events=st.lists(st.builds(Event, label=texts, onset_s=times, offset_s=times), max_size=2).map(tuple),
        notes=st.lists(
            st.builds(Note, pitch=st.integers(0, 127), onset_s=times, offset_s=times, instrument=texts), max_size=2
        ).map(tuple),
        questions=st.lists(st.builds(Question, question=texts, answer=texts), max_size=2).map(tuple),
    ),
    duration_s=st.floats(1e-3, 1e5, allow_nan=False),
)
def test_json_round_trip(annotation: Annotation, duration_s: float) -> None:
    before = clip(annotation=annotation, duration_s=duration_s)
    assert clip_from_json(json.loads(json.dumps(clip_to_json(before))), "here") == before


def test_empty_fields_are_left_out() -> None:
    assert clip_to_json(clip()) == {
        "id": "a",
        "source": "toy",
        "path": "/audio/a.wav",
        "split": "train",
        "duration_s": 1.5,
        "domain": "speech",
        "annotation": {"transcript": "hi"},
    }


def test_audio_below_the_folder_moves_with_it(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    write_manifest(old / "manifest.jsonl", [clip(path=str(old / "audio/a.flac")), clip(id="b", path="/far/b.wav")])
    assert '"path": "audio/a.flac"' in (old / "manifest.jsonl").read_text(encoding="utf-8")
    old.rename(new)
    assert [c.path for c in read_manifest(new / "manifest.jsonl")] == [str(new / "audio/a.flac"), "/far/b.wav"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"id": ""}, "a non-empty id"),
        ({"domain": "noise"}, "domain to be one of speech, sound, music"),
        ({"duration_s": 0.0}, "a positive duration_s"),
        ({"duration_s": float("nan")}, "a positive duration_s"),
        ({"duration_s": float("inf")}, "a positive duration_s"),
        ({"split": "dev"}, "split to be train, valid, test or foldN"),
    ],
)
def test_an_invalid_clip_is_not_written(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=expected):
        write_manifest(tmp_path / "manifest.jsonl", [dataclasses.replace(clip(), **change)])
    assert list(tmp_path.iterdir()) == []


def test_ids_are_unique_within_a_source(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    assert write_manifest(path, [clip(), clip(source="other")]) == 2
    with pytest.raises(ManifestError, match=r"'a' for both /audio/a\.wav and /audio/b\.wav"):
        write_manifest(path, [clip(), clip(path="/audio/b.wav")])
    with pytest.raises(ManifestError, match="unique"):
        write_manifest(path, [clip(), clip()])
    same = clip()
    with pytest.raises(ManifestError, match="unique"):
        write_manifest(path, [same, same])


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"duration_s": "1.5"}, "duration_s to be a number"),
        ({"duration_s": True}, "duration_s to be a number"),
        ({"speaker": 7}, "speaker to be str"),
        ({"lang": "de"}, "found also lang"),
        ({"annotation": "hi"}, "annotation to be an object"),
        ({"annotation": {"text": "hi"}}, "found also text"),
        ({"annotation": {"labels": "dog"}}, "labels to be list"),
        ({"annotation": {"labels": [1]}}, "each of labels to be str"),
        ({"annotation": {"attributes": {"a": 1}}}, "each of attributes to be str"),
        ({"annotation": {"events": [{"label": "x", "onset_s": 0}]}}, "a complete event"),
        ({"annotation": {"notes": [{"pitch": "c", "onset_s": 0, "offset_s": 1}]}}, "pitch to be a number"),
    ],
)
def test_a_bad_line_is_named(change: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    good = clip_to_json(clip())
    bad = {**clip_to_json(clip(id="b")), **change}
    path.write_text(f"{json.dumps(good)}\n{json.dumps(bad)}\n", encoding="utf-8")
    with pytest.raises(ManifestError, match=expected) as error:
        read_manifest(path)
    assert f"{path}:2" in str(error.value)


def test_a_missing_field_is_named(tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_text('{"id": "a"}\n', encoding="utf-8")
    with pytest.raises(ManifestError, match=r":1: expected a clip with source, path"):
        read_manifest(path)
    path.write_text("[]\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="a clip object"):
        read_manifest(path)


def test_statistics_count_every_part() -> None:
    clips = [
        clip(duration_s=1800.0, language="de", speaker="x", annotation=Annotation(labels=("dog", "cat"))),
        clip(id="b", duration_s=5400.0, language="de", speaker="x", split="test"),
        clip(id="a", source="other", duration_s=3600.0, domain="music", annotation=Annotation(labels=("dog",))),
    ]
    found = statistics(clips)
    assert (found.num_clips, found.hours, found.num_speakers) == (3, 3.0, 1)
    assert {name: (tally.num_clips, tally.hours) for name, tally in found.sources.items()} == {
        "other": (1, 1.0),
        "toy": (2, 2.0),
    }
    assert found.domains["music"].num_clips == 1
    assert found.splits["test"].hours == 1.5
    assert list(found.languages) == ["de"]
    assert found.labels == {"cat": 1, "dog": 2}


def test_statistics_of_nothing() -> None:
    assert statistics([]).hours == 0
