from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from uniwhisper.errors import ManifestError
from uniwhisper.identifiers import Upstream, fma, freesound, jamendo, librispeech, overlap, parse, upstream, youtube

VIDEO = "a-B_c9d8e7F"


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (freesound("012345"), "freesound:12345"),
        (freesound(7), "freesound:7"),
        (freesound("0"), "freesound:0"),
        (freesound("0" * 9000 + "7"), "freesound:7"),
        (jamendo("track_0001234"), "jamendo:1234"),
        (fma("000002"), "fma:2"),
        (librispeech("1272-128104-0003"), "librispeech:1272-128104-0003"),
        (librispeech("01272-128104-3"), "librispeech:1272-128104-0003"),
        (youtube(VIDEO), f"youtube:{VIDEO}"),
        (youtube(VIDEO, 30, 40.5), f"youtube:{VIDEO}@30-40.5"),
        (youtube(VIDEO, 0, 12345.678), f"youtube:{VIDEO}@0-12345.678"),
        (upstream("tau", "park-1"), "tau:park-1"),
    ],
)
def test_one_spelling(made: str, expected: str) -> None:
    assert made == expected


@pytest.mark.parametrize(
    "make",
    [
        lambda: freesound("12a"),
        lambda: freesound(""),
        lambda: freesound("-3"),
        lambda: librispeech("1272-128104"),
        lambda: librispeech("1" * 5000 + "-1-1"),
        lambda: librispeech("\u0661-1-1"),
        lambda: youtube("too short"),
        lambda: youtube(VIDEO, 40, 30),
        lambda: youtube(VIDEO, 3),
        lambda: youtube(VIDEO, -1, 3),
        lambda: upstream("Caps", "1"),
        lambda: upstream("a", "two words"),
        lambda: parse("freesound"),
        lambda: parse(":1"),
        lambda: parse("Freesound:1"),
    ],
)
def test_what_is_no_identifier_is_refused(make: object) -> None:
    with pytest.raises(ManifestError, match="expected"):
        make()  # pyright: ignore[reportCallIssue]


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (youtube(VIDEO, 0, 10), youtube(VIDEO, 9.9, 20), True),
        (youtube(VIDEO, 0, 10), youtube(VIDEO, 10, 20), False),
        (youtube(VIDEO), youtube(VIDEO, 10, 20), True),
        (youtube(VIDEO, 0, 10), youtube("aaaaaaaaaaa", 0, 10), False),
        (freesound(5), "fma:5", False),
        (freesound(5), freesound("5"), True),
    ],
)
def test_overlap(a: str, b: str, same: bool) -> None:
    assert overlap(a, b) is same
    assert overlap(b, a) is same


@given(start=st.integers(0, 40_000_000), length=st.integers(1, 10_000_000))
def test_spans_come_back(start: int, length: int) -> None:
    text = youtube(VIDEO, start / 1000, (start + length) / 1000)
    expected = Upstream(namespace="youtube", key=VIDEO, start_s=start / 1000, end_s=(start + length) / 1000)
    assert parse(text) == expected
