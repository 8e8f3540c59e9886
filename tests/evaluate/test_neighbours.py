from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from uniwhisper.clips import read_clip
from uniwhisper.errors import ReportError
from uniwhisper.evaluate.neighbours import FILE_NAME, Errors, Recording, read_errors, sample_errors, write_errors
from uniwhisper.evaluate.task import Task
from uniwhisper.types import Annotation, Clip

CLASSES = ("bird", "cat", "dog")


def make_task(labels: list[tuple[str, ...]], *, kind: str = "clip") -> Task:
    clips = tuple(
        Clip(
            id=f"yard/{i}",
            source="yard",
            path="/corpus/yard.tar",
            split="test",
            duration_s=1.5,
            domain="sound",
            annotation=Annotation(labels=each),
            start_s=0.5 * i,
            offset_bytes=512 * i,
            num_bytes=400,
        )
        for i, each in enumerate(labels)
    )
    return Task(
        name="yard",
        title="Yard",
        domain="sound",
        kind="multilabel" if kind == "multilabel" else "clip",
        metric="accuracy",
        clips=clips,
        labels=tuple(labels),
        classes=CLASSES,
        splits=("test",) * len(clips),
        where="yard.csv",
    )


def sample(task: Task, guesses: list[int], *, limit: int = 40) -> Errors:
    rows = np.arange(len(guesses))
    truth = task.targets()[rows]
    near = np.tile(np.arange(len(task.clips))[-4:], (len(rows), 1))
    similarities = np.tile([0.2, 0.9, 0.5, 0.7], (len(rows), 1))
    return sample_errors(task, rows, truth, np.array(guesses), near, similarities, limit=limit)


def test_only_wrong_clips_are_kept_with_their_three_nearest_in_order() -> None:
    task = make_task([("bird",), ("cat",), ("dog",), ("dog",), ("cat",), ("bird",)])
    errors = sample(task, [0, 2, 1, 2])
    assert (errors.num_clips, errors.num_wrong) == (4, 2)
    assert {(one.id, one.labels, one.guess) for one in errors.errors} == {
        ("yard/1", ("cat",), "dog"),
        ("yard/2", ("dog",), "cat"),
    }
    for one in errors.errors:
        assert [(near.id, near.similarity) for near in one.neighbours] == [
            ("yard/3", 0.9),
            ("yard/5", 0.7),
            ("yard/4", 0.5),
        ]
    cat = next(one for one in errors.errors if one.id == "yard/1")
    assert cat.recording == Recording(
        path="/corpus/yard.tar", start_s=0.5, duration_s=1.5, offset_bytes=512, num_bytes=400
    )
    assert cat.neighbours[0].labels == ("dog",)


def test_the_choice_is_spread_over_classes_and_does_not_depend_on_the_other_errors() -> None:
    labels = [("bird",)] * 20 + [("cat",)] * 3 + [("dog",)] * 2
    task = make_task(labels)
    all_wrong = [1] * 20 + [0] * 5
    few = sample(task, all_wrong, limit=6)
    assert few.num_wrong == 25
    assert sorted(one.labels[0] for one in few.errors) == ["bird", "bird", "cat", "cat", "dog", "dog"]
    first = next(one.id for one in few.errors if one.labels == ("bird",))
    # whatever else another encoder gets right, the same bird comes first
    for num_right in range(20):
        better = [0] * num_right + [1] * (20 - num_right) + [1] * 3 + [2] * 2
        better[int(first.partition("/")[2])] = 2
        assert sample(task, better, limit=6).errors[0].id == first
    assert sample(task, all_wrong, limit=6) == few


def test_with_several_labels_the_winner_must_be_one_of_them() -> None:
    task = make_task([("bird", "cat"), ("cat", "dog"), ("dog",)], kind="multilabel")
    votes = np.array([[0.1, 0.8, 0.1], [0.9, 0.1, 0.0], [0.1, 0.2, 0.7]])
    near, similar = np.array([[1], [2], [0]]), np.ones((3, 1))
    errors = sample_errors(task, np.arange(3), task.targets(), votes, near, similar)
    assert [(one.labels, one.guess, len(one.neighbours)) for one in errors.errors] == [(("cat", "dog"), "bird", 1)]


def test_arrays_of_different_lengths_are_refused() -> None:
    task = make_task([("bird",), ("cat",)])
    with pytest.raises(ReportError, match=r"yard.csv.*each test clip"):
        sample_errors(task, np.arange(2), np.zeros(2), np.zeros(1), np.zeros((2, 1)), np.zeros((2, 1)))


def test_what_is_written_is_read_back_and_nothing_removes_the_file(tmp_path: Path) -> None:
    task = make_task([("bird",), ("cat",), ("dog",), ("dog",)])
    kept = [sample(task, [1, 0, 0]), sample(task, [0, 1, 2])]
    write_errors(tmp_path, kept)
    assert read_errors(tmp_path) == tuple(kept)
    first = (tmp_path / FILE_NAME).read_bytes()
    write_errors(tmp_path, kept)
    assert (tmp_path / FILE_NAME).read_bytes() == first
    write_errors(tmp_path, [])
    assert read_errors(tmp_path) == ()
    assert not (tmp_path / FILE_NAME).exists()


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"task": "a"}', '{"task": "a", "num_clips": 1, "num_wrong": 1, "errors": [1]}']
)
def test_a_damaged_file_is_a_report_error(tmp_path: Path, line: str) -> None:
    (tmp_path / FILE_NAME).write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ReportError, match="errors a line"):
        read_errors(tmp_path)


def test_a_recording_is_read_as_the_clip_was(tmp_path: Path) -> None:
    import soundfile

    wave = np.sin(np.arange(32_000) / 20).astype(np.float32) * 0.5
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    part = Recording(path=str(tmp_path / "a.wav"), start_s=0.5, duration_s=0.25)
    np.testing.assert_allclose(read_clip(part.clip()), wave[8000:12_000], atol=1e-6)
    assert len(read_clip(Recording(path=str(tmp_path / "a.wav")).clip())) == 32_000
