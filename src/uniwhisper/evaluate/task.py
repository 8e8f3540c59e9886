"""An evaluation task ready to run: labelled clips in parts, and how its scores count.

Made from a declaration in `evaluate/tasks/` and a converted corpus, or from a table of the user's (tables.py); the
runner, the splits and the probes know no other kind. Guarantees: every sequence is in the order of `clips`; ids are
unique.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from uniwhisper.errors import TaskError
from uniwhisper.files import content_hash
from uniwhisper.types import Clip

__all__ = ["KINDS", "METRICS", "PROTOCOLS", "Kind", "Metric", "ProtocolName", "Task", "XaresSettings"]

Kind = Literal["clip", "multilabel", "frame", "asr"]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""What is predicted: one class a clip, any number of classes a clip, classes over time, or words."""

Metric = Literal["accuracy", "map", "segment_f1", "iwer"]
METRICS: tuple[Metric, ...] = get_args(Metric)
"""All in [0, 1], higher is better: accuracy, macro average precision, macro F1 of segments, 1 - word error rate."""

ProtocolName = Literal["strict", "xares"]
PROTOCOLS: tuple[ProtocolName, ...] = get_args(ProtocolName)
"""`strict`: ours, the test part chooses nothing. `xares`: X-ARES 0.1.3's splits, probe and selection."""


@dataclass(frozen=True, kw_only=True, slots=True)
class XaresSettings:
    """What X-ARES 0.1.3 fixes for each task; protocol `xares` uses it.

    Source: https://github.com/jimbozhang/xares (v0.1.3, src/tasks/*.py, src/xares/task.py).
    """

    batch_size: int = 32
    epochs: int = 10
    crop_s: float | None = None
    """X-ARES cuts clips into crops of this length and loses all but the first; None: whole clips."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task over N clips; every sequence is in the clips' order."""

    name: str
    """Stem of the declaration or of the table."""
    title: str
    """As a table of scores names it."""
    domain: str
    """`speech`, `sound`, `music`, or empty where nobody says."""
    kind: Kind
    metric: Metric
    """The one that counts; others may be reported beside it."""
    clips: tuple[Clip, ...]
    """Audio paths are absolute; `frame` tasks read `annotation.events`, `asr` tasks `annotation.transcript`."""
    labels: tuple[tuple[str, ...], ...] = ()
    """One label a clip, or any number in a `multilabel` task; empty in `frame` and `asr` tasks."""
    classes: tuple[str, ...] = ()
    """Sorted distinct labels; class indices refer to this order; empty in an `asr` task."""
    splits: tuple[str, ...]
    """`train`, `valid`, `test`, or `fold<number>` of every clip."""
    groups: tuple[str, ...] | None = None
    """Speaker, recording or instrument of every clip, where the corpus or the table says; never on two sides."""
    group_kind: str = ""
    """What a group is: `speaker`, `recording`, `group`, ...; empty where there is none."""
    weight: float | None = None
    """In the weighted average of probe scores; None: not in it."""
    knn_weight: float | None = None
    """In the weighted average of kNN scores; None: the task has no kNN score, or none that counts."""
    has_knn: bool = True
    other_metrics: tuple[Metric, ...] = ()
    """Computed from the same predictions and reported beside `metric`, outside every mean."""
    xares: XaresSettings = field(default_factory=XaresSettings)
    source: str = ""
    """Name of the corpus; empty for a user's table."""
    where: str
    """What errors point at: the table, or the corpus folder."""

    def __post_init__(self) -> None:
        lengths = {len(self.clips), len(self.splits)} | ({len(self.labels)} if self.labels else set())
        if len(lengths) != 1 or (self.groups is not None and len(self.groups) != len(self.clips)):
            raise TaskError(f"{self.where}: expected a split, label and group for every clip, found other counts")

    @cached_property
    def ids(self) -> tuple[str, ...]:
        """The clips' identifiers in stored predictions."""
        return tuple(clip.id for clip in self.clips)

    @property
    def multilabel(self) -> bool:
        """Whether a clip may have several classes."""
        return self.kind == "multilabel"

    def targets(self) -> np.ndarray:
        """Return class indices, int64 [N], or, in a multi-label task, a 0/1 matrix, uint8 [N, C].

        Raises:
            TaskError: The task's clips have no labels (`frame` and `asr`).
        """
        if not self.labels:
            raise TaskError(f"{self.where}: expected a task with a label a clip, found one of kind {self.kind!r}")
        index = {label: i for i, label in enumerate(self.classes)}
        if not self.multilabel:
            return np.array([index[labels[0]] for labels in self.labels], dtype=np.int64)
        matrix = np.zeros((len(self.labels), len(self.classes)), dtype=np.uint8)
        for row, labels in enumerate(self.labels):
            matrix[row, [index[label] for label in labels]] = 1
        return matrix

    @cached_property
    def digest(self) -> str:
        """Hash of everything that the scores depend on, besides the audio's bytes: ids, spans, answers, parts."""
        answers = [
            [clip.id, clip.start_s, clip.duration_s, clip.annotation.transcript if self.kind == "asr" else ""]
            + [[event.label, event.onset_s, event.offset_s] for event in clip.annotation.events if self.kind == "frame"]
            for clip in self.clips
        ]
        parts = [list(self.labels), list(self.splits), self.groups, self.classes]
        return content_hash([self.kind, self.metric, self.other_metrics, asdict(self.xares), answers, parts])

    def limited(self, num_clips: int) -> Task:
        """Return the task with at most `num_clips` clips a part, spread over the labels; always the same ones."""
        order = np.random.default_rng(0).permutation(len(self.clips))
        chosen: list[int] = []
        for part in dict.fromkeys(self.splits):
            queues: dict[tuple[str, ...], list[int]] = {}
            for i in order.tolist():
                if self.splits[i] == part:
                    queues.setdefault(self.labels[i] if self.kind == "clip" else (), []).append(i)
            turns = sorted((n, label, i) for label, queue in queues.items() for n, i in enumerate(queue))
            chosen += [i for _, _, i in turns[:num_clips]]
        rows = sorted(chosen)
        return replace(
            self,
            clips=tuple(self.clips[i] for i in rows),
            labels=tuple(self.labels[i] for i in rows) if self.labels else (),
            splits=tuple(self.splits[i] for i in rows),
            groups=None if self.groups is None else tuple(self.groups[i] for i in rows),
        )
