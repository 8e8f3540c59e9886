from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

SPEAKER = {"sex": "F", "activity": [[0, 8000]], "speaker_id": 1221}


def write(root: Path, name: str, content: Any) -> Path:
    (root / "test").mkdir()
    (root / "test" / f"{name}.json").write_text(json.dumps(content))
    return root


def test_activity_becomes_events_in_seconds(tmp_path: Path) -> None:
    (clip,) = dry_run("libricount", write(tmp_path, "1_a", [SPEAKER])).clips
    (event,) = clip.annotation.events
    assert (event.label, event.onset_s, event.offset_s) == ("female speech", 0.0, 0.5)
    assert clip.annotation.labels == ("1",)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("11_a", [], r"11_a\.json: expected one of the 11 labels"),
        ("a", [], r"a\.json: expected a name <number of speakers>_<name>\.json"),
        ("1_a", {}, r"1_a\.json: expected a list of speakers"),
        ("1_a", [{**SPEAKER, "sex": "?"}], r"1_a\.json: speaker 0: expected a gender F or M"),
        ("1_a", [{**SPEAKER, "activity": [[9, 3]]}], r"1_a\.json: speaker 0: activity: expected a number from 9"),
        ("1_a", [{**SPEAKER, "activity": [[-1, 3]]}], r"1_a\.json: speaker 0: activity: expected a number from 0"),
        ("1_a", [{**SPEAKER, "activity": 5}], r"1_a\.json: speaker 0: expected activity as a list of pairs"),
        ("1_a", [{**SPEAKER, "speaker_id": "a b"}], r"1_a\.json: expected an identifier"),
        ("1_a", [{**SPEAKER, "activity": [3]}], r"1_a\.json: speaker 0: expected activity as pairs of samples"),
    ],
)
def test_a_broken_annotation_is_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        dry_run("libricount", write(tmp_path, name, content))
