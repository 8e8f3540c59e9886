"""GTZAN: which of ten genres of music?

The corpus names no artists, but excerpts of one often stand one after another. Protocol `strict` therefore takes ten
folds of consecutive numbers, whatever the layout; fewer artists are on both sides than at random, but some are.
Protocol `xares` takes the random folds of X-ARES's tars, or draws some from the publisher's files.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/gtzan_task.py; Sturm, arXiv:1306.1461, section 3;
https://arxiv.org/abs/2604.10438 (Whisper-AuT).
"""

from __future__ import annotations

from collections.abc import Sequence

from uniwhisper.evaluate.tasks._resplit import deal_folds, folds_by, in_tars
from uniwhisper.evaluate.tasks._spec import Parts, TaskSpec
from uniwhisper.types import Clip

__all__ = ["SPEC"]


def _random_folds(clips: Sequence[Clip]) -> Parts:
    if in_tars(clips):
        return Parts(splits=tuple(clip.split for clip in clips))
    note = "ten seeded random folds, stratified by genre: X-ARES's are only in its tars"
    return Parts(splits=deal_folds(clips, 10), note=note)


SPEC = TaskSpec(
    name="gtzan",
    title="GTZAN Genre",
    source="gtzan",
    domain="music",
    kind="clip",
    metric="accuracy",
    num_classes=10,
    chance=1 / 10,
    num_test_clips=1000,
    weight=100,
    knn_weight=100,
    strict_split=folds_by(
        lambda clip: int(clip.id.rpartition(".")[2]) // 10 + 1,
        "ten folds of consecutive numbers, which keep more artists on one side than X-ARES's random folds",
    ),
    xares_split=_random_folds,
    suites=("paper", "whisper_aut"),
    reference="xares v0.1.3, src/tasks/gtzan_task.py",
    about="Ten genres, 1,000 excerpts. Artists are unknown: no split of this corpus is known to keep them apart.",
)
