"""Frames and segments: labels by centre, seconds of a grid, X-ARES's rounding, and macro F1 as scikit-learn has it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.metrics import f1_score

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.probes.segments import (
    class_index,
    count_frames,
    frame_labels,
    pool_max,
    segment_f1,
    segment_spans,
    segment_truth,
    xares_frame_labels,
    xares_spans,
)
from uniwhisper.evaluate.task import Task
from uniwhisper.types import Annotation, Clip, Event

INDEX = {"a": 0, "b": 1}


def event(label: str, onset_s: float, offset_s: float) -> Event:
    return Event(label=label, onset_s=onset_s, offset_s=offset_s)


def test_a_frame_has_the_events_that_its_centre_lies_in() -> None:
    # centres at 0.25, 0.75, 1.25, 1.75 s
    labels = frame_labels([event("a", 0.25, 0.75), event("b", 0.26, 1.76)], INDEX, 4, 0.5)
    assert labels.T.tolist() == [[1, 0, 0, 0], [0, 1, 1, 1]]


@pytest.mark.parametrize(("duration_s", "expected"), [(2.0, 4), (1.75, 3), (1.76, 4), (9.0, 4), (0.1, 1)])
def test_frames_past_the_clips_end_do_not_exist(duration_s: float, expected: int) -> None:
    assert count_frames(4, 0.5, duration_s) == expected
    assert count_frames(0, 0.5, duration_s) == 0


def test_a_segment_is_true_where_an_event_sounds_in_it() -> None:
    truth = segment_truth([event("a", 0.999, 2.0), event("b", 2.4, 9.0), event("b", 0.5, 0.5)], INDEX, 2.4)
    assert truth.T.tolist() == [[1, 1, 0], [0, 0, 0]]  # b begins where the clip ends; an empty event is none
    assert segment_truth([], INDEX, 2.0).shape == (2, 2)
    assert segment_truth([], INDEX, 2.0004).shape == (2, 2)
    assert segment_truth([], INDEX, 2.002).shape == (3, 2)
    assert segment_truth([], INDEX, 0.0004).shape == (1, 2)


def test_segments_take_the_frames_of_their_second_and_the_last_one_is_partial() -> None:
    assert segment_spans(6, 0.4, 2.4).tolist() == [[0, 2], [2, 5], [5, 6]]  # centres 0.2, 0.6, 1.0, 1.4, 1.8, 2.2
    assert segment_spans(3, 0.4, 2.4).tolist() == [[0, 2], [2, 3], [2, 3]]  # too few frames: the nearest speaks
    assert segment_spans(2, 0.96, 2.1).tolist() == [[0, 1], [1, 2], [1, 2]]
    assert segment_spans(1, 3.0, 2.0).tolist() == [[0, 1], [0, 1]]  # the first second has no frame before it


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 80), st.floats(0.02, 1.5), st.floats(0.05, 12))
def test_every_segment_has_a_frame_and_every_frame_of_the_clip_a_segment(
    num_frames: int, hop_s: float, duration_s: float
) -> None:
    num_frames = count_frames(num_frames, hop_s, duration_s)
    spans = segment_spans(num_frames, hop_s, duration_s)
    assert len(spans) == len(segment_truth([], INDEX, duration_s))
    assert (spans[:, 0] < spans[:, 1]).all()
    assert spans.min() >= 0
    assert spans.max() == num_frames
    covered = np.zeros(num_frames, dtype=bool)
    for first, end in spans:
        covered[first:end] = True
        centres = (np.arange(first, end) + 0.5) * hop_s
        assert end - first == 1 or math.floor(centres[0]) == math.floor(min(centres[-1], duration_s - 1e-3))
    assert covered.all()


@settings(max_examples=40, deadline=None)
@given(arrays(np.float32, (30, 2), elements=st.floats(-9, 9, width=32)), st.integers(1, 30), st.sampled_from([40, 333]))
def test_pooling_equals_the_largest_of_every_span(values: np.ndarray, num_frames: int, hop_ms: int) -> None:
    values = values[:num_frames]
    spans = segment_spans(num_frames, hop_ms / 1000, num_frames * hop_ms / 1000)
    expected = [values[first:end].max(axis=0) for first, end in spans]
    np.testing.assert_array_equal(pool_max(values, spans), np.stack(expected))
    sevens = np.stack([np.arange(num_frames // 7) * 7, np.arange(num_frames // 7) * 7 + 7], axis=1)
    if len(sevens):
        theirs = torch.nn.functional.max_pool1d(torch.from_numpy(values.T.copy())[None], 7)[0].T.numpy()
        np.testing.assert_array_equal(pool_max(values, sevens), theirs)


def test_the_rounding_of_xares() -> None:
    labels = xares_frame_labels([event("a", 0.041, 0.12), event("b", 0.0, 9.0)], INDEX, 5, 40.0)
    assert labels.T.tolist() == [[0, 0, 1, 0, 0], [1, 1, 1, 1, 1]]
    assert xares_spans(60, 40.0).tolist() == [[0, 25], [25, 50]]  # the rest of ten frames is cut off
    assert xares_spans(100, 20.0).tolist() == [[0, 50], [50, 100]]
    assert xares_spans(10, 333.0).tolist() == [[0, 4], [4, 8]]
    assert xares_spans(3, 333.0).shape == (0, 2)
    assert pool_max(np.ones((3, 2)), xares_spans(3, 333.0)).shape == (0, 2)


def test_macro_f1_counts_an_absent_class_as_zero() -> None:
    truth = np.array([[1, 1, 0], [1, 0, 0]], dtype=np.uint8)
    predicted = np.array([[1, 0, 0], [1, 0, 0]], dtype=np.uint8)
    assert segment_f1(truth, predicted) == pytest.approx(1 / 3)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 12).flatmap(
        lambda n: st.tuples(*[arrays(np.uint8, (n, 4), elements=st.integers(0, 1)) for _ in range(2)])
    )
)
def test_macro_f1_equals_scikit_learn(pair: tuple[np.ndarray, np.ndarray]) -> None:
    truth, predicted = pair
    expected = f1_score(truth, predicted, average="macro", zero_division=0)
    assert segment_f1(truth, predicted) == pytest.approx(expected, abs=1e-12)


def frame_task(kind: str = "frame", label: str = "a") -> Task:
    annotation = Annotation(events=(event(label, 0.0, 1.0),))
    clip = Clip(id="x", source="", path="x", split="train", duration_s=2, domain="sound", annotation=annotation)
    return Task(
        name="t",
        title="t",
        domain="sound",
        kind=kind,  # type: ignore[arg-type]
        metric="segment_f1",
        clips=(clip,),
        classes=("a", "b"),
        splits=("train",),
        where="t.csv",
    )


def test_unknown_classes_and_other_kinds_are_refused() -> None:
    assert class_index(frame_task()) == INDEX
    with pytest.raises(TaskError, match=r"t\.csv: x: expected events of the classes a, b; found 'c'"):
        class_index(frame_task(label="c"))
    with pytest.raises(TaskError, match="expected a frame task"):
        class_index(frame_task(kind="asr"))
