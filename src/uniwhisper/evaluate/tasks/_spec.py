"""What an evaluation task declares about itself: `SPEC: TaskSpec` of its module.

Guarantees: a declaration without contradictions, or a `ConfigError` when its module is imported.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate.task import KINDS, METRICS, Kind, Metric, XaresSettings
from uniwhisper.types import DOMAINS, Clip, Domain

__all__ = ["SUITES", "Parts", "Resplit", "TaskSpec", "group_of", "labels_of", "speaker_of"]

SUITES = {
    "paper": "the 20 tasks of UniWhisper's Table 2; its weighted averages count them",
    "whisper_aut": "the three tasks of Whisper-AuT's linear probe (arXiv 2604.10438). Its splits, settings and "
    "absolute scores are not published, only gains over Whisper: compare gains, under protocol `strict`",
}
"""Named groups of tasks, and what to know about their scores; a task says itself which it belongs to."""

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_METRICS_OF: dict[Kind, tuple[Metric, ...]] = {
    "clip": ("accuracy", "map"),
    "multilabel": ("map",),
    "frame": ("segment_f1",),
    "asr": ("iwer",),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The split of every clip, in the clips' order, and what a reader of the scores should know about it."""

    splits: tuple[str, ...]
    """`train`, `valid`, `test`, `fold<number>`, or empty for a clip that the protocol leaves out."""
    note: str = ""
    """Empty where the corpus's own splits stand unchanged."""


Resplit = Callable[[Sequence[Clip]], Parts]
"""Splits the clips of a task anew; it must not depend on their order."""


def labels_of(clip: Clip) -> tuple[str, ...]:
    """Return the labels that the corpus gives to a clip."""
    return clip.annotation.labels


def group_of(clip: Clip) -> str:
    """Return the clip's group, empty where the corpus states none."""
    return clip.group


def speaker_of(clip: Clip) -> str:
    """Return the clip's speaker, empty where the corpus states none."""
    return clip.speaker


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """The facts about a task; the folder of modules is the registry, so nothing else lists them."""

    name: str
    """The module's stem."""
    title: str
    """As the paper's Table 2 names it."""
    source: str
    """Source whose clips it takes."""
    domain: Domain
    """As the paper counts it, which is not always the source's."""
    kind: Kind
    metric: Metric
    other_metrics: tuple[Metric, ...] = ()
    num_classes: int
    """On the whole corpus; 0 in an `asr` task."""
    chance: float | None
    """Score of guessing; None where it depends on how frequent the classes are."""
    num_test_clips: int = 0
    """Clips that are tested on the whole corpus (with folds: all of them); 0 where that depends on the layout."""
    weight: float | None = None
    """In the weighted average of probe scores; None: the task is in no average."""
    knn_weight: float | None = None
    has_knn: bool = True
    """Whether X-ARES scores it by kNN."""
    xares: XaresSettings = field(default_factory=XaresSettings)
    label: Callable[[Clip], tuple[str, ...]] = labels_of
    """Labels of a clip; unused in `frame` and `asr` tasks."""
    keep: Callable[[Clip], bool] | None = None
    """Which clips of the corpus belong to the task; None: all."""
    keeps: str = ""
    """The same in words, for notes and errors."""
    group: Callable[[Clip], str] = group_of
    """What must not stand on both sides of a split, empty where the corpus does not say."""
    group_kind: str = ""
    """What a group is; empty: clips of this corpus stand for themselves."""
    strict_split: Resplit | None = None
    """Splits under protocol `strict`, where the corpus's own leak or are missing; None keeps them."""
    xares_split: Resplit | None = None
    """Splits under protocol `xares`, where a layout of the corpus has others; None keeps them."""
    suites: tuple[str, ...] = ()
    """Keys of `SUITES`."""
    reference: str
    """Where settings, splits and classes come from."""
    about: str
    """One or two sentences for listings."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            ConfigError: A field is empty, unknown or contradicts another.
        """
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"task name: expected snake_case, found {self.name!r}")
        for name in ("title", "source", "reference", "about"):
            if not getattr(self, name):
                raise self._fault(f"a non-empty {name}", "nothing")
        if self.domain not in DOMAINS or self.kind not in KINDS:
            raise self._fault(f"a domain of {DOMAINS} and a kind of {KINDS}", f"{self.domain} and {self.kind}")
        metrics = (self.metric, *self.other_metrics)
        if (
            set(metrics) - set(METRICS)
            or set(metrics) - set(_METRICS_OF[self.kind])
            or len(set(metrics)) < len(metrics)
        ):
            raise self._fault(f"distinct metrics of {_METRICS_OF[self.kind]}", str(metrics))
        if (self.num_classes == 0) != (self.kind == "asr") or self.num_classes < 0:
            raise self._fault("classes unless words are recognised", str(self.num_classes))
        if self.chance is not None and not 0 <= self.chance < 1:
            raise self._fault("chance in [0, 1)", str(self.chance))
        if (self.keep is None) != (not self.keeps):
            raise self._fault("keep and its description in words, or neither", repr(self.keeps))
        if self.has_knn and self.kind in ("frame", "asr"):
            raise self._fault("kNN for tasks with a label a clip only", f"has_knn in a task of kind {self.kind}")
        if self.knn_weight is not None and (self.weight is None or not self.has_knn):
            raise self._fault("a kNN weight beside a weight and a kNN", str(self.knn_weight))
        if set(self.suites) - set(SUITES):
            raise self._fault(f"suites of {sorted(SUITES)}", str(self.suites))

    def _fault(self, expected: str, found: str) -> ConfigError:
        return ConfigError(f"task {self.name}: expected {expected}, found {found}")
