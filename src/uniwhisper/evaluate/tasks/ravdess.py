"""RAVDESS: which of eight emotions does an actor express, in the spoken part?

Protocol `strict` is disjoint in actors: four folds of three men and three women, whatever the layout. Protocol `xares`
takes the folds of X-ARES's tars as they are.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/ravdess_task.py; Livingstone & Russo,
PLoS ONE 13(5), 2018.
"""

from __future__ import annotations

from collections.abc import Sequence

from uniwhisper.evaluate.tasks._resplit import folds_by, in_tars
from uniwhisper.evaluate.tasks._spec import Parts, TaskSpec
from uniwhisper.types import Clip

__all__ = ["SPEC"]


def _is_spoken(clip: Clip) -> bool:
    return clip.annotation.attributes.get("vocal channel") == "speech"


def _stated(clips: Sequence[Clip]) -> Parts:
    note = "" if in_tars(clips) else "four folds by actor: X-ARES's folds are only in its tars"
    return Parts(splits=tuple(clip.split for clip in clips), note=note)


SPEC = TaskSpec(
    name="ravdess",
    title="RAVDESS",
    source="ravdess",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=8,
    chance=1 / 8,
    num_test_clips=1440,
    weight=360,
    knn_weight=360,
    keep=_is_spoken,
    keeps="the spoken part",
    group_kind="speaker",
    strict_split=folds_by(
        lambda clip: (int(clip.speaker) - 1) // 2 % 4 + 1, "four folds by actor instead of those of X-ARES's tars"
    ),
    xares_split=_stated,
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/ravdess_task.py",
    about="Eight acted emotions in speech, 24 actors. Strict: four folds of six actors.",
)
