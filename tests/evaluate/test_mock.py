"""The mock tasks are of every kind, the same every time, and made in no time."""

from __future__ import annotations

import time

import numpy as np
import pytest

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.clips import read_clip
from uniwhisper.evaluate.mock import MOCK_SOURCE, mock_tasks
from uniwhisper.evaluate.splits import make_plan
from uniwhisper.evaluate.task import KINDS, METRICS, PROTOCOLS
from uniwhisper.evaluate.tasks import list_tasks
from uniwhisper.sources import list_sources

MAX_CPU_S = 2.0


def by_name(folder, protocol="strict"):
    return {task.name: task for task in mock_tasks(folder, protocol=protocol)}


def test_every_kind_metric_and_shape_of_split_is_there(tmp_path):
    tasks = by_name(tmp_path)
    assert {task.kind for task in tasks.values()} == set(KINDS)
    assert {task.metric for task in tasks.values()} | {"accuracy"} == set(METRICS)
    assert {task.domain for task in tasks.values()} == {"speech", "music", "sound"}
    schemes = {make_plan(task).scheme for task in tasks.values()}
    assert schemes == {"3-fold", "train/test", "train/valid/test"}
    assert any(task.groups for task in tasks.values())
    assert any(task.has_knn for task in tasks.values())
    assert any(task.other_metrics for task in tasks.values())
    assert all(task.weight for task in tasks.values())
    assert not set(tasks) & set(list_tasks())
    assert MOCK_SOURCE not in list_sources()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_fold_trains_on_every_class(tmp_path, protocol):
    for task in mock_tasks(tmp_path, protocol=protocol):
        plan = make_plan(task, protocol=protocol)
        assert not any("never trained on" in note for note in plan.notes)
        for fold in plan.folds:
            taught = {label for i in fold.train for label in (task.labels[i] if task.labels else ())}
            assert taught == (set(task.classes) if task.labels else set())
            if task.kind == "frame":
                for part in (fold.train, fold.valid, fold.test):
                    assert {e.label for i in part for e in task.clips[i].annotation.events} == set(task.classes)


def test_clips_hold_what_they_say(tmp_path):
    tasks = by_name(tmp_path)
    clips = tasks["mock_events"].clips
    for clip in clips:
        wave = read_clip(clip)
        assert len(wave) == round(clip.duration_s * SAMPLE_RATE)
        assert 0.01 < np.abs(wave).max() < 1
        assert len(clip.annotation.transcript.split()) == 2
        for event in clip.annotation.events:
            part = wave[round(event.onset_s * SAMPLE_RATE) : round(event.offset_s * SAMPLE_RATE)]
            peak_hz = np.abs(np.fft.rfft(part)).argmax() * SAMPLE_RATE / len(part)
            assert abs(np.log2(peak_hz / {"low": 220, "middle": 660, "high": 1980}[event.label])) < 0.2
    assert any(not clip.annotation.events for clip in clips)
    assert {path.suffix for path in tmp_path.iterdir()} == {".wav", ".flac"}


def test_answers_are_what_is_heard(tmp_path):
    tasks = by_name(tmp_path)
    words = [clip.annotation.transcript.lower().split() for clip in tasks["mock_words"].clips]
    for name in ("mock_folds", "mock_parts"):
        assert [labels[0] for labels in tasks[name].labels] == [first for first, _ in words]
    assert [set(labels) for labels in tasks["mock_tags"].labels] == [set(both) for both in words]
    events = [{event.label for event in clip.annotation.events} for clip in tasks["mock_events"].clips]
    assert events == [set(both) - {"noise"} for both in words]


def test_some_clips_are_shorter_than_the_crop_and_the_others_are_cut(tmp_path):
    whole, cut = by_name(tmp_path)["mock_parts"], by_name(tmp_path, "xares")["mock_parts"]
    assert {round(clip.duration_s, 3) for clip in whole.clips} == {0.3, 0.7, 1.1, 1.9, 3.0}
    assert {round(clip.duration_s, 3) for clip in cut.clips} == {0.3, 0.7, 1.0}
    assert all(len(read_clip(clip)) == round(clip.duration_s * SAMPLE_RATE) for clip in cut.clips)


def test_the_same_every_time_and_quickly(tmp_path):
    begun = time.process_time()
    first = mock_tasks(tmp_path / "a")
    assert time.process_time() - begun < MAX_CPU_S
    again = mock_tasks(tmp_path / "b")
    assert [task.digest for task in first] == [task.digest for task in again]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
