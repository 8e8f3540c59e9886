"""VoxCeleb1: which of 1,251 celebrities speaks?

The class is the speaker, so what must be kept apart is the video: the publisher tests on videos that nobody trains on.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/voxceleb1_task.py; Nagrani et al.,
Interspeech 2017, section 4.
"""

from __future__ import annotations

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="voxceleb1",
    title="VoxCeleb1",
    source="voxceleb1",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=1251,
    chance=1 / 1251,
    num_test_clips=8251,
    weight=2000,
    knn_weight=2000,
    xares=XaresSettings(crop_s=6.0),
    group_kind="video",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/voxceleb1_task.py",
    about="Identity of the speaker, of 1,251. Publisher's identification split, which tests on other videos.",
)
