"""The folder of a run's checkpoints: which are complete, which is the best, which may go.

Reads and writes folder names, `state.json`, `DONE` and `scores.json`; the tensors are in `tensor_files`. Guarantees
that a folder that counts as complete is complete, whenever the process or the machine died: a checkpoint is made in a
hidden `.part` folder and takes its name by a rename, and one that goes is renamed before its first file is removed.
"""

from __future__ import annotations

import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from uniwhisper.errors import CheckpointError, ManifestError
from uniwhisper.files import content_hash, mark_done, read_json, write_json

__all__ = [
    "best_checkpoint",
    "clear_leftovers",
    "go_back",
    "latest_checkpoint",
    "note_score",
    "part_folder",
    "publish",
    "read_document",
    "read_state",
    "remove_old",
    "step_folder",
    "step_of",
]

_FORMAT = "uniwhisper-checkpoint"
_VERSION = 1
_COMPLETE = re.compile(r"step_(\d+)|\.step_(\d+)\.replaced")


def step_folder(folder: Path, step: int) -> Path:
    """Return where the checkpoint of `step` lies once it is complete."""
    return folder / f"step_{step:07d}"


def step_of(path: Path) -> int:
    """Return the steps that were done at the complete checkpoint `path`."""
    match = _COMPLETE.fullmatch(path.name)
    if match is None:
        raise CheckpointError(f"expected the folder of a checkpoint, step_<number>, found {path}")
    return int(match[1] or match[2])


