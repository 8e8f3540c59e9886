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
words = texts.filter(str.strip)
spans = st.tuples(st.floats(0, 1e4, allow_nan=False), st.floats(0, 1e4, allow_nan=False)).map(sorted)


@given(
    annotation=st.builds(
        Annotation,
        transcript=texts,
        translations=st.dictionaries(texts, texts, max_size=2),
        captions=st.lists(words, max_size=2).map(tuple),
        labels=st.lists(words, max_size=3).map(tuple),
        label_set=texts,
        attributes=st.dictionaries(texts, texts, max_size=2),
        events=st.lists(
            st.builds(lambda label, span: Event(label=label, onset_s=span[0], offset_s=span[1]), texts, spans),
            max_size=2,
        ).map(tuple),
        notes=st.lists(
            st.builds(
                lambda pitch, span, name: Note(pitch=pitch, onset_s=span[0], offset_s=span[1], instrument=name),
                st.integers(0, 127),
                spans,
                texts,
            ),
            max_size=2,
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
        ({"annotation": {"notes": [{"pitch": "c", "onset_s": 0, "offset_s": 1}]}}, "pitch to be int, found 'c'"),
        ({"annotation": {"notes": [{"pitch": 128, "onset_s": 0, "offset_s": 1}]}}, "a whole number from 0 to 127"),
        ({"annotation": {"notes": [{"pitch": 60.5, "onset_s": 0, "offset_s": 1}]}}, "pitch to be int, found 60.5"),
        ({"annotation": {"events": [{"label": "x", "onset_s": 2, "offset_s": 1}]}}, "offset_s not before it"),
        ({"annotation": {"events": [{"label": "x", "onset_s": 0, "offset_s": 1e308}]}}, "at most 11 days"),
        ({"annotation": {"events": [{"label": "x", "onset_s": 0, "offset_s": 10**400}]}}, "hundreds of digits"),
        ({"annotation": {"labels": ["dog", " "]}}, "labels without a blank one"),
        ({"start_s": 1e7}, "start_s of at least 0 seconds and at most 11 days"),
        ({"duration_s": 10**400}, "duration_s in seconds, found a number with hundreds of digits"),
        ({"id": "a\nb"}, "id on one line"),
        ({"id": "a\ud83d"}, "surrogates not allowed"),
        ({"language": "\ud800"}, "surrogates not allowed"),
        ({"id": "x" * 2000}, "an id of at most 1024 characters"),
        ({"path": "a\x00.wav"}, "path to be a file name in UTF-8"),
        ({"num_bytes": -1}, "offset_bytes and num_bytes of at least 0"),
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


@pytest.mark.parametrize("line", [b"\xff\xfe{}", b"[" * 100_000, b"7" * 5000, b"{", b"\x00"])
def test_a_line_that_is_no_json_is_named(line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "manifest.jsonl"
    path.write_bytes(json.dumps(clip_to_json(clip())).encode() + b"\n" + line + b"\n")
    with pytest.raises(ManifestError, match=r"manifest\.jsonl:2"):
        read_manifest(path)


def test_text_that_no_file_can_hold_is_not_written(tmp_path: Path) -> None:
    broken = clip(id="b", annotation=Annotation(captions=("half \ud83d of it",)))
    with pytest.raises(ManifestError, match=r"row 2, found half of a surrogate pair, .*half \\ud83d of"):
        write_manifest(tmp_path / "manifest.jsonl", [clip(), broken])
    assert list(tmp_path.iterdir()) == []


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
