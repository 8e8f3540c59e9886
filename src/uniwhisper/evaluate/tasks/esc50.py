"""ESC-50: which of 50 environmental sounds?

Official folds under both protocols. Four recordings have takes in two folds; protocol `strict` leaves those out of
training and validation where they are tested.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/esc50_task.py; https://github.com/karolpiczak/ESC-50;
https://arxiv.org/abs/2604.10438 (Whisper-AuT).
"""

from __future__ import annotations

from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="esc50",
    title="ESC-50",
    source="esc50",
    domain="sound",
    kind="clip",
    metric="accuracy",
    num_classes=50,
    chance=1 / 50,
    num_test_clips=2000,
    weight=400,
    knn_weight=400,
    group_kind="recording",
    suites=("paper", "whisper_aut"),
    reference="xares v0.1.3, src/tasks/esc50_task.py",
    about="50 environmental sounds of 5 s from Freesound. Official five folds.",
)
