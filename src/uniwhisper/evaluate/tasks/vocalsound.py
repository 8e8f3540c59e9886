"""VocalSound: which of six human sounds that are not speech?

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/vocalsound_task.py; the paper counts it as speech.
"""

from __future__ import annotations

from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="vocalsound",
    title="VocalSound",
    source="vocalsound",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=6,
    chance=1 / 6,
    num_test_clips=3594,
    weight=2000,
    knn_weight=2000,
    group_kind="speaker",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/vocalsound_task.py",
    about="Laughter, sigh, cough, throat clearing, sneeze or sniff. Publisher's parts, which share no speaker.",
)
