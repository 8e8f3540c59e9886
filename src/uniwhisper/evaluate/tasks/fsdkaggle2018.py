"""FSDKaggle2018: which of 41 sounds?

The paper's Table 2 and X-ARES's README say mean average precision; X-ARES's code never sets it and reports accuracy.
Both are computed; mean average precision counts. X-ARES validates on the test part.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/fsdkaggle2018_task.py; https://zenodo.org/records/2552860.
"""

from __future__ import annotations

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="fsdkaggle2018",
    title="FSD18-Kaggle",
    source="fsdkaggle2018",
    domain="sound",
    kind="clip",
    metric="map",
    other_metrics=("accuracy",),
    num_classes=41,
    chance=1 / 41,  # of both metrics: with one label a clip, the classes' shares have this mean
    num_test_clips=1600,
    weight=1600,
    has_knn=False,
    xares=XaresSettings(batch_size=64, epochs=3),
    group_kind="recording",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/fsdkaggle2018_task.py",
    about="One of 41 AudioSet labels a Freesound clip of 0.3 to 30 s. Mean average precision; accuracy beside it.",
)
