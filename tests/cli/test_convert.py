from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import soundfile

from tiny import tone
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.manifest import read_manifest
from uniwhisper.sources import Conversion

from .conftest import Cli

FIXTURES = Path(__file__).parents[1] / "fixtures"
TABLE = FIXTURES / "table" / "root" / "clips.csv"


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


def test_a_dry_run_counts_and_writes_nothing(cli: Cli, tmp_path: Path) -> None:
    root = FIXTURES / "wavcaps" / "root"
    result = cli("convert", "wavcaps", root, "--dry-run", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "json_files/AudioSet_SL/as_final.json: 1 rows",
        "json_files/BBC_Sound_Effects/bbc_final.json: 1 rows",
        "json_files/FreeSound/fsd_final.json: 2 rows",
        "json_files/SoundBible/sb_final.json: 1 rows",
        "wavcaps: 4 clips (4 train)",
        "dropped: 1 x no caption",
    ]
    assert not (tmp_path / "out").exists()
    assert cli("convert", "wavcaps", "--root", root, "--dry-run").stdout == result.stdout


def test_a_dry_run_of_annotations_that_are_broken(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "clips.csv").write_text("path,label\na.wav\n", encoding="utf-8")
    result = cli("convert", "table", tmp_path / "clips.csv", "--dry-run")
    assert result.exit_code == 1
    assert "clips.csv:2: expected 2 cells as in the header, found 1" in result.stderr


def test_a_dry_run_needs_a_path(cli: Cli) -> None:
    result = cli("convert", "esc50", "--dry-run")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: A dry run reads a folder that is there: give PATH.\n")


def test_out_is_needed(cli: Cli) -> None:
    result = cli("convert", "table", TABLE)
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: Missing option '--out': the folder to write.\n")


@pytest.mark.slow
def test_workers_change_nothing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniwhisper.sources._convert._CHUNK", 2)
    root = tmp_path / "own"
    for label, number in itertools.product(("dog", "cat"), range(4)):
        (root / label).mkdir(parents=True, exist_ok=True)
        soundfile.write(root / label / f"{number}.wav", tone(0.1 + number / 10, 300), SAMPLE_RATE)
    for workers in (1, 2):
        result = cli("convert", "folder", root, "--out", tmp_path / f"{workers}", "--workers", workers)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("folder: 8 clips, ")
    one, two = ((tmp_path / name / "manifest.jsonl").read_bytes() for name in ("1", "2"))
    assert one == two


def test_options_are_handed_on(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    def convert(name: str, out: Path, root: Path, **options: object) -> Conversion:
        given.update(options, name=name, out=out, root=root)
        return Conversion(manifest=out / "manifest.jsonl", num_clips=3, hours=1.5, num_dropped=2, reused=False)

    monkeypatch.setattr("uniwhisper.sources.convert_source", convert)
    options = ("--workers", 3, "--engine", "ray", "--limit", 7)
    result = cli("convert", "table", TABLE, "--out", tmp_path, *options)
    assert given == {"name": "table", "out": tmp_path, "root": TABLE, "workers": 3, "engine": "ray", "limit": 7}
    assert result.stdout.startswith(f"table: 3 clips, 1.50 hours, 2 dropped (see {tmp_path / 'dropped.jsonl'})\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--workers", "-1"), "-1 is not in the range x>=0"),
        (("--engine", "dask"), "'dask' is not one of 'local', 'ray'"),
        (("--limit", "0"), "0 is not in the range x>=1"),
    ],
)
def test_options_that_make_no_sense(cli: Cli, arguments: tuple[str, str], message: str, tmp_path: Path) -> None:
    result = cli("convert", "table", TABLE, "--out", tmp_path, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
