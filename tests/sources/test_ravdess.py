"""RAVDESS: the folds, and names that are not the publisher's."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run


def place(root: Path, *names: str) -> Path:
    for name in names:
        path = root / f"Actor_{name[-2:]}" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    return root


def test_folds_hold_three_men_and_three_women_each(tmp_path: Path) -> None:
    place(tmp_path, *(f"03-01-05-02-01-02-{actor:02d}" for actor in range(1, 25)))
    genders: dict[str, list[str]] = defaultdict(list)
    for clip in dry_run("ravdess", tmp_path).clips:
        genders[clip.split].append(clip.annotation.attributes["gender"])
    assert {fold: sorted(found) for fold, found in genders.items()} == {
        f"fold{number}": ["female"] * 3 + ["male"] * 3 for number in range(1, 5)
    }


@pytest.mark.parametrize("name", ["03-01-09-01-01-01-01", "03-01-01-01-01-01-25", "03-01-01-01-01-01"])
def test_an_impossible_name_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=rf"{name}\.wav: expected a name like"):
        dry_run("ravdess", place(tmp_path, name))


def test_a_folder_without_actors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"expected Actor_<01\.\.24>/\*\.wav below"):
        dry_run("ravdess", tmp_path)
