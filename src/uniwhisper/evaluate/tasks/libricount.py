"""LibriCount: how many people speak at once, 0 to 10?

X-ARES's tars state folds; the publisher has a single part, which is dealt into five. All mixtures are drawn from the
same 40 readers of LibriSpeech test-clean, so no split can keep readers apart.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/libricount_task.py; https://zenodo.org/records/1216072.
"""

from __future__ import annotations

from collections.abc import Sequence

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._resplit import deal_folds
from uniwhisper.evaluate.tasks._spec import Parts, TaskSpec
from uniwhisper.types import Clip

__all__ = ["SPEC"]


def _five_folds(clips: Sequence[Clip]) -> Parts:
    if {clip.split for clip in clips} != {"test"}:
        return Parts(splits=tuple(clip.split for clip in clips))
    note = "five seeded folds, stratified by count: the publisher has one part, X-ARES's folds are only in its tars"
    return Parts(splits=deal_folds(clips, 5), note=note)


SPEC = TaskSpec(
    name="libricount",
    title="LibriCount",
    source="libricount",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=11,
    chance=1 / 11,
    num_test_clips=5720,
    weight=1144,
    knn_weight=1144,
    xares=XaresSettings(batch_size=64),
    strict_split=_five_folds,
    xares_split=_five_folds,
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/libricount_task.py",
    about="Number of simultaneous speakers, 0 to 10, in 5 s. Five folds; their readers are the same.",
)
