"""Spans of YouTube videos: the names that downloaders give, and ids and times that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import Context
from uniwhisper.sources._youtube import read_span

VIDEO = "-abcdefghij"
STEMS = (f"{VIDEO}_30", f"{VIDEO}_000030", f"{VIDEO}_30000_40000", f"{VIDEO}_30000", f"Y{VIDEO}", VIDEO)


def context(folder: Path, *, dry_run: bool = False) -> Context:
    return Context(source="test", out_dir=folder / "out", dry_run=dry_run)


@pytest.mark.parametrize("suffix", [".flac", ".mp4"])
@pytest.mark.parametrize("stem", STEMS)
def test_every_usual_name_is_found(stem: str, suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"{stem}{suffix}").write_bytes(b"")
    (tmp_path / f"{VIDEO}_90.wav").write_bytes(b"")
    span = read_span("table:1", VIDEO, "30.000")
    assert span.audio(context(tmp_path), tmp_path) == tmp_path / f"{stem}{suffix}"


def test_a_missing_span_is_named_by_its_start(tmp_path: Path) -> None:
    span = read_span("table:1", VIDEO, "27.500", "37.5")
    assert span.id == f"{VIDEO}_27.5"
    assert span.upstream_id == f"youtube:{VIDEO}@27.5-37.5"
    for dry_run in (False, True):
        assert span.audio(context(tmp_path, dry_run=dry_run), tmp_path) == tmp_path / f"{VIDEO}_27.5.wav"


def test_the_id_keeps_zeros_before_the_point() -> None:
    assert [read_span("t", "abcdefghijk", start).id[12:] for start in (0, "10", 100.0, "1000.250")] == [
        "0",
        "10",
        "100",
        "1000.25",
    ]


@pytest.mark.parametrize(
    ("video_id", "start", "end"),
    [
        ("short", "0", "10"),
        ("abcdefghijk", "", "10"),
        ("abcdefghijk", "-1", "10"),
        ("abcdefghijk", "nan", "10"),
        ("abcdefghijk", "10", "10"),
        ("abcdefghijk", "20", "10"),
        ("abc/efghijk", "0", "10"),
    ],
)
def test_what_is_no_span_is_refused_with_its_place(video_id: str, start: str, end: str) -> None:
    with pytest.raises(LayoutError, match=r"segments\.csv:7"):
        read_span("segments.csv:7", video_id, start, end)
