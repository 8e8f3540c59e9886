"""CREMA-D: actors, votes and names that are not the publisher's; votes are those for the voice alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .damage import copied, damaged


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("SentenceFilenames.csv", "1001_IEO_HAP_LO", "1001_IEO_JOY_LO", r"SentenceFilenames\.csv:3: expected a name"),
        ("SentenceFilenames.csv", "1001_IEO_HAP_LO", "1999_IEO_HAP_LO", r"SentenceFilenames\.csv:3: expected an actor"),
        (
            "processedResults/summaryTable.csv",
            '"H:N"',
            '"H:X"',
            r"summaryTable\.csv:3: column VoiceVote: expected one of",
        ),
        ("processedResults/summaryTable.csv", '"69.1"', '"-1"', r"summaryTable\.csv:2: column VoiceLevel: expected a"),
        ("processedResults/tabulatedVotes.csv", "0,0,0,1,10,0", "0,0,0,1,-2,0", r"tabulatedVotes\.csv:2: column N"),
    ],
)
def test_a_bad_row_is_named(file: str, old: str, new: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=message):
        dry_run("crema_d", damaged("crema_d", tmp_path, file, old, new))


def test_votes_are_optional_and_the_rest_stays(tmp_path: Path) -> None:
    root = copied("crema_d", tmp_path)
    with_votes = dry_run("crema_d", root).clips
    assert with_votes[0].annotation.votes == {"happy": 1, "neutral": 10}, "faces were judged happy, both angry"
    for table in (root / "processedResults").iterdir():
        table.unlink()
    without = dry_run("crema_d", root).clips
    assert [clip.id for clip in without] == [clip.id for clip in with_votes]
    assert not any(clip.annotation.votes for clip in without)
