"""Store what was predicted for every test clip, so that scores and intervals need no model.

Writes and reads: one `.npz` a task (no pickles) with the arrays
    ids [N]       the table's `path` cells of the test clips, in row order
    classes [C]   class names; indices refer to them
    truth         class indices [N], or 0/1 [N, C] in a multi-label task
    fold [N]      index of the fold whose test part holds the clip
    unit [N]      index of the resampling unit: the group, or the clip itself
    knn           class indices [N], or votes [N, C]
    probe         class indices [S, N], or logits [S, N, C], one a seed
Guarantees: `digest` depends on these values alone, not on the file or the machine.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.metrics import accuracy, macro_f1, mean_average_precision
from uniwhisper.files import atomic_path

__all__ = ["Predictions", "read_predictions", "write_predictions"]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Predictions:
    """Predictions for a task's N test clips; the module's docstring gives the shapes."""

    ids: np.ndarray
    classes: np.ndarray
    truth: np.ndarray
    fold: np.ndarray
    unit: np.ndarray
    knn: np.ndarray
    probe: np.ndarray

    @property
    def multilabel(self) -> bool:
        """Whether a clip may have several classes; the metric is then mean average precision, else accuracy."""
        return self.truth.ndim == 2

    @property
    def num_seeds(self) -> int:
        """Probe seeds."""
        return len(self.probe)

    def digest(self) -> str:
        """Return the sha256 of every array's name, type, shape and values."""
        hasher = hashlib.sha256()
        for field in fields(self):
            array = getattr(self, field.name)
            # text is hashed as UTF-8: its array type depends on the longest value's length alone
            is_text = array.dtype.kind == "U"
            kind = "text" if is_text else array.dtype.newbyteorder("<").str
            hasher.update(f"{field.name}:{kind}:{array.shape}:".encode())
            hasher.update("\0".join(array.tolist()).encode() if is_text else array.astype(kind).tobytes())
        return hasher.hexdigest()

    def score(self, guess: np.ndarray) -> float:
        """Return the score of one set of predictions: the task's metric in every fold, averaged over folds."""
        return self._fold_mean(mean_average_precision if self.multilabel else accuracy, guess)

    def macro_f1(self, guess: np.ndarray) -> float | None:
        """Return the macro F1 of one set of predictions, averaged over folds; None in a multi-label task."""
        return None if self.multilabel else self._fold_mean(macro_f1, guess)

    def _fold_mean(self, metric: Callable[[np.ndarray, np.ndarray], float], guess: np.ndarray) -> float:
        parts = [self.fold == f for f in np.unique(self.fold)]
        return float(np.mean([metric(self.truth[part], guess[part]) for part in parts]))


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions` to `path` (.npz), atomically."""
    arrays = {field.name: getattr(predictions, field.name) for field in fields(predictions)}
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def read_predictions(path: Path) -> Predictions:
    """Return the predictions stored in `path`.

    Raises:
        ReportError: The file is missing, damaged or lacks an array.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return Predictions(**{field.name: arrays[field.name] for field in fields(Predictions)})
    except (OSError, KeyError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as e:
        raise ReportError(f"expected stored predictions in {path}, found: {e}. Run `uniwhisper evaluate` again") from e
