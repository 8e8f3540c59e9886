"""Classes over time: which frames of a clip hold an event, and how frames become segments of one second.

Two sets of rules. `strict`: a frame holds an event when its centre lies within it, frames whose centre is past the
clip's end do not exist, and segments are seconds of a fixed grid, the last one cut at the clip's end; a segment is true
where an event sounds in it, whatever the encoder's frames are, so that encoders are measured against one truth.
`xares`: labels, segments and what is cut are X-ARES's, in frames.

Shape letters: T frames, M segments, C classes.

Source of `xares`: https://github.com/jimbozhang/xares (v0.1.3: src/tasks/desed_task.py `label_transform`,
src/xares/metrics.py `SegmentF1Metric`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.metrics import f1_of_counts
from uniwhisper.evaluate.task import Task
from uniwhisper.types import Event

__all__ = [
    "class_index",
    "count_frames",
    "frame_labels",
    "pool_max",
    "segment_counts",
    "segment_f1",
    "segment_spans",
    "segment_truth",
    "xares_frame_labels",
    "xares_spans",
]

SEGMENT_S = 1.0
TOLERANCE_S = 1e-3
"""A clip that is longer than whole seconds by less than this has no further segment; times are written this finely."""


def class_index(task: Task) -> dict[str, int]:
    """Return the index of every class of a frame task.

    Raises:
        TaskError: The task is of another kind, has no classes, or an event's label is none of them.
    """
    if task.kind != "frame" or not task.classes:
        raise TaskError(f"{task.where}: expected a frame task with classes, found kind {task.kind!r}")
    index = {label: i for i, label in enumerate(task.classes)}
    for clip in task.clips:
        for event in clip.annotation.events:
            if event.label not in index:
                raise TaskError(
                    f"{task.where}: {clip.id}: expected events of the classes {', '.join(task.classes)}; "
                    f"found {event.label!r}"
                )
    return index


def count_frames(num_frames: int, hop_s: float, duration_s: float) -> int:
    """Return how many of the frames have their centre before the clip's end; at least one, if there is one."""
    centres = (np.arange(num_frames) + 0.5) * hop_s
    return max(min(1, num_frames), int(np.count_nonzero(centres < duration_s)))


def frame_labels(events: Sequence[Event], index: Mapping[str, int], num_frames: int, hop_s: float) -> np.ndarray:
    """Return 0/1, uint8 [T, C]: whether a frame's centre lies in [onset, offset) of an event of the class."""
    labels = np.zeros((num_frames, len(index)), dtype=np.uint8)
    centres = (np.arange(num_frames) + 0.5) * hop_s
    for event in events:
        labels[(centres >= event.onset_s) & (centres < event.offset_s), index[event.label]] = 1
    return labels


def count_segments(duration_s: float) -> int:
    """Return the segments of a clip: its seconds, the last partial one included."""
    return max(1, math.ceil((duration_s - TOLERANCE_S) / SEGMENT_S))


def segment_truth(events: Sequence[Event], index: Mapping[str, int], duration_s: float) -> np.ndarray:
    """Return 0/1, uint8 [M, C]: whether an event of the class sounds during the segment, up to the clip's end."""
    num_segments = count_segments(duration_s)
    truth = np.zeros((num_segments, len(index)), dtype=np.uint8)
    starts = np.arange(num_segments) * SEGMENT_S
    ends = np.append(starts[1:], duration_s)
    for event in events:
        truth[(np.minimum(ends, event.offset_s) > np.maximum(starts, event.onset_s)), index[event.label]] = 1
    return truth


def segment_spans(num_frames: int, hop_s: float, duration_s: float) -> np.ndarray:
    """Return the first frame and the one past the last of every segment, int64 [M, 2], by the frames' centres.

    A segment without a frame of its own (shorter than a hop, or the encoder gave too few) is spoken for by the nearest.
    """
    centres = (np.arange(num_frames) + 0.5) * hop_s
    starts = np.arange(count_segments(duration_s)) * SEGMENT_S
    ends = np.append(starts[1:], np.inf)
    spans = np.stack([np.searchsorted(centres, starts), np.searchsorted(centres, ends)], axis=1)
    empty = spans[:, 0] >= spans[:, 1]
    spans[empty, 0] = np.clip(spans[empty, 0], 1, num_frames) - 1
    spans[empty, 1] = spans[empty, 0] + 1
    return spans


def xares_frame_labels(events: Sequence[Event], index: Mapping[str, int], num_frames: int, hop_ms: float) -> np.ndarray:
    """Return 0/1, uint8 [T, C]: X-ARES rounds onset and offset up to frames."""
    labels = np.zeros((num_frames, len(index)), dtype=np.uint8)
    hop_s = hop_ms / 1000
    for event in events:
        labels[math.ceil(event.onset_s / hop_s) : math.ceil(event.offset_s / hop_s), index[event.label]] = 1
    return labels


def xares_spans(num_frames: int, hop_ms: float) -> np.ndarray:
    """Return every segment's frames, int64 [M, 2]: as many as make up a second, rounded up; a rest is cut off."""
    per_segment = math.ceil(SEGMENT_S / (hop_ms / 1000.0))
    starts = np.arange(num_frames // per_segment) * per_segment
    return np.stack([starts, starts + per_segment], axis=1)


def pool_max(values: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """Return the largest value of every span of rows, [M, ...], of `values` [T, ...]."""
    if not len(spans):
        return np.zeros((0, *values.shape[1:]), dtype=values.dtype)
    padded = np.concatenate([values, values[-1:]])  # a span may end one past the last row
    return np.maximum.reduceat(padded, spans.ravel(), axis=0)[::2]


def segment_counts(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """Return true positives, false positives and misses of every class, int64 [C, 3], of 0/1 matrices [M, C]."""
    truth, predicted = truth.astype(bool), predicted.astype(bool)
    return np.stack(
        [(truth & predicted).sum(axis=0), (~truth & predicted).sum(axis=0), (truth & ~predicted).sum(axis=0)], axis=1
    )


def segment_f1(truth: np.ndarray, predicted: np.ndarray) -> float:
    """Return macro F1 over all classes of 0/1 matrices [M, C]; a class that is neither there nor predicted counts 0."""
    return float(f1_of_counts(segment_counts(truth, predicted)))
