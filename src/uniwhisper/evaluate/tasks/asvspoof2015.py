"""ASVspoof 2015: is a voice genuine or forged?

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/asvspoof_task.py. Its documentation says equal error rate,
its code measures accuracy, and so does the paper's Table 2. Test clips: Wu et al., Interspeech 2015, table 2.
"""

from __future__ import annotations

from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="asvspoof2015",
    title="ASV2015",
    source="asvspoof2015",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=2,
    chance=1 / 2,
    num_test_clips=193_404,
    weight=2000,
    knn_weight=2000,
    xares=XaresSettings(batch_size=64, epochs=5),
    group_kind="speaker",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/asvspoof_task.py",
    about="Genuine or spoofed speech. Publisher's parts, which share no speaker; half of the attacks in the test part "
    "are in no other, and 95 % of its clips are spoofed, so that accuracy is high without any skill.",
)
