"""Evaluation tasks: one module a task with `SPEC`; this folder is the registry.

A task is a declaration over a converted corpus: which clips, which label, whose splits under which protocol, and how
its scores count. `build_task` turns it into a `Task`. Modules are imported only when asked for; adding one touches no
list.

Source: the paper, Table 2 (tasks, metrics, weights); https://github.com/jimbozhang/xares v0.1.3 (settings, splits).
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.tasks._build import build_task
from uniwhisper.evaluate.tasks._spec import SUITES, Parts, Resplit, TaskSpec

__all__ = [
    "SUITES",
    "Parts",
    "Resplit",
    "TaskSpec",
    "build_task",
    "get_task",
    "list_suites",
    "list_tasks",
    "suite",
]

_DOMAIN_ORDER = ("speech", "music", "sound")
"""As in the paper's tables."""


def list_tasks() -> tuple[str, ...]:
    """Return the names of all tasks, sorted, without importing them."""
    return tuple(sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_")))


def get_task(name: str) -> TaskSpec:
    """Return the declaration of task `name`.

    Raises:
        TaskError: There is no such task; the message names those that are spelt alike.
    """
    known = list_tasks()
    if name not in known:
        raise TaskError(f"expected one of the tasks {', '.join(known)}; found {name!r}{_alike(name, known)}")
    return importlib.import_module(f"{__name__}.{name}").SPEC


def list_suites() -> tuple[str, ...]:
    """Return the names of all suites (named groups of tasks), sorted; `SUITES` describes them."""
    return tuple(sorted(SUITES))


def suite(name: str) -> tuple[TaskSpec, ...]:
    """Return the tasks that declare themselves members of suite `name`: speech, music, sound, each by name.

    Raises:
        TaskError: There is no such suite; the message names those there are.
    """
    if name not in SUITES:
        known = list_suites()
        raise TaskError(f"expected one of the suites {', '.join(known)}; found {name!r}{_alike(name, known)}")
    members = [spec for spec in map(get_task, list_tasks()) if name in spec.suites]
    return tuple(sorted(members, key=lambda spec: (_DOMAIN_ORDER.index(spec.domain), spec.name)))


def _alike(name: str, known: tuple[str, ...]) -> str:
    alike = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(alike)}?" if alike else ""
