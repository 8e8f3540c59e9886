"""Fluent Speech Commands: which of 248 wordings is said?

The 31 intents are a task of their own.

Source: https://github.com/jimbozhang/xares v0.1.3, src/tasks/fluentspeechcommands_kws_task.py; Lugosch et al.,
Interspeech 2019, table 1 (test utterances).
"""

from __future__ import annotations

from uniwhisper.evaluate.tasks._spec import TaskSpec

__all__ = ["SPEC"]

SPEC = TaskSpec(
    name="fluent_speech_commands",
    title="Fluent Speech Commands",
    source="fluent_speech_commands",
    domain="speech",
    kind="clip",
    metric="accuracy",
    num_classes=248,
    chance=1 / 248,
    num_test_clips=3793,
    weight=2000,
    knn_weight=2000,
    group_kind="speaker",
    suites=("paper",),
    reference="xares v0.1.3, src/tasks/fluentspeechcommands_kws_task.py",
    about="248 wordings of orders to a smart home, not their 31 intents. Publisher's parts, which share no speaker.",
)
