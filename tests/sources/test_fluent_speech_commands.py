from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run
from uniwhisper.sources._vocabulary import listed_vocabulary

from .conversion import FIXTURES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES / "fluent_speech_commands" / "root", tmp_path / "root")
    return tmp_path / "root"


def test_there_are_248_wordings() -> None:
    labels = listed_vocabulary("fluent_speech_commands").labels
    assert len(labels) == 248
    assert all(code == label for code, label in labels.items())


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,wavs/a.wav,aaaaAAAA00001111,Make me a sandwich,bring,food,none", "expected one of the 248 labels"),
        ("1,wavs/a.wav,nobody,Volume up,increase,volume,none", r"expected a speaker of speaker_demographics\.csv"),
        ("1,../a.wav,aaaaAAAA00001111,Volume up,increase,volume,none", "expected a path below the corpus's folder"),
        ("1,wavs/a.wav,aaaaAAAA00001111,Volume up", "expected 7 cells"),
    ],
)
def test_a_broken_row_is_named(root: Path, row: str, message: str) -> None:
    path = root / "fluent_speech_commands_dataset/data/train_data.csv"
    header = path.read_text().splitlines()[0]
    path.write_text(f"{header}\n{row}\n")
    with pytest.raises(LayoutError, match=rf"train_data\.csv:2: {message}"):
        dry_run("fluent_speech_commands", root)


def test_root_may_be_the_folder_itself(root: Path) -> None:
    assert len(dry_run("fluent_speech_commands", root / "fluent_speech_commands_dataset").clips) == 5
