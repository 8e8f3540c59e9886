"""VocalSound: records and speakers that contradict themselves, and the release at 44.1 kHz."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .damage import copied, damaged


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("datafiles/tr.json", "f0003_0_cough", "f0003_0_yawn", r"tr\.json: record 0: expected one of the 6 labels"),
        (
            "datafiles/tr.json",
            "f0003_0_cough",
            "x0003_0_cough",
            r"tr\.json: record 0: expected a name like f0003_0_cough",
        ),
        ("datafiles/val.json", '"wav"', '"file"', r"val\.json: record 0: expected a path in wav"),
        ("datafiles/te.json", '"data"', '"rows"', r"te\.json: expected \{\"data\""),
        (
            "meta/val_meta.csv",
            "m0052,male",
            "m0052,female",
            r"val_meta\.csv:1: expected a speaker like f0003 and the gender",
        ),
        ("meta/te_meta.csv", "f3365", "3365", r"te_meta\.csv:1: expected a speaker like f0003"),
    ],
)
def test_a_bad_record_is_named(file: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=message):
        dry_run("vocalsound", damaged("vocalsound", tmp_path, file, old, new))


def test_the_finer_release_is_read_where_it_is_there(tmp_path: Path) -> None:
    root = copied("vocalsound", tmp_path)
    (root / "audio_16k").rename(root / "audio_44k")
    assert {Path(clip.path).parent.name for clip in dry_run("vocalsound", root).clips} == {"audio_44k"}
