"""DESED: which of ten domestic sounds is heard when, in segments of a second?

Clips without an event stay: a detector must be silent there. Clips of which only the labels are known, without times,
cannot teach frames. X-ARES validates on the test part; protocol `strict` takes the publisher's validation part, or
sets part of the training clips aside.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/desed_task.py; https://github.com/turpaultn/DESED.
"""

from __future__ import annotations

from uniwhisper.evaluate.tasks._resplit import without_valid
from uniwhisper.evaluate.tasks._spec import TaskSpec
from uniwhisper.types import Clip

__all__ = ["SPEC"]


def _has_times(clip: Clip) -> bool:
    return bool(clip.annotation.events) or not clip.annotation.labels


SPEC = TaskSpec(
    name="desed",
    title="DESED",
    source="desed",
    domain="sound",
    kind="frame",
    metric="segment_f1",
    num_classes=10,
    chance=0.0,
    weight=1153,
    has_knn=False,
    keep=_has_times,
    keeps="clips whose events have times, and silent ones",
    group_kind="video",
    xares_split=without_valid,
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/desed_task.py",
    about="Domestic sound events of ten classes over time, in clips of 10 s; macro F1 of segments of a second. "
    "X-ARES's test tars and the publisher's public evaluation set are not the same clips.",
)
