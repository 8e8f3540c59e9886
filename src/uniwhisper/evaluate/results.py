"""The results of one encoder on several tasks: `results.json`, version 1.

    {
      "schema": "uniwhisper.results", "version": 1,
      "encoder": {"name", "fingerprint", "dim"},
      "protocol": {
        "name": "strict",
        "frames": which frames the encoder pooled (null: not told),
        "overlap": "error" | "drop" | "allow",      groups on both sides of a split, see splits.py
        "valid_share", "split_seed",                how a missing validation part is set aside
        "knn": KnnConfig, "probe": ProbeConfig, "bootstrap": {"num_replicates", "percentiles", "draws"}
      },
      "tasks": [{
        "name", "domain" ("speech" | "sound" | "music" | ""), "table_sha256", "key",
        "num_clips", "num_test_clips", "num_classes", "num_folds", "scheme", "multilabel",
        "metric": "accuracy" | "mAP",
        "chance": score of a blind guess (accuracy: 1 / num_classes; mAP: mean class frequency in the test parts),
        "majority": accuracy of always answering the training part's most frequent class (null for mAP),
        "resampling_unit": "group" | "clip",
        "knn": {"score", "low", "high", "macro_f1"},
        "probe": {"score", "low", "high", "macro_f1", "per_seed": [...], "learning_rates": one a fold},
        "predictions": file with the predictions, relative to the folder of results.json,
        "predictions_digest", "notes": [...]        anything that a reader of the score should know
      }],
      "means": {"all" | domain: {"tasks": [names], "knn": {"score", "low", "high"}, "probe": {...}}},
      "failures": [{"task", "table", "error"}],
      "environment": {"python", "numpy", "torch", "uniwhisper"}
    }

Scores are in [0, 1] with 95 % intervals; means are unweighted over tasks; k-fold scores are unweighted means over
folds; macro F1 (null for mAP) is a second look, without an interval. Failed tasks are in no mean.
Guarantees: the file holds no time and no machine's name, so equal runs on equal tables write equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from uniwhisper.errors import ManifestError, ReportError
from uniwhisper.evaluate.bootstrap import Interval
from uniwhisper.evaluate.predictions import Predictions, read_predictions
from uniwhisper.files import read_json, write_json

__all__ = [
    "FILE_NAME",
    "EncoderInfo",
    "Failure",
    "KnnScore",
    "Mean",
    "ProbeScore",
    "Results",
    "TaskResult",
    "load_predictions",
    "read_results",
    "write_results",
]

FILE_NAME = "results.json"
SCHEMA = "uniwhisper.results"
VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderInfo:
    """Which encoder was judged."""

    name: str
    fingerprint: str
    """Hash of weights and preprocessing; empty where the encoder has none."""
    dim: int
    """Width of the embeddings."""


@dataclass(frozen=True, kw_only=True, slots=True)
class KnnScore(Interval):
    """The nearest-neighbour vote's score."""

    macro_f1: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeScore(Interval):
    """The probes' mean score."""

    macro_f1: float | None
    per_seed: tuple[float, ...]
    learning_rates: tuple[float, ...]
    """Chosen on the validation part, one a fold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    """Everything about one task; the module's docstring describes the fields."""

    name: str
    domain: str
    table_sha256: str
    key: str
    """Hash of everything that the scores depend on; empty where the encoder has no fingerprint."""
    num_clips: int
    num_test_clips: int
    num_classes: int
    num_folds: int
    scheme: str
    multilabel: bool
    metric: str
    chance: float
    majority: float | None
    resampling_unit: str
    knn: KnnScore
    probe: ProbeScore
    predictions: str
    predictions_digest: str
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """Unweighted means over tasks."""

    tasks: tuple[str, ...]
    knn: Interval
    probe: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A task that has no score, and why."""

    task: str
    table: str
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """One encoder's results."""

    encoder: EncoderInfo
    protocol: dict[str, Any]
    tasks: tuple[TaskResult, ...]
    means: dict[str, Mean]
    """By `all` and by domain; empty where no task has a score."""
    failures: tuple[Failure, ...]
    environment: dict[str, str]
    folder: Path
    """Where results.json and the predictions lie; not part of the file."""

    def task(self, name: str) -> TaskResult:
        """Return the task called `name`.

        Raises:
            ReportError: There is no such task.
        """
        for task in self.tasks:
            if task.name == name:
                return task
        raise ReportError(f"{self.folder}: expected a task {name!r}, found {[task.name for task in self.tasks]}")


def write_results(results: Results) -> Path:
    """Write `results` to results.json in their folder, atomically, and return its path."""
    values = asdict(replace(results, folder=Path()))
    values.pop("folder")
    path = results.folder / FILE_NAME
    write_json(path, {"schema": SCHEMA, "version": VERSION, **values})
    return path


def read_results(path: Path) -> Results:
    """Return the results in `path`: a results.json or its folder.

    Raises:
        ReportError: The file is missing, not JSON, of another schema or version, or lacks a field.
    """
    path = path / FILE_NAME if path.is_dir() else path
    try:
        values = read_json(path)
    except (ManifestError, OSError, UnicodeDecodeError) as e:
        raise ReportError(f"cannot read results: {e}") from e
    found = (values.get("schema"), values.get("version")) if isinstance(values, dict) else None
    if found != (SCHEMA, VERSION):
        raise ReportError(f"{path}: expected {SCHEMA} version {VERSION}, found {found}. Evaluate again to get it")
    try:
        return Results(
            encoder=EncoderInfo(**values["encoder"]),
            protocol=values["protocol"],
            tasks=tuple(_task(task) for task in values["tasks"]),
            means={name: _mean(mean) for name, mean in values["means"].items()},
            failures=tuple(Failure(**failure) for failure in values["failures"]),
            environment=values["environment"],
            folder=path.parent,
        )
    except (KeyError, TypeError, AttributeError) as e:
        raise ReportError(f"{path}: expected the fields of {SCHEMA} version {VERSION}, found a mismatch: {e}") from e


def load_predictions(results: Results, tasks: Iterable[str]) -> dict[str, Predictions]:
    """Return the stored predictions of the named tasks, checked against the digests in `results`.

    Raises:
        ReportError: A task or file is missing, or a file is not the one that was scored.
    """
    loaded = {}
    for name in tasks:
        task = results.task(name)
        path = results.folder / task.predictions
        loaded[name] = read_predictions(path)
        if loaded[name].digest() != task.predictions_digest:
            raise ReportError(f"{path}: expected the predictions that {FILE_NAME} scored, found others. Evaluate again")
    return loaded


def _task(values: dict[str, Any]) -> TaskResult:
    probe = dict(values["probe"])
    probe.update(per_seed=tuple(probe["per_seed"]), learning_rates=tuple(probe["learning_rates"]))
    nested = {"knn": KnnScore(**values["knn"]), "probe": ProbeScore(**probe), "notes": tuple(values["notes"])}
    return TaskResult(**{**values, **nested})


def _mean(values: dict[str, Any]) -> Mean:
    return Mean(tasks=tuple(values["tasks"]), knn=Interval(**values["knn"]), probe=Interval(**values["probe"]))
