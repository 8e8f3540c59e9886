"""LibriSpeech-100h: the words of read English, through an adapter into a frozen language model.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/librispeech_asr_task.py. The weight is the paper's;
test-clean has 2,620 utterances.
"""

from __future__ import annotations

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._spec import TaskSpec
from uniwhisper.types import Clip

__all__ = ["SPEC"]

_SUBSETS = ("train-clean-100", "dev-clean", "test-clean")


def _is_clean_100(clip: Clip) -> bool:
    return clip.annotation.metadata.get("subset") in _SUBSETS


SPEC = TaskSpec(
    name="librispeech_100h",
    title="LibriSpeech-100h",
    source="librispeech",
    domain="speech",
    kind="asr",
    metric="iwer",
    num_classes=0,
    chance=0.0,
    num_test_clips=2620,
    weight=10_000,
    has_knn=False,
    xares=XaresSettings(batch_size=4),
    keep=_is_clean_100,
    keeps="train-clean-100, dev-clean and test-clean",
    group_kind="speaker",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/librispeech_asr_task.py",
    about="Speech recognition: train-clean-100, dev-clean, test-clean; inverse word error rate.",
)