def part_folder(folder: Path, step: int) -> Path:
    """Return where the checkpoint of `step` is made."""
    return folder / f".step_{step:07d}.part"


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint below `folder`, or None."""
    complete = _complete(folder)
    return complete[max(complete)] if complete else None


def best_checkpoint(folder: Path) -> Path | None:
    """Return the complete checkpoint below `folder` with the highest noted score, or None where none has a score.

    Of equal scores the earliest step wins.

    Raises:
        CheckpointError: `scores.json` cannot be read.
    """
    complete = _complete(folder)
    best = _best(complete, folder)
    return None if best is None else complete[best]


def note_score(folder: Path, step: int, score: float) -> None:
    """Remember the score of `step` in `scores.json`; a later score of the same step replaces it.

    Raises:
        CheckpointError: The score is not a finite number, or `scores.json` cannot be read.
    """
    if not math.isfinite(score):
        raise CheckpointError(f"step {step}: expected a finite score to choose the best checkpoint by, found {score}")
    scores = _scores(folder) | {step: float(score)}
    write_json(folder / "scores.json", {str(number): scores[number] for number in sorted(scores)})


def publish(folder: Path, step: int, *, key: str, state: Mapping[str, Any], files: Mapping[str, Any]) -> Path:
    """Turn the part folder of `step`, whose tensors are all written, into a complete checkpoint.

    Args:
        folder: The folder of checkpoints.
        step: Optimiser steps done.
        key: The hash of the run's configuration and data.
        state: JSON of the run, stored as it is.
        files: `num_bytes` and `sha256` of every file of tensors, by its name.
    """
    part, target = part_folder(folder, step), step_folder(folder, step)
    document = {"format": _FORMAT, "version": _VERSION, "key": key, "step": step, "files": files, "state": state}
    write_json(part / "state.json", document | {"sha256": content_hash(document)})
    mark_done(part, key)
    _sync_folder(part)
    if target.exists():  # complete under this other name until the new one has its place
        shutil.rmtree(_replaced(target), ignore_errors=True)
        target.rename(_replaced(target))
    part.rename(target)
    _sync_folder(folder)
    shutil.rmtree(_replaced(target), ignore_errors=True)
    return target


def remove_old(folder: Path, keep: int) -> None:
    """Remove the complete checkpoints that are neither among the newest `keep` nor the best.

    Raises:
        CheckpointError: One cannot be renamed; the newer ones are complete.
    """
    complete = _complete(folder)
    best = _best(complete, folder)
    for step in sorted(complete)[:-keep]:
        if step == best:
            continue
        try:
            renamed = complete[step].rename(part_folder(folder, step))
        except OSError as e:
            raise CheckpointError(
                f"{complete[step]}: expected to remove this old checkpoint, found: {e}; newer ones are complete"
            ) from e
        shutil.rmtree(renamed, ignore_errors=True)  # somebody may be reading it: what stays is left to the next save


def clear_leftovers(folder: Path) -> None:
    """Remove what interrupted saves and removals left below `folder`."""
    complete = set(_complete(folder).values())
    for path in [*folder.glob(".step_*.part"), *folder.glob(".step_*.replaced")]:
        if path not in complete:
            shutil.rmtree(path)


def read_state(path: Path, *, key: str) -> dict[str, Any]:
    """Return the state that the run handed over with the checkpoint at `path`.

    Raises:
        CheckpointError: The checkpoint is another run's, incomplete, of another format, or damaged.
    """
    document = read_document(path)
    if document["key"] != key:
        raise CheckpointError(
            f"{path}: this run's configuration or data differ from those that wrote the checkpoint "
            f"({document['key'][:8]} there, {key[:8]} here). Use another --out, or the old settings"
        )
    return document["state"]


def read_document(path: Path) -> dict[str, Any]:
    """Return the whole of the checkpoint's `state.json`: `key`, `step`, `files`, `state`.

    Raises:
        CheckpointError: The checkpoint is incomplete, of another format, or its `state.json` is damaged.
    """
    if not (path / "DONE").exists():
        raise CheckpointError(f"expected a complete checkpoint at {path} (with DONE), found none; was it interrupted?")
    try:
        document = read_json(path / "state.json")
    except (ManifestError, OSError) as e:
        raise CheckpointError(f"{e}. {go_back(path)}") from e
    found = (document.get("format"), document.get("version")) if isinstance(document, dict) else (None, None)
    if found != (_FORMAT, _VERSION):
        raise CheckpointError(
            f"{path}/state.json: expected format {_FORMAT!r}, version {_VERSION}, found {found[0]!r}, {found[1]!r}: it "
            "was written by another version of uniwhisper. Train on with that one, or use another --out"
        )
    if document.pop("sha256", None) != content_hash(document):
        raise CheckpointError(
            f"{path}/state.json: its content is not what was saved (its sha256 differs). {go_back(path)}"
        )
    return document


def go_back(path: Path) -> str:
    """Return the sentence that says what to do where the checkpoint at `path` is damaged."""
    others = {step: other for step, other in _complete(path.parent).items() if other != path}
    older = others[max(others)].name if others else ""
    return f"Remove {path} to go on from {older}" if older else f"Remove {path}, the only checkpoint, to begin again"


def _complete(folder: Path) -> dict[int, Path]:
    """Return the complete checkpoints by step."""
    found: dict[int, Path] = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _COMPLETE.fullmatch(path.name)
        if match and (path / "DONE").exists():
            step = int(match[1] or match[2])
            found[step] = path if match[1] or step not in found else found[step]
    return found


def _replaced(target: Path) -> Path:
    return target.with_name(f".{target.name}.replaced")


def _best(complete: Mapping[int, Path], folder: Path) -> int | None:
    scores = {step: score for step, score in _scores(folder).items() if step in complete}
    return max(scores, key=lambda step: (scores[step], -step)) if scores else None


def _scores(folder: Path) -> dict[int, float]:
    path = folder / "scores.json"
    if not path.exists():
        return {}
    try:
        return {int(step): float(score) for step, score in read_json(path).items()}
    except (ManifestError, AttributeError, TypeError, ValueError) as e:
        raise CheckpointError(f"expected a score by step in {path}, found: {e}. Remove it to forget the scores") from e


def _sync_folder(folder: Path) -> None:
    """Make the names in a folder last through a power cut, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
