"""GTZAN: the folds, and files that are not named after their genre."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .damage import copied


def test_folds_are_ten_consecutive_excerpts_of_a_genre(tmp_path: Path) -> None:
    root = copied("gtzan", tmp_path)
    for number in range(100):
        (root / f"genres/metal/metal.{number:05d}.au").touch()
    folds = [clip.split for clip in dry_run("gtzan", root).clips if clip.annotation.labels == ("metal",)]
    assert folds == [f"fold{number // 10 + 1}" for number in range(100)]


@pytest.mark.parametrize("name", ["pop.00000", "metal.00100", "metal"])
def test_a_stray_file_is_refused(name: str, tmp_path: Path) -> None:
    root = copied("gtzan", tmp_path)
    (root / f"genres/metal/{name}.wav").touch()
    with pytest.raises(LayoutError, match=r"expected a name like metal\.00000, up to 00099, found"):
        dry_run("gtzan", root)


def test_both_formats_of_an_excerpt_are_one_clip(tmp_path: Path) -> None:
    root = copied("gtzan", tmp_path)
    (root / "genres").rename(root / "genres_original")  # what mirrors call the folder
    before = dry_run("gtzan", root).clips
    (root / "genres_original/blues/blues.00000.au").touch()
    assert dry_run("gtzan", root).clips == before
