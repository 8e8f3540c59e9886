from __future__ import annotations

from pathlib import Path

from uniwhisper.manifest import read_manifest

from .conftest import Cli

TABLE = Path(__file__).parents[1] / "fixtures" / "table" / "root" / "clips.csv"


def test_table_as_an_argument_or_as_root(cli: Cli, tmp_path: Path) -> None:
    first = cli("convert", "table", TABLE, "--out", tmp_path / "a")
    second = cli("convert", "table", "--root", TABLE, "--out", tmp_path / "b")
    assert first.exit_code == second.exit_code == 0, first.output
    assert first.stdout.splitlines()[0] == "table: 3 clips, 0.00 hours"
    assert first.stdout.splitlines()[1] == str(tmp_path / "a" / "manifest.jsonl")
    assert read_manifest(tmp_path / "a" / "manifest.jsonl") == read_manifest(tmp_path / "b" / "manifest.jsonl")


def test_limit_and_second_run(cli: Cli, tmp_path: Path) -> None:
    arguments = ("convert", "table", TABLE, "--out", tmp_path, "--limit", 2)
    assert cli(*arguments).stdout.startswith("table: 2 clips, 0.00 hours\n")
    assert cli(*arguments).stdout.startswith("table: 2 clips, 0.00 hours (was finished already)\n")


def test_a_source_without_packages_needs_a_path(cli: Cli, tmp_path: Path) -> None:
    result = cli("convert", "table", "--out", tmp_path)
    assert result.exit_code == 1
    assert "give its root (uniwhisper convert table --root PATH)" in result.stderr


def test_path_given_twice(cli: Cli, tmp_path: Path) -> None:
    result = cli("convert", "table", TABLE, "--root", TABLE, "--out", tmp_path)
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: Give the corpus once: as PATH or as --root PATH.\n")
