from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import convert_source, dry_run
from uniwhisper.sources._vocabulary import listed_vocabulary

from .conversion import FIXTURES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES / "speech_commands_v1" / "root", tmp_path / "root")
    return tmp_path / "root"


def test_there_are_thirty_words() -> None:
    assert len(listed_vocabulary("speech_commands_v1").labels) == 30


def test_without_a_list_its_clips_would_be_taken_for_training(root: Path, tmp_path: Path) -> None:
    (root / "validation_list.txt").unlink()
    with pytest.raises(LayoutError, match=r"expected .*validation_list\.txt"):
        convert_source("speech_commands_v1", tmp_path / "out", root)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("backward/00cccccc_nohash_0.wav", "expected one of the 30 labels"),
        ("cat/00cccccc.wav", "expected <word>/<speaker>_nohash_<take>.wav"),
        ("../cat/00cccccc_nohash_0.wav", "expected a path below the corpus's folder"),
    ],
)
def test_a_broken_line_is_named(root: Path, line: str, message: str) -> None:
    (root / "testing_list.txt").write_text(f"cat/00cccccc_nohash_1.wav\n{line}\n")
    with pytest.raises(LayoutError, match=rf"testing_list\.txt:2: {message}"):
        dry_run("speech_commands_v1", root)


def test_a_folder_that_is_no_word_is_named(root: Path) -> None:
    (root / "backward").mkdir()
    (root / "backward/00dddddd_nohash_0.wav").touch()
    with pytest.raises(LayoutError, match=r"backward/00dddddd_nohash_0\.wav: expected one of the 30 labels"):
        dry_run("speech_commands_v1", root)
