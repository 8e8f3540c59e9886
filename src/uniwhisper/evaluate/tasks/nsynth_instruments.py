"""NSynth: which of eleven families does the instrument of a note belong to?

Training shares no instrument with the other parts, but validation and test share theirs; protocol `strict` then leaves
out the validation clips of tested instruments, and sets training instruments aside to choose.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/nsynth_instument_task.py; https://magenta.tensorflow.org/datasets/nsynth.
"""

from __future__ import annotations

from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="nsynth_instruments",
    title="NSynth-Instruments",
    source="nsynth",
    domain="music",
    kind="clip",
    metric="accuracy",
    num_classes=11,
    chance=1 / 11,
    num_test_clips=4096,
    weight=2000,
    knn_weight=2000,
    group_kind="instrument",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/nsynth_instument_task.py",
    about="Eleven families of instruments, single notes of 4 s. No tested instrument is trained on.",
)
