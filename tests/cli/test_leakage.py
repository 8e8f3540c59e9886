from __future__ import annotations

import json
from pathlib import Path

import pytest
import soundfile

from tiny import tone
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.manifest import read_manifest, write_manifest
from uniwhisper.sources.table import read_table

from .conftest import Cli


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """A training table of four clips, of which one shares an identifier and one is a copy, and an evaluation table."""
    for name in ("a", "b", "c", "d", "x", "y"):
        soundfile.write(tmp_path / f"{name}.wav", tone(0.6, 300 + 50 * ord(name), seed=ord(name)), SAMPLE_RATE)
    (tmp_path / "b.wav").write_bytes((tmp_path / "y.wav").read_bytes())
    rows = ["path,label,upstream", "a.wav,dog,freesound:137", "b.wav,dog,", "c.wav,cat,", "d.wav,cat,freesound:4"]
    (tmp_path / "train.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    rows = ["path,label,upstream", "x.wav,dog,freesound:137", "y.wav,dog,"]
    (tmp_path / "kept.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return tmp_path / "train.csv", tmp_path / "kept.csv"


def test_what_is_found_and_what_is_left(cli: Cli, sides: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = cli("leakage", *sides, "--out", out, "--workers", 1)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "train: 2 clips of kept",
        "2 of 4 training clips removed (1 by identifier, 1 by hash, 0 by fingerprint), 2 left; 2 evaluation clips",
        str(out / "leakage.html"),
    ]
    assert [clip.id for clip in read_manifest(out / "manifest.jsonl")] == ["c.wav", "d.wav"]
    assert (out / "leakage.html").read_text(encoding="utf-8").count("<audio") == 4
    again = cli("leakage", *sides, "--out", out, "--workers", 1)
    assert "2 evaluation clips (was finished already)" in again.stdout


def test_strict_ends_with_exit_code_1(cli: Cli, sides: tuple[Path, Path], tmp_path: Path) -> None:
    train, kept = sides
    result = cli("leakage", train, kept, "--out", tmp_path / "out", "--stage", "identifier", "--strict")
    assert result.exit_code == 1
    assert result.stdout.endswith(f"{tmp_path / 'out' / 'leakage.html'}\n")
    assert (
        cli(
            "leakage", tmp_path / "out", kept, "--out", tmp_path / "more", "--stage", "identifier", "--strict"
        ).exit_code
        == 0
    )
    assert len((tmp_path / "out" / "manifest.jsonl").read_text(encoding="utf-8").splitlines()) == 3


def test_several_inputs_of_every_kind(cli: Cli, sides: tuple[Path, Path], tmp_path: Path) -> None:
    train, kept = sides
    folder = tmp_path / "made"
    write_manifest(folder / "manifest.jsonl", read_table(kept))
    (tmp_path / "task2.csv").write_text("path,label,dataset\ny.wav,loud,kept\n", encoding="utf-8")
    arguments = (train, folder, "--eval", tmp_path / "task2.csv", "--eval", kept)
    result = cli("leakage", *arguments, "--out", tmp_path / "out", "--stage", "hash", "--workers", 1)
    assert result.exit_code == 0, result.output
    assert (
        "1 of 4 training clips removed (0 by identifier, 1 by hash, 0 by fingerprint), 3 left; 5 evalu" in result.stdout
    )


def test_blacklists_alone(cli: Cli, sides: tuple[Path, Path], tmp_path: Path) -> None:
    train, _ = sides
    result = cli("leakage", train, "--shipped-blacklists", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[0] == "train: 1 clips of esc50"
    listed = tmp_path / "theirs.json"
    listed.write_text(json.dumps({"FreeSound": ["4"], "AudioSet": []}), encoding="utf-8")
    result = cli("leakage", train, "--blacklist", listed, "--shipped-blacklists", "--out", tmp_path / "out")
    assert result.stdout.splitlines()[:2] == ["train: 1 clips of esc50", "train: 1 clips of theirs"]


def test_clips_that_cannot_be_judged(cli: Cli, sides: tuple[Path, Path], tmp_path: Path) -> None:
    train, kept = sides
    out = tmp_path / "out"
    write_manifest(tmp_path / "made" / "manifest.jsonl", read_table(train))
    (tmp_path / "c.wav").write_bytes(b"nothing")
    soundfile.write(tmp_path / "d.wav", tone(0.05, 300), SAMPLE_RATE)
    arguments = ("leakage", tmp_path / "made", kept, "--out", out, "--workers", 1)
    result = cli(*arguments)
    assert result.exit_code == 1
    assert "Error: expected at most 0 of the 4 train clips of train (1.0%) to be unreadable" in result.stderr
    result = cli(*arguments, "--tolerance", 0.5)
    assert result.exit_code == 0, result.output
    assert "2 training clips left out, because their audio cannot be read\n" in result.stdout
    assert f"2 clips could not be judged by their sound: {out / 'unheard.jsonl'}\n" in result.stdout


def test_nothing_to_look_for(cli: Cli, sides: tuple[Path, Path], tmp_path: Path) -> None:
    result = cli("leakage", sides[0], "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert result.stderr.endswith("Error: Give EVAL, or a blacklist: --blacklist FILE or --shipped-blacklists.\n")
    assert not (tmp_path / "out").exists()


def test_the_folder_of_the_training_clips_is_not_overwritten(
    cli: Cli, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    train, kept = sides
    write_manifest(tmp_path / "made" / "manifest.jsonl", read_table(train))
    result = cli("leakage", tmp_path / "made", kept, "--out", tmp_path / "made")
    assert result.exit_code == 1
    assert "to be new, empty or of an earlier search, found manifest.jsonl: give another folder" in result.stderr


def test_help_names_the_stages(cli: Cli) -> None:
    from uniwhisper.cli.leakage import STAGES
    from uniwhisper.dedup.twins import STAGES as KNOWN

    assert STAGES == KNOWN
    assert "Find clips of EVAL among those of TRAIN" in cli("leakage", "--help").stdout
