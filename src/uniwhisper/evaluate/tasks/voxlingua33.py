"""VoxLingua33: which of 33 languages is spoken?

The verified development set of VoxLingua107 is tested. X-ARES validates on it too; protocol `strict` sets part of the
training videos aside instead. X-ARES trains on a subset that only its tars hold.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/voxlingua33_task.py; Valk & Alumaee, SLT 2021.
"""

from __future__ import annotations

from collections.abc import Sequence

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._resplit import in_tars
from uniwhisper.evaluate.tasks._spec import Parts, TaskSpec
from uniwhisper.types import Clip

__all__ = ["SPEC"]


def _stated(clips: Sequence[Clip]) -> Parts:
    note = "" if in_tars(clips) else "all training clips of the publisher: X-ARES's subset is only in its tars"
    return Parts(splits=tuple(clip.split for clip in clips), note=note)


SPEC = TaskSpec(
    name="voxlingua33",
    title="VoxLingua33",
    source="voxlingua33",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=33,
    chance=1 / 33,
    num_test_clips=1609,
    weight=1609,
    knn_weight=1609,
    xares=XaresSettings(batch_size=64, crop_s=10.0),
    group_kind="video",
    xares_split=_stated,
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/voxlingua33_task.py",
    about="Language of a segment of a video, of 33 (Norwegian and Nynorsk are two). No video is on both sides.",
)
