"""Speech Commands v0.01: which of 30 words is said?

Whisper-AuT's linear probe counts Speech Commands too; which version it uses is not published.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/speechcommandsv1_task.py (its README says version 2, its
code reads version 1); https://arxiv.org/abs/2604.10438 (Whisper-AuT).
"""

from __future__ import annotations

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="speech_commands_v1",
    title="Speech Commands V1",
    source="speech_commands_v1",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=30,
    chance=1 / 30,
    num_test_clips=6835,
    weight=2000,
    knn_weight=2000,
    xares=XaresSettings(batch_size=64),
    group_kind="speaker",
    suites=("paper", "whisper_aut"),
    reference="xares v0.1.3, src/tasks/speechcommandsv1_task.py",
    about="30 spoken words of a second. Publisher's lists, which hold whole speakers.",
)
