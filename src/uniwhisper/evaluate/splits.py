"""Decide, for every test part of a task, which clips train and which clips choose.

Reads: a task. Returns: a plan of folds with row indices.
Guarantees under protocol `strict`: train, valid and test are disjoint and non-empty in every fold; no group of the test
part trains or chooses (unless the caller allows it, which the plan's notes record); test labels are never looked at.
Under protocol `xares` the folds are X-ARES's, faults included: the test part chooses where X-ARES lets it, and groups
stay where they are; the notes say so.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from uniwhisper.errors import ConfigError, TaskError
from uniwhisper.evaluate.task import PROTOCOLS, ProtocolName, Task

__all__ = ["OVERLAP_POLICIES", "Fold", "Overlap", "Plan", "carve_valid", "make_plan"]

Overlap = Literal["error", "drop", "allow"]
OVERLAP_POLICIES: tuple[Overlap, ...] = ("error", "drop", "allow")
"""What to do with a group on both sides: refuse the task, leave its clips out of train and valid, or keep them."""

VALID_SHARE = 0.2
"""Share of the training clips that choose, where the table names no validation part."""
MIN_VALID_LEFT = 0.5
"""A validation part that keeps less of itself, after tested groups are dropped, is replaced by one from training."""

_NO_LABEL = ("",)
"""Stands for the label of clips in `frame` and `asr` tasks: nothing to stratify by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fold:
    """One training and one test: row indices, ascending; under protocol `xares`, valid may be test."""

    name: str
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """Every fold of a task, and what a reader of the scores should know about them."""

    scheme: str
    """`train/valid/test`, `train/test` or `<k>-fold`."""
    folds: tuple[Fold, ...]
    notes: tuple[str, ...]


