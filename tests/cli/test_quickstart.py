from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from .conftest import Cli


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Stand in for the pipeline and return the folders that it is called with."""
    folders: list[Path] = []

    def run(out: Path) -> str:
        folders.append(out)
        return f"the table\n{out / 'report.html'}"

    module = ModuleType("uniwhisper.quickstart")
    module.__dict__["run"] = run
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return folders


def test_default_and_given_folder(cli: Cli, called: list[Path], tmp_path: Path) -> None:
    assert cli("quickstart").exit_code == 0
    result = cli("quickstart", "--out", tmp_path)
    assert (result.exit_code, result.stdout) == (0, f"the table\n{tmp_path / 'report.html'}\n")
    assert called == [Path("runs/quickstart"), tmp_path]


def test_out_must_be_a_folder(cli: Cli, called: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = cli("quickstart", "--out", tmp_path / "file")
    assert result.exit_code == 2
    assert result.stderr.endswith(f"Directory '{tmp_path / 'file'}' is a file.\n")
    assert called == []
