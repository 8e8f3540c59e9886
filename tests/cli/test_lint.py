from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile

from tiny import tone
from uniwhisper.audio import SAMPLE_RATE

from .conftest import Cli

FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder of two labels with four files each."""
    for label in ("dog", "cat"):
        (tmp_path / "own" / label).mkdir(parents=True)
        for number in range(4):
            soundfile.write(tmp_path / "own" / label / f"{number}.wav", tone(0.2, 300), SAMPLE_RATE)
    return tmp_path / "own"


def test_nothing_found(cli: Cli, own: Path) -> None:
    for options in ((), ("--decode",)):
        result = cli("lint", "folder", own, "--workers", 1, *options)
        assert result.exit_code == 0, result.output
        assert result.stdout.splitlines() == [
            *(line for line in result.stdout.splitlines() if line.endswith(" rows")),
            "folder: 8 clips, 0.00 hours readable, 0 left out",
            "nothing found",
        ]


def test_warnings_alone_are_no_failure(cli: Cli, tmp_path: Path) -> None:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", tone(0.2, 300), SAMPLE_RATE)
    rows = ["path,label,split,group", "a.wav,dog,train,one", "b.wav,dog,test,one"]
    (tmp_path / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    result = cli("lint", "table", tmp_path / "clips.csv", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "clips.csv: 2 rows",
        "table: 2 clips, 0.00 hours readable, 0 left out",
        "warning: a group of clips stands in several splits (1)",
        "    one: test, train",
        "no errors",
    ]


def test_errors_end_with_exit_code_1(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "esc50"
    shutil.copytree(FIXTURES / "esc50" / "root", root)
    shutil.rmtree(root / "audio")
    result = cli("lint", "esc50", root, "--workers", 1)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[:4] == [
        "meta/esc50.csv: 5 rows",
        "esc50: 5 clips, 0.00 hours readable, 0 left out",
        "error: too many clips are left out or cannot be heard (1)",
        "    5 of 5 (100.0%), at most 0.0% may be",
    ]
    assert lines[4] == "warning: audio missing (5)"
    assert len(lines) == 10
    assert lines[-1] != "no errors"


def test_further_examples_are_counted(cli: Cli, own: Path, tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    table.write_text("path,label\n" + "".join(f"{number}.wav,dog\n" for number in range(9)), encoding="utf-8")
    result = cli("lint", "table", table, "--workers", 1)
    assert result.exit_code == 1
    assert "warning: audio missing (9)\n" in result.stdout
    assert "    and 4 more\n" in result.stdout


def test_annotations_that_cannot_be_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label\na.wav\n", encoding="utf-8")
    result = cli("lint", "table", tmp_path / "clips.csv")
    assert result.exit_code == 1
    assert "clips.csv:2: expected 2 cells as in the header, found 1" in result.stderr


def test_no_such_source_or_folder(cli: Cli, tmp_path: Path) -> None:
    result = cli("lint", "esc51", tmp_path)
    assert result.exit_code == 1
    assert "found 'esc51'; did you mean esc50?" in result.stderr
    assert cli("lint", "esc50", tmp_path / "none").exit_code == 2
