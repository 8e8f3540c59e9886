"""The results of one encoder on several tasks: `results.json`, version 2.

    {
      "schema": "uniwhisper.results", "version": 2,
      "encoder": {"name", "fingerprint", "dim", "hop_ms", "trained_on": [corpora], "training_known": bool},
      "protocol": {"name": "strict" | "xares", ...}       everything else that decides a score, see run.py
      "tasks": [{
        "name", "title", "domain" ("speech" | "sound" | "music" | ""), "kind", "data_sha256", "key",
        "num_clips", "num_test_clips", "num_classes", "num_folds", "scheme",
        "metric": "accuracy" | "map" | "segment_f1" | "iwer",
        "chance": score of a blind guess (null where there is none),
        "majority": accuracy of always answering the training part's most frequent class (null but for accuracy),
        "resampling_unit": "group" | "clip",
        "weight", "knn_weight": in the weighted averages (null: in none),
        "knn": {"score", "low", "high"} or null,
        "probe": {"score", "low", "high", "per_seed": [...], "learning_rates": one a fold},
        "other": {metric or variant: {"knn": score or null, "probe": score}}       without intervals, in no mean
        "predictions": file with the predictions, relative to the folder of results.json,
        "predictions_digest",
        "contamination": {"corpora": [trained on and shared with the task], "clips": {how found: number}} or null,
        "notes": [...]                                    anything that a reader of the score should know
      }],
      "means":    {"all" | domain: {"tasks": [names], "missing": [], "knn": {...} or null, "probe": {...}}},
      "weighted": {"all" | domain: the same, weighted; "missing" names the paper's tasks that have no score},
      "failures": [{"task", "where", "error"}],
      "absent": [{"task", "title", "source", "placement"}]           tasks not tried: what is missing
      "environment": {"python", "numpy", "torch", "uniwhisper"}
    }

Scores are in [0, 1] with 95 % intervals; k-fold scores are unweighted means over folds. Tasks that failed or are
absent are in no mean. A kNN mean covers the tasks that have a kNN score.
Guarantees: the file holds no time and no machine's name, so equal runs on equal data write equal bytes.
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
    "Absent",
    "Contamination",
    "EncoderInfo",
    "Failure",
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
VERSION = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderInfo:
    """Which encoder was judged."""

    name: str
    fingerprint: str
    """Hash of weights and preprocessing; empty where the encoder has none."""
    dim: int
    """Width of the embeddings."""
    hop_ms: float = 0.0
    """Between frames; 0 where the encoder does not say."""
    trained_on: tuple[str, ...] = ()
    """Names of the corpora that the weights were trained on, as far as they are known."""
    training_known: bool = False
    """Whether `trained_on` is all of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeScore(Interval):
    """The probes' mean score."""

    per_seed: tuple[float, ...]
    learning_rates: tuple[float, ...]
    """Chosen on the validation part, one a fold."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contamination:
    """What the encoder's training shares with a task's corpus."""

    corpora: tuple[str, ...]
    """Corpora it was trained on that are known to hold recordings of the task's."""
    clips: dict[str, int]
    """How found (`identifier`, `hash`, `fingerprint`) -> test clips with a twin in training; empty: not looked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskResult:
    """Everything about one task; the module's docstring describes the fields."""

    name: str
    title: str
    domain: str
    kind: str
    data_sha256: str
    key: str
    """Hash of everything that the scores depend on; empty where the encoder has no fingerprint."""
    num_clips: int
    num_test_clips: int
    num_classes: int
    num_folds: int
    scheme: str
    metric: str
    chance: float | None
    majority: float | None
    resampling_unit: str
    weight: float | None
    knn_weight: float | None
    knn: Interval | None
    probe: ProbeScore
    other: dict[str, dict[str, float | None]]
    predictions: str
    predictions_digest: str
    contamination: Contamination | None
    notes: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Mean:
    """Means over tasks, weighted or not."""

    tasks: tuple[str, ...]
    missing: tuple[str, ...] = ()
    """Tasks that the mean should cover and that have no score."""
    knn: Interval | None
    """Over the tasks that have a kNN score."""
    probe: Interval


@dataclass(frozen=True, kw_only=True, slots=True)
class Failure:
    """A task that has no score, and why."""

    task: str
    where: str
    """The table, or the corpus folder."""
    error: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Absent:
    """A task that was not tried: its corpus is not here, or the encoder cannot do it."""

    task: str
    title: str
    source: str
    placement: str
    """What to place where, or what the encoder lacks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Results:
    """One encoder's results."""

    encoder: EncoderInfo
    protocol: dict[str, Any]
    tasks: tuple[TaskResult, ...]
    means: dict[str, Mean]
    """Unweighted, `all` first, then by domain."""
    weighted: dict[str, Mean]
    """By the tasks' weights; without those that have none."""
    failures: tuple[Failure, ...]
    absent: tuple[Absent, ...]
    environment: dict[str, str]
    folder: Path
    """Where the results lie; not stored."""

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
            encoder=EncoderInfo(**{**values["encoder"], "trained_on": tuple(values["encoder"]["trained_on"])}),
            protocol=values["protocol"],
            tasks=tuple(_task(task) for task in values["tasks"]),
            means={name: _mean(mean) for name, mean in values["means"].items()},
            weighted={name: _mean(mean) for name, mean in values["weighted"].items()},
            failures=tuple(Failure(**failure) for failure in values["failures"]),
            absent=tuple(Absent(**absent) for absent in values["absent"]),
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
    probe, found = dict(values["probe"]), values["contamination"]
    probe.update(per_seed=tuple(probe["per_seed"]), learning_rates=tuple(probe["learning_rates"]))
    nested = {
        "knn": _interval(values["knn"]),
        "probe": ProbeScore(**probe),
        "contamination": found and Contamination(corpora=tuple(found["corpora"]), clips=found["clips"]),
        "notes": tuple(values["notes"]),
    }
    return TaskResult(**{**values, **nested})


def _mean(values: dict[str, Any]) -> Mean:
    return Mean(
        tasks=tuple(values["tasks"]),
        missing=tuple(values["missing"]),
        knn=_interval(values["knn"]),
        probe=Interval(**values["probe"]),
    )


def _interval(values: dict[str, Any] | None) -> Interval | None:
    return None if values is None else Interval(**values)
