"""CREMA-D: which of six emotions does an actor express?

Protocol `strict` is disjoint in actors: five folds by actor number, whatever the layout. Protocol `xares` is X-ARES's
random split of the clips, in which every actor is on both sides: its tars as they are; from the publisher's files a
seeded draw of the same sizes, since X-ARES's own was not seeded.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/crema_d_task.py; sizes:
crema_d/make_audio_tar.py of 2025-01.
"""

from __future__ import annotations

from collections.abc import Sequence

from uniwhisper.evaluate.tasks._resplit import folds_by, in_tars, random_parts
from uniwhisper.evaluate.tasks._spec import Parts, TaskSpec, speaker_of
from uniwhisper.types import Clip

__all__ = ["SPEC"]


def _random_clips(clips: Sequence[Clip]) -> Parts:
    if in_tars(clips):
        return Parts(splits=tuple(clip.split for clip in clips))
    note = "a seeded random split of clips, 70/15/15 as X-ARES's, which was not seeded and is only in its tars"
    return Parts(splits=random_parts(clips, 0.15), note=note)


SPEC = TaskSpec(
    name="crema_d",
    title="CREMA-D",
    source="crema_d",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=6,
    chance=1 / 6,
    num_test_clips=7438,
    weight=1116,
    knn_weight=1116,
    group=speaker_of,
    group_kind="speaker",
    strict_split=folds_by(
        lambda clip: int(clip.speaker) % 5 + 1, "five folds by actor instead of X-ARES's random split of clips"
    ),
    xares_split=_random_clips,
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/crema_d_task.py",
    about="Six acted emotions, 91 actors. Strict: five folds without a common actor; xares: random clips.",
)
