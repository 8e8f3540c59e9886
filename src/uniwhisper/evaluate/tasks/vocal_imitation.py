"""Vocal Imitation Set: which of 302 sounds does a voice imitate?

X-ARES takes HEAR's three folds, in which participants are on both sides. Protocol `strict` deals three folds of whole
participants, where the corpus's tables name them; X-ARES's tars alone do not. HEAR scores it by average precision,
X-ARES and the paper by accuracy; both are computed.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/vocalimitations_task.py;
https://github.com/hearbenchmark/hear-preprocess (hearpreprocess/vocal_imitation.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._resplit import deal_groups
from uniwhisper.evaluate.tasks._spec import Parts, TaskSpec, speaker_of
from uniwhisper.types import Clip

__all__ = ["SPEC"]


def _by_participant(clips: Sequence[Clip]) -> Parts:
    if not all(clip.speaker for clip in clips):
        return Parts(splits=tuple(clip.split for clip in clips))
    note = "three folds of whole participants, instead of HEAR's and X-ARES's, which share participants"
    return Parts(splits=deal_groups(clips, [clip.speaker for clip in clips], 3), note=note)


SPEC = TaskSpec(
    name="vocal_imitation",
    title="Vocal Imitation",
    source="vocal_imitation",
    domain="sound",
    kind="clip",
    metric="accuracy",
    other_metrics=("map",),
    num_classes=302,
    chance=1 / 302,
    num_test_clips=5601,
    weight=1867,
    knn_weight=1867,
    xares=XaresSettings(epochs=20),
    group=speaker_of,
    group_kind="speaker",
    strict_split=_by_participant,
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/vocalimitations_task.py",
    about="Which of 302 AudioSet sounds a voice imitates. Three folds; strict: without a common participant.",
)
