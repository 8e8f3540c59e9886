from __future__ import annotations

from pathlib import Path

import pytest

from .inputs import AFTER, BEFORE, make_results


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Results of two encoders on three tasks."""
    before = make_results(tmp_path / "before", BEFORE)
    return before, make_results(tmp_path / "after", AFTER, name="quickstart")
