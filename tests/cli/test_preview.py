from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Cli

FIXTURES = Path(__file__).parents[1] / "fixtures"


def test_the_page_is_written_where_it_is_wanted(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("preview", "clotho", FIXTURES / "clotho" / "root", "--clips", 2)
    assert result.exit_code == 0, result.output
    assert result.stdout == "clotho: 2 of 5 clips\npreview-clotho.html\n"
    assert (tmp_path / "preview-clotho.html").read_text(encoding="utf-8").count("<article") == 2
    result = cli(
        "preview", "wavcaps", FIXTURES / "wavcaps" / "root", "--out", tmp_path / "to" / "page.html", "--seed", 3
    )
    assert result.stdout == f"wavcaps: 4 of 4 clips, 1 left out by the source\n{tmp_path / 'to' / 'page.html'}\n"
    assert (tmp_path / "to" / "page.html").is_file()


def test_no_such_source_or_folder(cli: Cli, tmp_path: Path) -> None:
    result = cli("preview", "esc51", tmp_path)
    assert result.exit_code == 1
    assert "found 'esc51'; did you mean esc50?" in result.stderr
    assert cli("preview", "esc50", tmp_path / "none").exit_code == 2
    assert cli("preview", "esc50", tmp_path, "--clips", 0).exit_code == 2