def make_plan(task: Task, *, protocol: ProtocolName = "strict", seed: int = 0, overlap: Overlap | None = None) -> Plan:
    """Return the task's folds.

    `strict`: with k >= 3 folds, fold i tests, the next fold (cyclic) chooses, the others train; with two folds, or
    without a validation part, a fifth of the training part is set aside to choose, by group and stratified by label.
    `xares`: with folds, fold i tests and chooses, all others train; without a validation part, the test part chooses.

    Args:
        task: The task.
        protocol: Whose rules; `seed` and `overlap` mean nothing to `xares`.
        seed: Seeds the choice of the validation part where the task has none.
        overlap: What to do with a group that is in the test part and outside it. By default `error` for a user's
            table, where it is a mistake, and `drop` for a known corpus, some of whose official folds share recordings.

    Raises:
        TaskError: The splits cannot make a train, valid and test part, or a group is on both sides.
        ConfigError: `protocol` or `overlap` is unknown.

    Source: folds and selection of `xares`: https://github.com/jimbozhang/xares v0.1.3, src/xares/task.py (run_mlp).
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"expected protocol to be one of {', '.join(PROTOCOLS)}; found {protocol!r}")
    overlap = overlap or ("drop" if task.source else "error")
    if overlap not in OVERLAP_POLICIES:
        raise ConfigError(f"expected overlap to be one of {', '.join(OVERLAP_POLICIES)}; found {overlap!r}")
    names = set(task.splits)
    rows = {name: np.flatnonzero(np.array(task.splits) == name) for name in names}
    notes: list[str] = []
    if names <= {"train", "valid", "test"}:
        scheme, parts = _named_parts(task, rows)
    elif all(name.startswith("fold") for name in names):
        scheme, parts = _fold_parts(task, rows, nested=protocol == "strict")
    else:
        raise TaskError(f"{task.where}: expected either train/valid/test or folds, found both: {sorted(names)}")
    if protocol == "xares":
        folds = tuple(_as_xares(task, part, notes) for part in parts)
    else:
        folds = tuple(_finish(task, part, seed=seed, overlap=overlap, notes=notes) for part in parts)
    return Plan(scheme=scheme, folds=folds, notes=tuple(dict.fromkeys(notes)))


def _named_parts(task: Task, rows: dict[str, np.ndarray]) -> tuple[str, list[Fold]]:
    for name in ("train", "test"):
        if name not in rows:
            raise TaskError(f"{task.where}: expected clips with split {name!r}, found only {sorted(rows)}")
    empty = np.array([], dtype=np.int64)
    part = Fold(name="test", train=rows["train"], valid=rows.get("valid", empty), test=rows["test"])
    return "train/valid/test" if "valid" in rows else "train/test", [part]


def _fold_parts(task: Task, rows: dict[str, np.ndarray], *, nested: bool) -> tuple[str, list[Fold]]:
    """Return a part for every fold that tests it; `nested` takes the next fold out of training to choose."""
    names = sorted(rows, key=lambda name: int(name.removeprefix("fold")))
    if len(names) < 2:
        raise TaskError(f"{task.where}: expected at least two folds, found only {names[0]}")
    parts = []
    for i, name in enumerate(names):
        following = names[(i + 1) % len(names)] if nested and len(names) > 2 else None
        others = [rows[other] for other in names if other not in (name, following)]
        valid = rows[following] if following else np.array([], dtype=np.int64)
        parts.append(Fold(name=name, train=np.sort(np.concatenate(others)), valid=valid, test=rows[name]))
    return f"{len(names)}-fold", parts


def _as_xares(task: Task, part: Fold, notes: list[str]) -> Fold:
    """Return `part` as X-ARES runs it; what a careful reader would object to is added to `notes`."""
    if task.groups is not None:
        tested = {task.groups[i] for i in part.test}
        shared = tested & {task.groups[i] for i in part.train}
        if shared:
            found = f"{len(shared)} of {len(tested)} {task.group_kind}(s) in {part.name}"
            notes.append(f"as in X-ARES, {found} are trained on as well")
    _note_untrained(task, part.train, part, notes)
    if len(part.valid):
        return part
    notes.append("as in X-ARES, the best epoch is chosen on the test part itself")
    return replace(part, valid=part.test)


def _finish(task: Task, part: Fold, *, seed: int, overlap: Overlap, notes: list[str]) -> Fold:
    """Return `part` with group overlap resolved and a validation part; what was done is added to `notes`."""
    train, valid = part.train, part.valid
    if task.groups is not None:
        shared = {task.groups[i] for i in part.test} & {task.groups[i] for i in np.concatenate([train, valid])}
        if shared:
            train, valid = _resolve_overlap(task, part, shared, overlap, notes)
    if not len(valid) and len(train) > 1:
        groups = None if task.groups is None else [task.groups[i] for i in train]
        labels = [task.labels[i] for i in train] if task.labels else [_NO_LABEL] * len(train)
        chosen, by_group = carve_valid(labels, groups, seed=seed)
        if not by_group:
            notes.append(f"validation part of {part.name} was set aside by clip: the training part is one group")
        train, valid = train[~chosen], train[chosen]
    if not len(train) or not len(valid):
        raise TaskError(
            f"{task.where}: {part.name}: expected training and validation clips, found {len(train)} and {len(valid)}. "
            "Add training clips, or name some of them valid"
        )
    _note_untrained(task, train, part, notes)
    return Fold(name=part.name, train=train, valid=valid, test=part.test)


def _note_untrained(task: Task, train: np.ndarray, part: Fold, notes: list[str]) -> None:
    """Add a note where no class of a test clip is among the training clips."""
    if not task.labels:
        return
    known = {label for i in train for label in task.labels[i]}
    unknown = sum(not known.intersection(task.labels[i]) for i in part.test)
    if unknown:
        notes.append(f"{unknown} of {len(part.test)} clips of {part.name} have a class that is never trained on")


def _resolve_overlap(
    task: Task, part: Fold, shared: set[str], overlap: Overlap, notes: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    groups = task.groups or ()
    names = ", ".join(sorted(shared)[:3]) + (", ..." if len(shared) > 3 else "")
    found = f"{len(shared)} {task.group_kind}(s) both in {part.name} and outside it: {names}"
    if overlap == "error":
        raise TaskError(
            f"{task.where}: expected each {task.group_kind} on one side of the split, found {found}. "
            "Move them to one side, or run with overlap 'drop' (leave them out of training) or 'allow' (keep the "
            "leak); either is recorded in the results"
        )
    if overlap == "allow":
        notes.append(f"leak allowed: {found}")
        return part.train, part.valid
    train = np.array([i for i in part.train if groups[i] not in shared], dtype=np.int64)
    valid = np.array([i for i in part.valid if groups[i] not in shared], dtype=np.int64)
    dropped = len(part.train) + len(part.valid) - len(train) - len(valid)
    notes.append(f"{dropped} clips left out of train and valid: {found}")
    if len(valid) < MIN_VALID_LEFT * len(part.valid):
        notes.append(f"too little is left of the validation part of {part.name}: another is set aside from training")
        return np.sort(np.concatenate([train, valid])), valid[:0]
    return train, valid


def carve_valid(
    labels: Sequence[tuple[str, ...]], groups: Sequence[str] | None, *, seed: int, share: float = VALID_SHARE
) -> tuple[np.ndarray, bool]:
    """Return a mask of the clips that choose, and whether they were taken by whole groups.

    Groups are visited in a seeded order; one is taken where that brings the label counts nearer to `share` of the
    whole (chi-square distance) and leaves every one of its labels to train on.

    Args:
        labels: Labels of every training clip.
        groups: Group of every training clip; None takes clip by clip.
        seed: Seeds the order of visits.
        share: Wanted share of every label's clips.
    """
    by_group = groups is not None and len(set(groups)) > 1
    members: dict[object, list[int]] = defaultdict(list)
    for i in range(len(labels)):
        members[groups[i] if by_group and groups is not None else i].append(i)
    units = list(members.values())
    left = Counter(label for clip in labels for label in clip)
    wanted = {label: share * count for label, count in left.items()}
    taken: Counter[str] = Counter()
    mask = np.zeros(len(labels), dtype=bool)
    for u in np.random.default_rng(seed).permutation(len(units)):
        counts = Counter(label for i in units[u] for label in labels[i])
        if any(left[label] <= count for label, count in counts.items()):
            continue
        # change of sum_c (taken_c - wanted_c)^2 / wanted_c when this unit is taken
        change = sum(n * (2 * (taken[c] - wanted[c]) + n) / wanted[c] for c, n in counts.items())
        if change < 0:
            mask[units[u]] = True
            taken += counts
            left -= counts
    if not mask.any():
        mask[min(units, key=len)] = True  # with so few clips, no choice keeps the label shares
    return mask, groups is None or by_group
