"""Small random models, made once a session each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .small import MAKERS


@pytest.fixture(scope="session")
def model_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from the name of a maker to the folder or file it wrote."""
    made: dict[str, Path] = {}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = MAKERS[name](tmp_path_factory.mktemp("encoders") / name)
        return made[name]

    return of
