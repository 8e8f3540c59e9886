"""LibriSpeech-MF: is the reader registered as female or male?

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/librispeech_male_female_task.py.
"""

from __future__ import annotations

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._spec import TaskSpec
from uniwhisper.types import Clip

__all__ = ["SPEC"]

_SUBSETS = ("train-clean-100", "dev-clean", "test-clean")


def _is_clean_100(clip: Clip) -> bool:
    return clip.annotation.metadata.get("subset") in _SUBSETS


def _gender(clip: Clip) -> tuple[str, ...]:
    gender = clip.annotation.attributes.get("gender", "")
    return (gender,) if gender else ()


SPEC = TaskSpec(
    name="librispeech_mf",
    title="LibriSpeech-MF",
    source="librispeech",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=2,
    chance=1 / 2,
    num_test_clips=2620,
    weight=2620,
    knn_weight=2620,
    xares=XaresSettings(crop_s=5.0),
    label=_gender,
    keep=_is_clean_100,
    keeps="train-clean-100, dev-clean and test-clean",
    group_kind="speaker",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/librispeech_male_female_task.py",
    about="Gender of the reader. Publisher's parts, which share no reader; 40 readers are tested.",
)
