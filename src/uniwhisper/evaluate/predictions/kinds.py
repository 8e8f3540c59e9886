"""What was predicted for every test clip of a task: classes, segments or transcripts, and the scores that follow.

Reads and writes nothing (predictions.py stores them). Guarantees: whatever the arrays were made from, equal values
have equal types and an equal digest; scores depend on these values alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.metrics import (
    accuracy,
    classes_without_positives,
    equal_error_rate,
    f1_of_counts,
    inverse_wer,
    macro_f1,
    mean_average_precision,
)
from uniwhisper.evaluate.predictions.fields import (
    check_range,
    digest_of,
    fold_mean,
    set_array,
    set_common,
    unknown_metric,
)
from uniwhisper.evaluate.transcripts import NORMALISERS, word_errors

__all__ = ["ClipPredictions", "SegmentPredictions", "TextPredictions"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ClipPredictions:
    """Predicted classes of a task's N test clips, C classes, S probe seeds; arrays are brought to one type.

    Raises:
        ReportError: Shapes do not fit together, or a value is out of range.
    """

    kind: ClassVar[str] = "clip"

    ids: np.ndarray
    """The clips' identifiers, text [N]."""
    classes: np.ndarray
    """Names [C]; class indices refer to them."""
    truth: np.ndarray
    """Class indices, int64 [N], or 0/1, uint8 [N, C], where a clip may have several classes."""
    fold: np.ndarray
    """Index of the fold whose test part holds the clip, int64 [N]."""
    unit: np.ndarray
    """Index of the resampling unit: the group, or the clip itself, int64 [N]."""
    knn: np.ndarray | None = None
    """Class indices, int64 [N], or votes, float32 [N, C]; None where the task has no kNN."""
    probe: np.ndarray
    """Class indices, int64 [S, N], or logits, float32 [S, N, C]."""
    knn_votes: np.ndarray | None = None
    """Shares of the vote, float32 [N, C], beside class indices: for metrics that rank clips."""
    probe_logits: np.ndarray | None = None
    """Float32 [S, N, C], beside class indices: for metrics that rank clips."""

    def __post_init__(self) -> None:
        """Bring the arrays to their types and check that they fit together."""
        num_clips, num_classes = len(self.ids), len(self.classes)
        several = np.ndim(self.truth) == 2
        row = (num_clips, num_classes) if several else (num_clips,)
        answer = np.float32 if several else np.int64
        set_common(self, num_clips)
        set_array(self, "classes", np.str_, (num_classes,))
        set_array(self, "truth", np.uint8 if several else np.int64, row)
        set_array(self, "knn", answer, row)
        set_array(self, "probe", answer, (-1, *row))
        set_array(self, "knn_votes", np.float32, (num_clips, num_classes))
        set_array(self, "probe_logits", np.float32, (len(self.probe), num_clips, num_classes))
        for name in ("truth",) if several else ("truth", "knn", "probe"):
            check_range(self, name, 2 if several else num_classes)
        if several and (self.knn_votes is not None or self.probe_logits is not None):
            raise ReportError("expected votes and logits in `knn` and `probe` where a clip may have several classes")

    @property
    def multilabel(self) -> bool:
        """Whether a clip may have several classes."""
        return self.truth.ndim == 2

    @property
    def num_seeds(self) -> int:
        """Probe seeds."""
        return len(self.probe)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that can be computed, the usual one first."""
        if self.multilabel:
            return ("map",)
        return ("accuracy", "macro_f1", *(("map",) if self.probe_logits is not None else ()))

    def digest(self) -> str:
        """Return the sha256 of every field's name, type, shape and values."""
        return digest_of(self)

    def primary(self, metric: str) -> str:
        """Return `metric` as these predictions call it.

        Raises:
            ReportError: There is no such metric.
        """
        if metric not in self.metrics:
            raise unknown_metric(self.metrics, metric)
        return metric

    def positives(self) -> np.ndarray:
        """Return the 0/1 matrix of what is true, uint8 [N, C]."""
        return self.truth if self.multilabel else np.eye(len(self.classes), dtype=np.uint8)[self.truth]

    def answers(self, metric: str) -> tuple[np.ndarray | None, np.ndarray]:
        """Return what `metric` judges of the kNN ([N] or [N, C], None where it has none) and of the probes ([S, ...]).

        Raises:
            ReportError: The metric cannot be computed from what is stored.
        """
        if metric in (*self.metrics, "eer") and (self.multilabel or metric in ("accuracy", "macro_f1")):
            return self.knn, self.probe
        if metric in ("map", "eer") and self.probe_logits is not None:
            return self.knn_votes, self.probe_logits
        raise unknown_metric(self.metrics, metric)

    def knn_score(self, metric: str) -> float | None:
        """Return the kNN's score: the metric in every fold, averaged over folds; None where there is no kNN.

        Besides `metrics`, `eer` is computed for two classes with logits: the equal error rate, lower is better.

        Raises:
            ReportError: The metric cannot be computed from what is stored.
        """
        answer, _ = self.answers(metric)
        return None if answer is None else self._score(metric, answer)

    def probe_scores(self, metric: str) -> list[float]:
        """Return the score of every probe seed, as `knn_score` does for the kNN."""
        return [self._score(metric, answer) for answer in self.answers(metric)[1]]

    def notes(self, metric: str) -> tuple[str, ...]:
        """Return what a reader of the score should know: the classes that a fold's mean leaves out."""
        if metric != "map":
            return ()
        notes = []
        for f in np.unique(self.fold):
            absent = classes_without_positives(self.positives()[self.fold == f])
            if len(absent):
                names = ", ".join(self.classes[absent[:5]]) + (", ..." if len(absent) > 5 else "")
                notes.append(f"{len(absent)} classes without a clip in test part {f} are in no mean there: {names}")
        return tuple(notes)

    def _score(self, metric: str, answer: np.ndarray) -> float:
        truth = self.positives() if metric == "map" else self.truth
        if metric == "eer":
            return fold_mean(self.fold, lambda part: self._equal_error_rate(part, answer))
        function = {"accuracy": accuracy, "macro_f1": macro_f1, "map": mean_average_precision}[metric]
        return fold_mean(self.fold, lambda part: function(truth[part], answer[part]))

    def _equal_error_rate(self, part: np.ndarray, answer: np.ndarray) -> float:
        if len(self.classes) != 2:
            raise ReportError(f"expected two classes for an equal error rate, found {len(self.classes)}")
        return equal_error_rate(self.truth[part], answer[part, 1] - answer[part, 0])


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class SegmentPredictions:
    """Probabilities of C classes in the M segments of a task's N test clips, S probe seeds; there is no kNN.

    Raises:
        ReportError: Shapes do not fit together, or a value is out of range.
    """

    kind: ClassVar[str] = "segment"

    ids: np.ndarray
    """The clips' identifiers, text [N]."""
    classes: np.ndarray
    """Names [C]."""
    fold: np.ndarray
    """Int64 [N]."""
    unit: np.ndarray
    """Int64 [N]."""
    segments_per_clip: np.ndarray
    """Int64 [N]; their sum is M, and a clip's segments follow one another."""
    truth: np.ndarray
    """0/1, uint8 [M, C]."""
    probe: np.ndarray
    """Probabilities, float32 [S, M, C]."""
    threshold: float = 0.5
    """A class is predicted where its probability is above this."""

    def __post_init__(self) -> None:
        """Bring the arrays to their types and check that they fit together."""
        set_common(self, len(self.ids))
        set_array(self, "classes", np.str_, (len(self.classes),))
        set_array(self, "segments_per_clip", np.int64, (len(self.ids),))
        if (self.segments_per_clip < 0).any():
            raise ReportError("expected a number of segments for every clip, found a negative one")
        row = (int(self.segments_per_clip.sum()), len(self.classes))
        set_array(self, "truth", np.uint8, row)
        set_array(self, "probe", np.float32, (-1, *row))
        check_range(self, "truth", 2)

    @property
    def num_seeds(self) -> int:
        """Probe seeds."""
        return len(self.probe)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics that can be computed, the usual one first."""
        return ("segment_f1", "segment_f1_micro")

    def digest(self) -> str:
        """Return the sha256 of every field's name, type, shape and values."""
        return digest_of(self)

    def primary(self, metric: str) -> str:
        """Return `metric` as these predictions call it.

        Raises:
            ReportError: There is no such metric.
        """
        if metric not in self.metrics:
            raise unknown_metric(self.metrics, metric)
        return metric

    def counts(self) -> np.ndarray:
        """Return every clip's true positives, false positives and misses, int64 [S, N, C, 3]."""
        ends = np.cumsum(self.segments_per_clip)
        truth = self.truth.astype(bool)
        counts = np.empty((self.num_seeds, len(self.ids), len(self.classes), 3), dtype=np.int64)
        for s in range(self.num_seeds):
            found = self.probe[s] > self.threshold
            for i, kind in enumerate((found & truth, found & ~truth, ~found & truth)):
                running = np.concatenate([np.zeros((1, kind.shape[1]), dtype=np.int64), np.cumsum(kind, axis=0)])
                counts[s, :, :, i] = running[ends] - running[ends - self.segments_per_clip]
        return counts

    def knn_score(self, metric: str) -> None:
        """Return None: segments have no kNN.

        Raises:
            ReportError: There is no such metric.
        """
        self.average(metric)

    def probe_scores(self, metric: str) -> list[float]:
        """Return the F1 of every probe seed over all segments of a fold, averaged over folds.

        Raises:
            ReportError: There is no such metric.
        """
        average, counts = self.average(metric), self.counts()
        return [
            fold_mean(self.fold, lambda part, s=s: float(f1_of_counts(counts[s, part].sum(axis=0), average=average)))
            for s in range(self.num_seeds)
        ]

    def average(self, metric: str) -> str:
        """Return how `metric` averages over classes: `macro` or `micro`.

        Raises:
            ReportError: There is no such metric.
        """
        return "micro" if self.primary(metric) == "segment_f1_micro" else "macro"

    def notes(self, metric: str) -> tuple[str, ...]:
        """Return what a reader of the score should know: the classes that no segment has, which count 0 or err."""
        absent = self.classes[classes_without_positives(self.truth)]
        if metric != "segment_f1" or not len(absent):
            return ()
        return (f"{len(absent)} classes occur in no test segment and count 0 in macro F1: {', '.join(absent[:5])}",)


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class TextPredictions:
    """Transcripts of a task's N test clips, S seeds; there is no kNN.

    Raises:
        ReportError: Shapes do not fit together, or there is no such normaliser.
    """

    kind: ClassVar[str] = "text"

    ids: np.ndarray
    """The clips' identifiers, text [N]."""
    fold: np.ndarray
    """Int64 [N]."""
    unit: np.ndarray
    """Int64 [N]."""
    reference: np.ndarray
    """What was said, text [N], as the corpus has it."""
    probe: np.ndarray
    """What was heard, text [S, N], as it was decoded."""
    normaliser: str = "lower-nopunct"
    """Name of the rule (see transcripts.py) that the metric `iwer` applies."""

    def __post_init__(self) -> None:
        """Bring the arrays to their types and check that they fit together."""
        set_common(self, len(self.ids))
        set_array(self, "reference", np.str_, (len(self.ids),))
        set_array(self, "probe", np.str_, (-1, len(self.ids)))
        if self.normaliser not in NORMALISERS:
            raise ReportError(f"expected a normaliser out of {', '.join(NORMALISERS)}; found {self.normaliser!r}")

    @property
    def num_seeds(self) -> int:
        """Independent trainings."""
        return len(self.probe)

    @property
    def metrics(self) -> tuple[str, ...]:
        """`iwer:<normaliser>` for every normaliser, the task's own first; plain `iwer` is the task's own."""
        names = sorted(NORMALISERS, key=lambda name: (name != self.normaliser, name))
        return tuple(f"iwer:{name}" for name in names)

    def primary(self, metric: str) -> str:
        """Return `metric` as these predictions call it: `iwer` is the task's own normaliser's.

        Raises:
            ReportError: There is no such metric.
        """
        full = f"iwer:{self.normaliser}" if metric == "iwer" else metric
        if full not in self.metrics:
            raise unknown_metric(self.metrics, metric)
        return full

    def digest(self) -> str:
        """Return the sha256 of every field's name, type, shape and values."""
        return digest_of(self)

    def word_errors(self, metric: str) -> tuple[np.ndarray, np.ndarray]:
        """Return every clip's word errors, int64 [S, N], and its reference's words, int64 [N].

        Raises:
            ReportError: There is no such metric.
        """
        rule = self.primary(metric).partition(":")[2]
        counted = [word_errors(self.reference.tolist(), heard.tolist(), normaliser=rule) for heard in self.probe]
        return np.stack([errors for errors, _ in counted]), counted[0][1]

    def knn_score(self, metric: str) -> None:
        """Return None: transcripts have no kNN.

        Raises:
            ReportError: There is no such metric.
        """
        self.primary(metric)

    def probe_scores(self, metric: str) -> list[float]:
        """Return max(1 - WER, 0) of every seed over all clips of a fold, averaged over folds.

        Raises:
            ReportError: There is no such metric.
        """
        errors, words = self.word_errors(metric)
        return [
            fold_mean(self.fold, lambda part, row=row: float(inverse_wer(row[part].sum(), words[part].sum())))
            for row in errors
        ]

    def notes(self, metric: str) -> tuple[str, ...]:
        """Return what a reader of the score should know: the normaliser."""
        rule = self.primary(metric).partition(":")[2]
        return (f"words are compared after the normaliser {rule!r}",)
