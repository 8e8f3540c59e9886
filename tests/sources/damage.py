"""Copies of fixtures with one thing wrong, for the tests that a source names it."""

from __future__ import annotations

import shutil
from pathlib import Path

from .conversion import FIXTURES


def copied(name: str, tmp_path: Path, layout: str = "root") -> Path:
    """Return a copy of the fixture of source `name` that a test may change."""
    return shutil.copytree(FIXTURES / name / layout, tmp_path / layout)


def damaged(name: str, tmp_path: Path, file: str, old: str, new: str) -> Path:
    """Return a copy of the fixture of source `name` in whose `file` the first `old` has become `new`."""
    root = copied(name, tmp_path)
    text = (root / file).read_text(encoding="utf-8")
    assert old in text, "nothing would be damaged"
    (root / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    return root
