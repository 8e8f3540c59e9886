"""FMA small: the table with two header rows, and rows that are not the publisher's."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .damage import copied, damaged

TRACKS = "fma_metadata/tracks.csv"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("small,,Hip-Hop,[21]", "small,,Polka,[21]", r"tracks\.csv:4: expected one of the 8 labels"),
        (
            "training,small",
            "train,small",
            r"tracks\.csv:4: expected a split of training, validation, test, found 'train'",
        ),
        ("[17],[17]", "[17],[18]", r"tracks\.csv:8: expected genres of genres\.csv, found 18"),
        ("\n2,2009", "\n2x,2009", r"tracks\.csv:4: expected a track number of six digits"),
        (",set,set,", ",set,sets,", r"tracks\.csv: expected the columns set\.subset"),
        ("CC BY 4.0,[],Quiet", "CC BY 4.0,[]", r"tracks\.csv:10: expected 15 cells"),
    ],
)
def test_a_bad_row_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=message):
        dry_run("fma_small", damaged("fma_small", tmp_path, TRACKS, old, new))


def test_rows_of_other_subsets_are_read_past(tmp_path: Path) -> None:
    found = dry_run("fma_small", copied("fma_small", tmp_path))
    assert found.rows[TRACKS] == 5, "the header rows are none"
    assert [clip.id for clip in found.clips] == ["000002", "000140", "099134", "155066"]
    assert found.clips[2].annotation.metadata["genres"] == "Rock, Punk, Garage"


@pytest.mark.parametrize("content", ["", "one line\n"])
def test_a_table_without_headers_is_refused(content: str, tmp_path: Path) -> None:
    root = copied("fma_small", tmp_path)
    (root / TRACKS).write_text(content, encoding="utf-8")
    with pytest.raises(LayoutError, match=r"tracks\.csv: expected the columns set\.subset"):
        dry_run("fma_small", root)
