"""Weighted averages of scores over tasks, where a task may lack a score.

Plain functions of numbers. Guarantees: a task without a score counts in neither sum, and is named.
Source: UniWhisper, section 3.1: S = sum(n_i M_i) / sum(n_i) with the weights n_i of Table 2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from uniwhisper.errors import ReportError

__all__ = ["Average", "weighted_average"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Average:
    """A weighted average and what it rests on."""

    score: float | None
    """None where no task has a score."""
    used: tuple[str, ...]
    """Tasks in the average."""
    missing: tuple[str, ...]
    """Tasks that have a weight and no score."""


def weighted_average(scores: Mapping[str, float | None], weights: Mapping[str, float | None]) -> Average:
    """Return the average of `scores`, weighted by `weights`, over the tasks that have both.

    Args:
        scores: Task -> score; None, or no entry, where there is none.
        weights: Task -> weight; None, or no entry, where the task does not count.

    Raises:
        ReportError: A weight is negative, or a weight or score is not a finite number.
    """
    counted = {name: weight for name, weight in weights.items() if weight is not None}
    used = {name: score for name in counted if (score := scores.get(name)) is not None}
    for name in counted:
        if not (counted[name] >= 0 and math.isfinite(counted[name]) and math.isfinite(used.get(name, 0.0))):
            raise ReportError(
                f"expected finite scores and weights of 0 or more, found {used.get(name)} with weight {counted[name]} "
                f"for task {name!r}"
            )
    total = math.fsum(counted[name] for name in used)
    score = math.fsum(counted[name] * value for name, value in used.items()) / total if total else None
    return Average(score=score, used=tuple(used), missing=tuple(name for name in counted if name not in used))
