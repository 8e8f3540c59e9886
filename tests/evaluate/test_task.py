"""What a task promises, whatever it was made from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.task import Task
from uniwhisper.types import Annotation, Clip, Event


def make_task(num_clips: int = 60, kind: str = "clip") -> Task:
    def clip(i: int) -> Clip:
        said = Annotation(transcript=f"word {i}", events=(Event(label="ab"[i % 2], onset_s=0.1 * i, offset_s=9.0),))
        return Clip(
            id=f"c{i}", source="toy", path=f"/{i}.wav", split="", duration_s=1.0, domain="sound", annotation=said
        )

    labels = tuple(("abc"[i % 3],) for i in range(num_clips))
    return Task(
        name="toy",
        title="Toy",
        domain="sound",
        kind=kind,
        metric={"clip": "accuracy", "frame": "segment_f1", "asr": "iwer"}[kind],
        clips=tuple(clip(i) for i in range(num_clips)),
        labels=labels if kind == "clip" else (),
        classes=("a", "b", "c") if kind == "clip" else (),
        splits=tuple(("train", "train", "test")[i // 3 % 3] for i in range(num_clips)),
        groups=tuple(f"g{i // 2}" for i in range(num_clips)),
        group_kind="group",
        where="toy.csv",
    )


def test_counts_that_differ_are_refused():
    task = make_task()
    for wrong in ({"splits": task.splits[:-1]}, {"labels": task.labels[1:]}, {"groups": ("g",)}):
        with pytest.raises(TaskError, match=r"toy.csv: expected a split, label and group for every clip"):
            replace(task, **wrong)


def test_targets_need_labels():
    assert make_task().targets().tolist() == [i % 3 for i in range(60)]
    with pytest.raises(TaskError, match="found one of kind 'asr'"):
        make_task(kind="asr").targets()


@pytest.mark.parametrize("kind", ["clip", "frame", "asr"])
def test_the_digest_follows_what_scores_depend_on(kind):
    task = make_task(kind=kind)
    first = task.clips[0]
    changed = {
        "id": replace(first, id="other"),
        "span": replace(first, duration_s=0.5),
        "transcript": replace(first, annotation=replace(first.annotation, transcript="other")),
        "events": replace(first, annotation=replace(first.annotation, events=())),
    }
    differs = {
        name: replace(task, clips=(clip, *task.clips[1:])).digest != task.digest for name, clip in changed.items()
    }
    assert differs == {"id": True, "span": True, "transcript": kind == "asr", "events": kind == "frame"}
    assert replace(task, splits=("test", *task.splits[1:])).digest != task.digest
    assert replace(task, clips=(replace(first, path="/moved.wav"), *task.clips[1:])).digest == task.digest
    assert replace(task, title="Renamed", weight=5.0, domain="music").digest == task.digest


def test_a_limited_task_keeps_parts_and_labels():
    task = make_task()
    few = task.limited(6)
    assert Counter(few.splits) == {"train": 6, "test": 6}
    assert Counter(zip(few.splits, few.labels, strict=True)).most_common()[0][1] == 2, "two of each of three labels"
    assert few.digest == task.limited(6).digest
    assert few.digest != task.digest
    rows = [task.ids.index(id) for id in few.ids]
    assert rows == sorted(rows)
    assert few.groups == tuple(task.groups[i] for i in rows)
    assert task.limited(1000).digest == task.digest
    assert len(make_task(kind="asr").limited(3).clips) == 6
