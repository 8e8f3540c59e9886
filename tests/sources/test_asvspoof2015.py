"""ASVspoof 2015: keys and systems that contradict each other, and parts that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .damage import copied, damaged


@pytest.mark.parametrize("bad", ["S3 human", "S11 human", "human spoof", "S11 spoof", "S3 forged"])
def test_a_contradictory_row_is_named(bad: str, tmp_path: Path) -> None:
    root = damaged("asvspoof2015", tmp_path, "CM_protocol/cm_train.trn", "S3 spoof", bad)
    with pytest.raises(LayoutError, match=r"cm_train\.trn:2: expected"):
        dry_run("asvspoof2015", root)


def test_parts_without_a_protocol_are_left_out(tmp_path: Path) -> None:
    root = copied("asvspoof2015", tmp_path)
    (root / "CM_protocol/cm_train.trn").unlink()
    assert {clip.split for clip in dry_run("asvspoof2015", root).clips} == {"valid", "test"}
    (root / "CM_protocol/cm_develop.ndx").unlink()
    (root / "CM_protocol/cm_evaluation.ndx.txt").unlink()
    with pytest.raises(LayoutError, match=r"expected cm_train\.trn, cm_develop\.ndx, cm_evaluation\.ndx in"):
        dry_run("asvspoof2015", root)
