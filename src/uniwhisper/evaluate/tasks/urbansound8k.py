"""UrbanSound8K: which of ten urban sounds?

Official folds under both protocols. Five recordings have slices in two folds; protocol `strict` leaves those out of
training and validation where they are tested.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/urbansound8k_task.py; https://zenodo.org/records/1203745.
"""

from __future__ import annotations

from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="urbansound8k",
    title="UrbanSound 8k",
    source="urbansound8k",
    domain="sound",
    kind="clip",
    metric="accuracy",
    num_classes=10,
    chance=1 / 10,
    num_test_clips=8732,
    weight=873,
    knn_weight=873,
    group_kind="recording",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/urbansound8k_task.py",
    about="Ten urban sounds of up to 4 s from Freesound. Official ten folds.",
)
