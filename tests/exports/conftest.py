"""A random Whisper, and a loader of written files as the harnesses load them: by name, from their folder."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from tiny import tiny_whisper
from uniwhisper.embed import AudioEmbedder, load
from uniwhisper.exports import write_export

NUMBERS = itertools.count()
Export = Callable[..., ModuleType]


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("exported") / "whisper", width=32, heads=2, layers=1)


@pytest.fixture
def embedder(whisper: Path) -> AudioEmbedder:
    return load(whisper)


@pytest.fixture
def export(whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Return a function that writes an export and imports it by its module name."""

    def write(format_name: str, model: str | None = None) -> ModuleType:
        file = write_export(format_name, model or str(whisper), tmp_path / f"exported_{next(NUMBERS)}.py")
        monkeypatch.syspath_prepend(str(tmp_path))
        importlib.invalidate_caches()
        return importlib.import_module(file.stem)

    return write
