"""JAMS files are read in both ways of writing observations, and whatever is wrong is named by its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources._jams import read_jams

SLICES = Path(__file__).parents[3] / "shared" / "metadata"
NOTE = {"time": 1.5, "duration": 0.25, "value": 64.1, "confidence": None}


def written(folder: Path, *annotations: Any, **others: Any) -> Path:
    path = folder / "x.jams"
    path.write_text(json.dumps({"annotations": list(annotations), **others}), encoding="utf-8")
    return path


def test_annotations_keep_their_order_values_and_facts(tmp_path: Path) -> None:
    chord = {"namespace": "chord", "data": [{"time": 0, "duration": 2, "value": "G:maj", "confidence": 1}]}
    midi = {"namespace": "note_midi", "data": [NOTE], "annotation_metadata": {"data_source": "4"}, "sandbox": {"a": 1}}
    jams = read_jams(written(tmp_path, chord, midi, file_metadata={"title": "t"}, sandbox={"b": 2}))
    assert [annotation.namespace for annotation in jams.annotations] == ["chord", "note_midi"]
    assert jams.metadata == {"title": "t"}
    assert jams.sandbox == {"b": 2}
    (note,) = jams.of("note_midi", "nothing")
    assert note.metadata == {"data_source": "4"}
    assert note.sandbox == {"a": 1}
    (observation,) = note.observations
    assert (observation.time_s, observation.end_s, observation.value) == (1.5, 1.75, 64.1)
    assert observation.confidence is None
    assert jams.annotations[0].observations[0].confidence == 1


def test_dense_observations_equal_sparse_ones(tmp_path: Path) -> None:
    value = {"frequency": 220.5, "voiced": True, "index": 0}
    rows = [{**NOTE, "time": second, "value": value} for second in (0.0, 0.5)]
    columns = {name: [row[name] for row in rows] for name in NOTE}
    (sparse,) = read_jams(written(tmp_path, {"namespace": "pitch_contour", "data": rows})).annotations
    (dense,) = read_jams(written(tmp_path, {"namespace": "pitch_contour", "data": columns})).annotations
    assert dense == sparse
    assert dense.observations[1].time_s == 0.5


@pytest.mark.parametrize(
    ("annotation", "expected"),
    [
        ([1], "annotation 0: expected a JSON object"),
        ({"data": [NOTE]}, "annotation 0: expected a namespace"),
        ({"namespace": "x"}, r"annotation 0 \(x\): expected a list or lists of observations as data, found None"),
        ({"namespace": "x", "data": [5]}, r"annotation 0 \(x\), observation 0: expected a JSON object, found 5"),
        ({"namespace": "x", "data": [{"time": 1}]}, "observation 0: expected time, duration .* no duration, value"),
        ({"namespace": "x", "data": [NOTE, {**NOTE, "time": -1}]}, "observation 1: time: expected a number from 0"),
        ({"namespace": "x", "data": [{**NOTE, "duration": -0.1}]}, "observation 0: duration: expected a number from 0"),
        ({"namespace": "x", "data": [{**NOTE, "confidence": "high"}]}, "confidence: expected a number"),
        ({"namespace": "x", "data": {"time": [1], "value": [1, 2]}}, "expected lists of one length in data"),
        ({"namespace": "x", "data": {"time": [1], "value": 2}}, "expected lists of one length in data"),
        ({"namespace": "x", "data": [], "sandbox": 3}, "sandbox: expected a JSON object, found 3"),
    ],
)
def test_what_is_wrong_is_named(annotation: Any, expected: str, tmp_path: Path) -> None:
    path = written(tmp_path, annotation)
    with pytest.raises(LayoutError, match=rf"x\.jams: {'' if expected.startswith('annotation') else '.*'}{expected}"):
        read_jams(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jams"
    with pytest.raises(LayoutError, match="expected the annotation file"):
        read_jams(path)
    for content, expected in (
        ("{", "expected JSON"),
        ("[]", "expected a JSON object"),
        ("{}", "a list of annotations"),
    ):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(LayoutError, match=expected):
            read_jams(path)


@pytest.mark.shared
@pytest.mark.skipif(not SLICES.is_dir(), reason="needs the real slices in ../shared/metadata")
def test_real_files() -> None:
    scaper = read_jams(SLICES / "URBAN-SED" / "bgonly_soundscape_20170928.jams")
    assert [(a.namespace, len(a.observations)) for a in scaper.annotations] == [("scaper", 1)]
    assert scaper.metadata["duration"] == 10.0
    guitar = read_jams(SLICES / "GuitarSet" / "annotation__03_BN3-119-G_solo.jams")
    assert [len(a.observations) for a in guitar.of("note_midi")] == [0, 0, 0, 0, 3, 3]
    assert [a.metadata["data_source"] for a in guitar.of("note_midi")] == ["0", "1", "2", "3", "4", "5"]
