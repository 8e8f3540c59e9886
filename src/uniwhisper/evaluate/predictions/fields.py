"""Fields of predictions brought to one type and shape, their digest, and means over folds.

Works on frozen dataclasses of arrays: a field is replaced once, while the object is being made.
Guarantees: equal values have equal types and an equal digest, whatever they were made from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from uniwhisper.errors import ReportError

__all__ = ["check_range", "digest_of", "fold_mean", "set_array", "set_common", "unknown_metric"]


def set_common(predictions: Any, num_clips: int) -> None:
    """Bring `ids`, `fold` and `unit` to their types.

    Raises:
        ReportError: There is no clip, or a field is of another shape.
    """
    if not num_clips:
        raise ReportError("expected predictions for at least one clip, found none")
    set_array(predictions, "ids", np.str_, (num_clips,))
    set_array(predictions, "fold", np.int64, (num_clips,))
    set_array(predictions, "unit", np.int64, (num_clips,))


def set_array(predictions: Any, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> None:
    """Replace the field `name` by an array of that type and shape (-1: any length but 0); None stays.

    Raises:
        ReportError: It is of another shape, not finite, or not text that UTF-8 can hold.
    """
    value = getattr(predictions, name)
    if value is None:
        return
    try:
        array = np.ascontiguousarray(value, dtype=dtype)
    except (ValueError, TypeError) as e:
        raise ReportError(f"expected {name} as an array of {np.dtype(dtype).name}, found: {e}") from e
    wanted = tuple(found if size < 0 else size for size, found in zip(shape, array.shape, strict=False))
    if array.shape != wanted or len(wanted) != len(shape) or (shape[0] < 0 and not len(array)):
        raise ReportError(f"expected {name} of shape {shape}, found {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise ReportError(f"expected finite numbers in {name}, found NaN or infinity")
    if array.dtype.kind == "U":
        _check_text(name, array)
    object.__setattr__(predictions, name, array)  # frozen for everybody else


def _check_text(name: str, array: np.ndarray) -> None:
    for text in array.ravel().tolist():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ReportError(f"expected text that UTF-8 can hold in {name}, found {text[:80]!r}") from None


def check_range(predictions: Any, name: str, end: int) -> None:
    """Refuse values of the field `name` below 0, or of `end` and more.

    Raises:
        ReportError: There are some.
    """
    array = getattr(predictions, name)
    if array is not None and array.size and not (array.min() >= 0 and array.max() < end):
        raise ReportError(f"expected {name} from 0 to {end - 1}, found {array.min()} to {array.max()}")


def digest_of(predictions: Any) -> str:
    """Return the sha256 of the kind and of every field's name, type, shape and values."""
    hasher = hashlib.sha256(predictions.kind.encode())
    for field in fields(predictions):
        value = getattr(predictions, field.name)
        if not isinstance(value, np.ndarray):
            hasher.update(f"{field.name}:{value}:".encode())
            continue
        # text is hashed as UTF-8: its array type depends on the longest value's length alone
        is_text = value.dtype.kind == "U"
        kind = "text" if is_text else value.dtype.newbyteorder("<").str
        hasher.update(f"{field.name}:{kind}:{value.shape}:".encode())
        if is_text:
            texts = [text.encode() for text in value.ravel().tolist()]
            hasher.update(np.array([len(text) for text in texts], dtype="<i8").tobytes() + b"".join(texts))
        else:
            hasher.update(value.astype(kind).tobytes())
    return hasher.hexdigest()


def fold_mean(fold: np.ndarray, score: Callable[[np.ndarray], float]) -> float:
    """Return the mean over folds of `score`, called with the mask of a fold's clips."""
    return float(np.mean([score(fold == f) for f in np.unique(fold)]))


def unknown_metric(metrics: tuple[str, ...], metric: str) -> ReportError:
    """Return the error about a metric that is none of `metrics`."""
    return ReportError(f"expected a metric out of {', '.join(metrics)}; found {metric!r}")
