"""The UniWhisper paper's Table 2 (weights) and Table 3 (scores), to set beside measured ones.

Reads: `paper/weights.csv` and `paper/scores.csv` beside this module: the tables' numbers as printed, per cent.
Guarantees: both tables name the same tasks; a score that the paper cannot mean is None, see `published_scores`.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Literal

__all__ = ["Method", "PublishedTask", "published_averages", "published_scores", "published_tasks", "published_weights"]

Method = Literal["probe", "knn"]
_METHODS: tuple[Method, ...] = ("probe", "knn")
_AVERAGE = "weighted_average"


@dataclass(frozen=True, kw_only=True, slots=True)
class PublishedTask:
    """A task of the paper."""

    name: str
    domain: str
    """`speech`, `music` or `sound`. The type column of the paper's Table 2 is shifted by a row ("Music" stands beside
    VoxLingua33, "Sound" beside NSynth); this is the type that is meant."""
    metric: str
    probe: float
    """Weight in the average of probe scores."""
    knn: float | None
    """Weight in the average of kNN scores; None: the task has none."""


@cache
def published_tasks() -> tuple[PublishedTask, ...]:
    """Return the paper's 20 tasks in the order of its tables.

    Source: UniWhisper, Table 2. The weights are X-ARES's: test sizes, capped at 2000, and 10000 for speech recognition.
    """
    return tuple(
        PublishedTask(
            name=row["task"],
            domain=row["domain"],
            metric=row["metric"],
            probe=float(row["probe"]),
            knn=float(row["knn"]) if row["knn"] else None,
        )
        for row in _rows("weights.csv")
    )


def published_weights(method: Method = "probe") -> dict[str, float | None]:
    """Return every task's weight in the average of `method`; None where it has none."""
    return {task.name: task.probe if method == "probe" else task.knn for task in published_tasks()}


def published_scores() -> dict[str, dict[str, dict[str, float | None]]]:
    """Return model -> task -> `probe` and `knn`, per cent.

    A kNN score is None where Table 2 has no weight for it: Table 3 prints a dash there, and a 0 for CLAP-Uni on DESED,
    FSD18-Kaggle and FSD50k, which is no measurement either (its average leaves them out).

    Source: UniWhisper, Table 3.
    """
    weights = {method: published_weights(method) for method in _METHODS}
    scores: dict[str, dict[str, dict[str, float | None]]] = {}
    for row in _rows("scores.csv"):
        method = row["method"]
        for task in published_tasks():
            entry = scores.setdefault(row["model"], {}).setdefault(task.name, {})
            entry[method] = None if weights[method][task.name] is None else float(row[task.name])
    return scores


def published_averages() -> dict[str, dict[str, float]]:
    """Return model -> `probe` and `knn` -> weighted average as printed, per cent.

    Two of the 20 are 0.01 off what the table's own scores give: Whisper's probe (64.15), Whisper-Uni-3's kNN (47.05).

    Source: UniWhisper, Table 3, last row.
    """
    averages: dict[str, dict[str, float]] = {}
    for row in _rows("scores.csv"):
        averages.setdefault(row["model"], {})[row["method"]] = float(row[_AVERAGE])
    return averages


def _rows(name: str) -> list[dict[str, str]]:
    text = files("uniwhisper.evaluate").joinpath("paper", name).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
