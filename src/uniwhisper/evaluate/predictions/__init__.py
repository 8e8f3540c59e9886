"""Store what was predicted for every test clip, so that scores, intervals and new metrics need no model.

Writes and reads: one Parquet file a task, a row a clip, readable by pandas, duckdb and pyarrow as it is:
    id, fold, unit                text, index of the fold whose test part holds the clip, index of the resampling unit
  kind `clip`, one class a clip:
    truth, knn, probe             class names: one, one, and a list with one a seed
    knn_votes, probe_logits       shares of the vote [classes], logits [seeds][classes]; where a metric needs them
  kind `clip`, any number of classes a clip:
    truth, knn, probe             0/1 [classes], shares of the vote [classes], logits [seeds][classes]
  kind `segment`:
    truth, probe                  0/1 [segments][classes], probabilities [segments][seeds][classes]
  kind `text`:
    reference, probe              text, and a list with one text a seed
A task without a kNN has no `knn`. The schema's metadata holds, under `uniwhisper`, JSON with `schema`, `version`,
`kind`, `num_seeds`, `digest` and, by kind, `classes`, `threshold`, `normaliser`.
Guarantees: a file whose values do not have the digest that it states is refused; the digest depends on the values
alone, not on the file or the machine.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from uniwhisper.errors import ReportError
from uniwhisper.evaluate.predictions.columns import flat_values, list_column, read_columns, write_columns
from uniwhisper.evaluate.predictions.kinds import ClipPredictions, SegmentPredictions, TextPredictions

__all__ = [
    "ClipPredictions",
    "Predictions",
    "SegmentPredictions",
    "TextPredictions",
    "read_predictions",
    "write_predictions",
]

SCHEMA = "uniwhisper.predictions"
VERSION = 1

Predictions = ClipPredictions | SegmentPredictions | TextPredictions
"""What a task's predictions may be. All have `kind`, `ids`, `fold`, `unit`, `num_seeds`, `metrics`, `primary(metric)`,
`digest()`, `knn_score(metric)`, `probe_scores(metric)` and `notes(metric)`."""


def write_predictions(path: Path, predictions: Predictions) -> None:
    """Write `predictions` to `path` (.parquet), atomically."""
    columns = {
        "id": pa.array(predictions.ids.tolist(), type=pa.string()),
        "fold": pa.array(predictions.fold),
        "unit": pa.array(predictions.unit),
    }
    metadata: dict[str, Any] = {
        "schema": SCHEMA,
        "version": VERSION,
        "kind": predictions.kind,
        "num_seeds": predictions.num_seeds,
        "digest": predictions.digest(),
    }
    if isinstance(predictions, TextPredictions):
        metadata["normaliser"] = predictions.normaliser
        columns["reference"] = pa.array(predictions.reference.tolist(), type=pa.string())
        texts = pa.array(predictions.probe.T.ravel().tolist(), type=pa.string())
        columns["probe"] = list_column(texts, predictions.num_seeds)
    else:
        metadata["classes"] = predictions.classes.tolist()
        if isinstance(predictions, SegmentPredictions):
            metadata["threshold"] = predictions.threshold
            columns |= _segment_columns(predictions)
        else:
            columns |= _clip_columns(predictions)
    write_columns(path, columns, metadata)


def read_predictions(path: Path) -> Predictions:
    """Return the predictions stored in `path`.

    Raises:
        ReportError: The file is missing, damaged, of another schema or version, or lacks a column.
    """
    again = "Run `uniwhisper evaluate` again"
    try:
        table, metadata = read_columns(path)
        found = (metadata.get("schema"), metadata.get("version"))
        if found != (SCHEMA, VERSION):
            raise ReportError(f"expected {SCHEMA} version {VERSION}, found {found}")
        readers = {"clip": _read_clips, "segment": _read_segments, "text": _read_texts}
        if metadata.get("kind") not in readers:
            raise ReportError(f"expected kind {', '.join(readers)}; found {metadata.get('kind')!r}")
        predictions = readers[metadata["kind"]](table, metadata)
        if predictions.digest() != metadata.get("digest"):
            raise ReportError("expected values with the digest that the file states, found others")
    except ReportError as e:
        raise ReportError(f"expected stored predictions in {path}, found a problem: {e}. {again}") from e
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, pa.ArrowException) as e:
        raise ReportError(f"expected stored predictions in {path}, found: {type(e).__name__}: {e}. {again}") from e
    return predictions


def _clip_columns(predictions: ClipPredictions) -> dict[str, pa.Array]:
    num_classes, num_seeds = len(predictions.classes), predictions.num_seeds
    names = pa.array(predictions.classes.tolist(), type=pa.string())

    def ranked(scores: np.ndarray) -> pa.Array:
        return list_column(pa.array(scores.ravel()), num_classes)

    def ranked_by_seed(scores: np.ndarray) -> pa.Array:
        return list_column(pa.array(scores.transpose(1, 0, 2).ravel()), num_classes, num_seeds)

    knn, probe = predictions.knn, predictions.probe
    if predictions.multilabel:
        columns = {"truth": ranked(predictions.truth), "probe": ranked_by_seed(probe)}
        return columns if knn is None else columns | {"knn": ranked(knn)}
    columns = {
        "truth": names.take(pa.array(predictions.truth)),
        "probe": list_column(names.take(pa.array(probe.T.ravel())), num_seeds),
    }
    if knn is not None:
        columns["knn"] = names.take(pa.array(knn))
    if predictions.knn_votes is not None:
        columns["knn_votes"] = ranked(predictions.knn_votes)
    if predictions.probe_logits is not None:
        columns["probe_logits"] = ranked_by_seed(predictions.probe_logits)
    return columns


def _segment_columns(predictions: SegmentPredictions) -> dict[str, pa.Array]:
    num_classes, per_clip = len(predictions.classes), predictions.segments_per_clip
    probabilities = pa.array(predictions.probe.transpose(1, 0, 2).ravel())
    return {
        "truth": list_column(pa.array(predictions.truth.ravel()), num_classes, per_clip),
        "probe": list_column(probabilities, num_classes, predictions.num_seeds, per_clip),
    }


def _read_clips(table: pa.Table, metadata: dict[str, Any]) -> ClipPredictions:
    classes, num_seeds = metadata["classes"], metadata["num_seeds"]

    def ranked(name: str) -> np.ndarray | None:
        return _values(table, name, len(classes)) if name in table.column_names else None

    def ranked_by_seed(name: str) -> np.ndarray | None:
        if name not in table.column_names:
            return None
        return _values(table, name, num_seeds, len(classes)).transpose(1, 0, 2)

    if pa.types.is_list(table["truth"].type):
        truth, knn, probe = ranked("truth"), ranked("knn"), ranked_by_seed("probe")
    else:
        truth, probe = _indices(table, "truth", classes), _indices(table, "probe", classes, num_seeds).T
        knn = _indices(table, "knn", classes) if "knn" in table.column_names else None
    return ClipPredictions(
        **_common(table),
        classes=np.array(classes, dtype=np.str_),
        truth=truth,  # pyright: ignore[reportArgumentType]  # a missing column is refused by the constructor
        knn=knn,
        probe=probe,  # pyright: ignore[reportArgumentType]
        knn_votes=ranked("knn_votes"),
        probe_logits=ranked_by_seed("probe_logits"),
    )


def _read_segments(table: pa.Table, metadata: dict[str, Any]) -> SegmentPredictions:
    classes = metadata["classes"]
    truth, (per_clip, widths) = flat_values(table["truth"], 2)
    _check_lengths("truth", widths, len(classes))
    probe, (segments, seeds, widths) = flat_values(table["probe"], 3)
    _check_lengths("probe", seeds, metadata["num_seeds"])
    _check_lengths("probe", widths, len(classes))
    if not np.array_equal(per_clip, segments):
        raise ReportError("expected as many segments in `probe` as in `truth`, found other numbers")
    shape = (int(per_clip.sum()), metadata["num_seeds"], len(classes))
    return SegmentPredictions(
        **_common(table),
        classes=np.array(classes, dtype=np.str_),
        segments_per_clip=per_clip,
        truth=truth.to_numpy(zero_copy_only=False).reshape(shape[0], shape[2]),
        probe=probe.to_numpy(zero_copy_only=False).reshape(shape).transpose(1, 0, 2),
        threshold=metadata["threshold"],
    )


def _read_texts(table: pa.Table, metadata: dict[str, Any]) -> TextPredictions:
    heard, (seeds,) = flat_values(table["probe"], 1)
    _check_lengths("probe", seeds, metadata["num_seeds"])
    reference, _ = flat_values(table["reference"], 0)
    return TextPredictions(
        **_common(table),
        reference=np.array(reference.to_pylist(), dtype=np.str_),
        probe=np.array(heard.to_pylist(), dtype=np.str_).reshape(len(table), metadata["num_seeds"]).T,
        normaliser=metadata["normaliser"],
    )


def _common(table: pa.Table) -> dict[str, np.ndarray]:
    ids, _ = flat_values(table["id"], 0)
    fold, unit = (flat_values(table[name], 0)[0].to_numpy(zero_copy_only=False) for name in ("fold", "unit"))
    return {"ids": np.array(ids.to_pylist(), dtype=np.str_), "fold": fold, "unit": unit}


def _values(table: pa.Table, name: str, *shape: int) -> np.ndarray:
    """Return the column `name` as an array [rows, *shape]."""
    values, lengths = flat_values(table[name], len(shape))
    for level, size in zip(lengths, shape, strict=True):
        _check_lengths(name, level, size)
    return values.to_numpy(zero_copy_only=False).reshape(len(table), *shape)


def _indices(table: pa.Table, name: str, classes: list[str], *shape: int) -> np.ndarray:
    """Return the class indices [rows, *shape] of the class names in the column `name`."""
    values, lengths = flat_values(table[name], len(shape))
    for level, size in zip(lengths, shape, strict=True):
        _check_lengths(name, level, size)
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index[name] for name in values.to_pylist()], dtype=np.int64).reshape(len(table), *shape)


def _check_lengths(name: str, lengths: np.ndarray, wanted: int) -> None:
    if (lengths != wanted).any():
        raise ReportError(f"expected lists of {wanted} in {name}, found others")
