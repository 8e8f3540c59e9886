"""FSD50K: which of 200 labels apply?

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/fsd50k_task.py; https://zenodo.org/records/4060432.
"""

from __future__ import annotations

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="fsd50k",
    title="FSD50k",
    source="fsd50k",
    domain="sound",
    kind="multilabel",
    metric="map",
    num_classes=200,
    chance=None,
    num_test_clips=10_231,
    weight=2000,
    has_knn=False,
    xares=XaresSettings(batch_size=64, crop_s=10.0),
    suites=("paper",),  # a recording is one clip, and the publisher's parts keep most uploaders on one side
    reference="xares v0.1.3, src/tasks/fsd50k_task.py",
    about="Any of 200 AudioSet labels a Freesound clip of 0.3 to 30 s. Publisher's parts; macro average precision.",
)
