"""FMA small: which of eight genres of music?

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/freemusicarchive_genre_task.py; Defferrard et al.,
ISMIR 2017.
"""

from __future__ import annotations

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="fma_small",
    title="Free Music Archive Small",
    source="fma_small",
    domain="music",
    kind="clip",
    metric="accuracy",
    num_classes=8,
    chance=1 / 8,
    num_test_clips=800,
    weight=800,
    knn_weight=800,
    xares=XaresSettings(epochs=3, crop_s=10.0),
    group_kind="artist",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/freemusicarchive_genre_task.py",
    about="Eight balanced genres. Publisher's parts, which share no artist; X-ARES's tars do not name artists.",
)
