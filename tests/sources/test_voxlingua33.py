"""VoxLingua33: languages, names that are not the publisher's, and no training on videos of the development set."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.instructions.languages import language_name
from uniwhisper.sources import dry_run, get_source
from uniwhisper.sources.voxlingua33 import _LANGUAGES  # pyright: ignore[reportPrivateUsage]

from .damage import copied


def test_labels_are_the_languages_that_prompts_name() -> None:
    assert len(_LANGUAGES.labels) == 33
    assert _LANGUAGES.labels == {code: language_name(code) for code in get_source("voxlingua33").SPEC.languages}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("video.wav", "expected a name like"),
        ("0A42eBNqp2__U__S2---0001.000-0002.000.wav", "expected a name like"),
        (
            "0A42eBNqp2Q__U__S2---0002.000-0001.500.wav",
            "expected 0 <= start_s < end_s, found 2.0 and 1.5",
        ),
    ],
)
def test_an_impossible_name_is_refused(name: str, message: str, tmp_path: Path) -> None:
    root = copied("voxlingua33", tmp_path)
    (root / "de" / name).touch()
    with pytest.raises(LayoutError, match=message):
        dry_run("voxlingua33", root)


def test_an_empty_development_set_is_refused(tmp_path: Path) -> None:
    root = copied("voxlingua33", tmp_path)
    shutil.rmtree(root / "dev")
    (root / "dev").mkdir()
    with pytest.raises(LayoutError, match=r"expected dev/<language>/\*\.wav"):
        dry_run("voxlingua33", root)


@pytest.mark.parametrize("layout", ["root", "xares"])
def test_no_video_is_on_both_sides(layout: str, tmp_path: Path) -> None:
    found = dry_run("voxlingua33", copied("voxlingua33", tmp_path, layout))
    videos = {split: {clip.group for clip in found.clips if clip.split == split} for split in ("train", "test")}
    assert videos["test"]
    assert not videos["train"] & videos["test"]
    assert {item.reason for item in found.dropped} == {"its video is in the development set"}
