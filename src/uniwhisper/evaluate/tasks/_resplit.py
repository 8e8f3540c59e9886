"""Splits of a task's clips where the corpus's own leak, or where a layout of the corpus has none.

Guarantees: what comes out depends on the clips' ids, labels and groups alone, never on their order, on the machine or
on the version of a library, because the draws are SHA-256 hashes.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from uniwhisper.evaluate.tasks._spec import Parts, Resplit
from uniwhisper.types import Clip

__all__ = ["deal_folds", "deal_groups", "folds_by", "in_tars", "random_parts", "without_valid"]

_SEED = 0


def in_tars(clips: Sequence[Clip]) -> bool:
    """Return whether the clips come from X-ARES's tars rather than from the publisher's files."""
    return all(clip.path.endswith(".tar") for clip in clips)


def folds_by(number: Callable[[Clip], int], note: str) -> Resplit:
    """Return a split into `fold<number(clip)>`, with `note` where the corpus's own splits are others."""

    def split(clips: Sequence[Clip]) -> Parts:
        splits = tuple(f"fold{number(clip)}" for clip in clips)
        return Parts(splits=splits, note="" if splits == _own(clips) else note)

    return split


def deal_folds(clips: Sequence[Clip], num_folds: int) -> tuple[str, ...]:
    """Return a random fold for every clip: folds of equal size, each label spread evenly over them."""
    order = sorted(range(len(clips)), key=lambda i: (clips[i].annotation.labels, _draw(clips[i].id)))
    return _placed(len(clips), [(i, place % num_folds) for place, i in enumerate(order)])


def deal_groups(clips: Sequence[Clip], groups: Sequence[str], num_folds: int) -> tuple[str, ...]:
    """Return a fold for every clip, no group in two: the largest group first, each where its labels are rarest.

    The cost of a fold is sum_c n_c^2 / N_c over labels c, plus the same for its size; a group goes where it adds least.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for i, group in enumerate(groups):
        members[group].append(i)
    total = Counter(label for clip in clips for label in clip.annotation.labels)
    counts: list[Counter[str]] = [Counter() for _ in range(num_folds)]
    sizes = [0] * num_folds
    dealt: list[tuple[int, int]] = []
    for group in sorted(members, key=lambda group: (-len(members[group]), _draw(group))):
        rows = members[group]
        found = Counter(label for i in rows for label in clips[i].annotation.labels)

        def added(fold: int, n: int = len(rows), found: Counter[str] = found) -> float:
            labels = sum(k * (2 * counts[fold][label] + k) / total[label] for label, k in found.items())
            return labels + n * (2 * sizes[fold] + n) / len(clips)

        fold = min(range(num_folds), key=added)
        counts[fold] += found
        sizes[fold] += len(rows)
        dealt += [(i, fold) for i in rows]
    return _placed(len(clips), dealt)


def random_parts(clips: Sequence[Clip], held_out: float) -> tuple[str, ...]:
    """Return train, valid or test for every clip, at random; `held_out` is the share of valid and of test."""
    order = sorted(range(len(clips)), key=lambda i: _draw(clips[i].id))
    size = max(1, int(len(clips) * held_out))
    splits = ["train"] * len(clips)
    for place, i in enumerate(order[: 2 * size]):
        splits[i] = "test" if place < size else "valid"
    return tuple(splits)


def without_valid(clips: Sequence[Clip]) -> Parts:
    """Return the corpus's splits without its validation part, where X-ARES validates on the test part instead."""
    unused = sum(clip.split == "valid" for clip in clips)
    note = f"{unused} clips of the publisher's validation part are unused: X-ARES validates on the test part"
    return Parts(
        splits=tuple("" if clip.split == "valid" else clip.split for clip in clips), note=note if unused else ""
    )


def _own(clips: Sequence[Clip]) -> tuple[str, ...]:
    return tuple(clip.split for clip in clips)


def _draw(text: str) -> str:
    return hashlib.sha256(f"{_SEED}:{text}".encode()).hexdigest()


def _placed(num_clips: int, dealt: Sequence[tuple[int, int]]) -> tuple[str, ...]:
    splits = [""] * num_clips
    for i, fold in dealt:
        splits[i] = f"fold{fold + 1}"
    return tuple(splits)
