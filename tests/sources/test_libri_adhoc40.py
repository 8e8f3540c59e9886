from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .conversion import FIXTURES

CHAPTER = "adhoc40-train/pos 9u/60/121082"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES / "libri_adhoc40" / "root", tmp_path / "root")
    return tmp_path / "root"


def test_channels_of_an_utterance_share_its_identifier(root: Path) -> None:
    clips = [clip for clip in dry_run("libri_adhoc40", root).clips if clip.speaker == "60"]
    assert len({clip.id for clip in clips}) == 3
    assert {clip.upstream_ids for clip in clips} == {("librispeech:60-121082-0000",)}


def test_a_strange_file_name_is_named(root: Path) -> None:
    (root / CHAPTER / "60-121082-0000-ch1.wav").touch()
    with pytest.raises(LayoutError, match=r"60-121082-0000-ch1\.wav: expected a name <utterance>-ch-<number>\.wav"):
        dry_run("libri_adhoc40", root)


def test_an_unknown_reader_is_named(root: Path) -> None:
    (root / "adhoc40-dev/pos 5/1272").rename(root / "adhoc40-dev/pos 5/99")
    with pytest.raises(LayoutError, match=r"pos 5/99/128104: expected a reader of SPEAKERS\.TXT, found 99"):
        dry_run("libri_adhoc40", root)


def test_missing_texts_are_asked_for(root: Path) -> None:
    shutil.rmtree(root / "LibriSpeech/dev-clean")
    with pytest.raises(LayoutError, match=r"expected the annotation file .*dev-clean/1272/128104/1272-128104\.trans"):
        dry_run("libri_adhoc40", root)


def test_a_folder_without_parts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="expected one of adhoc40-train, adhoc40-dev, adhoc40-test"):
        dry_run("libri_adhoc40", tmp_path)
