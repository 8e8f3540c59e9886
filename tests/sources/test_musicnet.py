"""MusicNet: rows of labels that are refused, and a table without labels."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run
from uniwhisper.sources._context import Context
from uniwhisper.sources.musicnet import convert

from .conversion import FIXTURES


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (",41,76,", ",40,76,", r"1727\.csv:3: instrument: expected one of the 11 labels 1, 7, .* found '40'"),
        ("4410,13230", "4410,4409", r"1727\.csv:3: column end_time: expected a number from 4410"),
        (",41,76,", ",41,176,", r"1727\.csv:3: column note: expected a number from 0 to 127, found '176'"),
        ("441,8820,1,60,0.0,1.0,Quarter\n", "441,8820\n", r"1727\.csv:2: expected 7 cells"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(before: str, after: str, message: str, tmp_path: Path) -> None:
    root = Path(shutil.copytree(FIXTURES / "musicnet" / "root", tmp_path / "corpus"))
    path = root / "musicnet/train_labels/1727.csv"
    path.write_text(path.read_text("utf-8").replace(before, after, 1), "utf-8")
    with pytest.raises(LayoutError, match=message):
        dry_run("musicnet", root)


def test_a_table_without_labels_is_enough_for_a_dry_run_only(tmp_path: Path) -> None:
    shutil.copy(FIXTURES / "musicnet" / "root" / "musicnet_metadata.csv", tmp_path)
    found = dry_run("musicnet", tmp_path)
    assert (len(found.clips), len(found.dropped)) == (4, 0)
    with pytest.raises(LayoutError, match=r"musicnet: expected .*train_labels"):
        list(convert(tmp_path, Context(source="musicnet", out_dir=tmp_path)))
