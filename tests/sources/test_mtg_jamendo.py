"""MTG-Jamendo: tables of one kind of tags, the link that is a file, and rows that are refused."""

from __future__ import annotations

import csv
import shutil
from importlib.resources import files
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .conversion import FIXTURES

HEADER = "TRACK_ID\tARTIST_ID\tALBUM_ID\tPATH\tDURATION\tTAGS\n"
ROW = "track_0000948\tartist_000087\talbum_000149\t48/948.mp3\t212.7\t"


def write(root: Path, name: str, rows: str) -> None:
    path = root / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(HEADER + rows, "utf-8")


def test_the_vocabulary_has_the_published_numbers_of_tags() -> None:
    text = files("uniwhisper.sources").joinpath("labels", "mtg_jamendo.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    kinds = [row["code"].partition("---")[0] for row in rows]
    assert {kind: kinds.count(kind) for kind in kinds} == {"genre": 95, "instrument": 41, "mood/theme": 59}
    assert len({row["label"] for row in rows}) == 195


def test_tables_of_single_kinds_are_put_together(tmp_path: Path) -> None:
    write(tmp_path, "autotagging_moodtheme.tsv", f"{ROW}mood/theme---dark\n")
    write(tmp_path, "splits/split-0/autotagging_genre-train.tsv", f"{ROW}genre---rock\tgenre---metal\n")
    write(tmp_path, "splits/split-0/autotagging_instrument-train.tsv", f"{ROW}instrument---guitar\n")
    found = dry_run("mtg_jamendo", tmp_path)
    (clip,) = found.clips
    assert clip.split == "train"
    assert clip.annotation.labels == ("dark", "rock", "metal", "guitar")
    assert clip.annotation.attributes == {"mood": "dark"}, "one of two genres would be half of the truth"
    assert sum(found.rows.values()) == 3


def test_a_link_is_followed_as_a_file_and_as_a_link(tmp_path: Path) -> None:
    root = Path(shutil.copytree(FIXTURES / "mtg_jamendo" / "root", tmp_path / "corpus"))
    as_file = dry_run("mtg_jamendo", root)
    (root / "data/autotagging.tsv").unlink()
    (root / "data/autotagging.tsv").symlink_to("raw_30s_cleantags_50artists.tsv")
    as_link = dry_run("mtg_jamendo", root)
    assert as_file.clips == as_link.clips
    assert as_file.dropped == as_link.dropped


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (f"{ROW}genre---noise\n", r"-train\.tsv:2: expected one of the 195 labels .* found 'genre---noise'"),
        (ROW.strip() + "\n", r"-train\.tsv:2: expected tags in the 6th cell"),
        (ROW.replace("212.7", "long") + "genre---rock\n", r"-train\.tsv:2: column DURATION: expected a number"),
        (ROW.replace("48/", "../") + "genre---rock\n", r"-train\.tsv:2: expected a path below the corpus's folder"),
        (ROW.replace("track_0000948", "948b") + "genre---rock\n", r"-train\.tsv:2: TRACK_ID: expected a jamendo id"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(rows: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, "splits/split-0/autotagging-train.tsv", rows)
    with pytest.raises(LayoutError, match=message):
        dry_run("mtg_jamendo", tmp_path)


def test_a_song_in_two_parts_is_refused(tmp_path: Path) -> None:
    for part in ("train", "test"):
        write(tmp_path, f"splits/split-0/autotagging-{part}.tsv", f"{ROW}genre---rock\n")
    with pytest.raises(LayoutError, match=r"-test\.tsv:2: expected track_0000948 in one part, found train and test"):
        dry_run("mtg_jamendo", tmp_path)
