from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run
from uniwhisper.sources._context import Context
from uniwhisper.sources._librispeech import SUBSETS, read_readers, read_table

from .conversion import FIXTURES


@pytest.fixture
def root(tmp_path: Path) -> Path:
    shutil.copytree(FIXTURES / "librispeech" / "root" / "LibriSpeech", tmp_path / "LibriSpeech")
    return tmp_path / "LibriSpeech"


def context(root: Path) -> Context:
    return Context(source="librispeech", out_dir=root)


def test_cells_may_hold_separators_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "BOOKS.TXT"
    path.write_bytes(b"; a comment\n124    | Books of the Bible\r Apocrypha     | \n17 | Title | One | Two\n9\n")
    ctx = context(tmp_path)
    rows = list(read_table(ctx, path, ("id", "title", "author")))
    assert [tuple(row.values()) for row in rows] == [
        ("124", "Books of the Bible Apocrypha", ""),
        ("17", "Title", "One | Two"),
        ("9", "", ""),
    ]
    assert ctx.rows[path] == 3, "comments are no rows"


def test_a_reader_without_gender_is_named(root: Path) -> None:
    (root / "SPEAKERS.TXT").write_text("; x\n60 | X | train-clean-100 | 20.18 | Someone\n")
    with pytest.raises(LayoutError, match=r"SPEAKERS\.TXT:2: expected a gender F or M, found 'X'"):
        read_readers(context(root), root / "SPEAKERS.TXT")


def test_root_may_be_the_folder_itself(root: Path) -> None:
    assert len(dry_run("librispeech", root).clips) == len(dry_run("librispeech", root.parent).clips) == 5


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1272-128104-0001", "expected an utterance <speaker>-<chapter>-<number> and its text"),
        ("1272-128104 WORDS", "expected an utterance"),
        ("77-128104-0001 WORDS", r"expected a reader of SPEAKERS\.TXT, found 77-128104-0001"),
    ],
)
def test_a_broken_line_is_named(root: Path, line: str, message: str) -> None:
    path = root / "dev-clean/1272/128104/1272-128104.trans.txt"
    path.write_text(f"1272-128104-0000 FINE\n{line}\n")
    with pytest.raises(LayoutError, match=rf"1272-128104\.trans\.txt:2: {message}"):
        dry_run("librispeech", root)


def test_a_folder_without_subsets_is_refused(root: Path) -> None:
    for subset in SUBSETS:
        shutil.rmtree(root / subset, ignore_errors=True)
    with pytest.raises(LayoutError, match=r"expected one of train-clean-100, .* found none of them"):
        dry_run("librispeech", root)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"speaker": 60', '"speaker": 61', "expected speaker 60, found 61"),
        ('"gender": "M"', '"gender": "?"', "expected a gender F or M, found '\\?'"),
        ('"trans"', '"tranz"', "expected a text 'trans', found None"),
    ],
)
def test_a_broken_sample_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    shutil.copytree(FIXTURES / "librispeech" / "xares", tmp_path / "xares")
    path = tmp_path / "xares/train-clean-100-000000.tar"
    content = path.read_bytes()
    assert len(old) == len(new)
    assert old.encode() in content
    path.write_bytes(content.replace(old.encode(), new.encode()))
    with pytest.raises(LayoutError, match=rf"train-clean-100-000000\.tar:60-121082-0000\.flac: {message}"):
        dry_run("librispeech", tmp_path / "xares")


def test_every_subset_has_a_split() -> None:
    rows = [json.loads(line) for line in (FIXTURES / "librispeech/expected.jsonl").read_text("utf-8").splitlines()]
    clips = [row for row in rows if "dropped" not in row]
    assert clips
    assert all(clip["split"] == SUBSETS[clip["annotation"]["metadata"]["subset"]] for clip in clips)
