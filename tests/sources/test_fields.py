from __future__ import annotations

from pathlib import PurePosixPath

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.identifiers import freesound
from uniwhisper.sources._fields import gender, plain_name, relative_path, text_field, upstream_at


def test_text_field_takes_texts_and_numbers() -> None:
    assert text_field({"a": " x "}, "a", "here") == "x"
    assert text_field({"a": 0}, "a", "here") == "0"
    assert text_field({"a": None}, "a", "here", default="") == ""
    assert text_field({}, "a", "here", default="N/A") == "N/A"


@pytest.mark.parametrize(
    "row", [{}, {"a": ""}, {"a": " "}, {"a": None}, {"a": True}, {"a": ["x"]}, {"a": float("nan")}]
)
def test_text_field_says_what_is_wrong_and_where(row: dict[str, object]) -> None:
    with pytest.raises(LayoutError, match=r"^file:7: expected a text 'a', found"):
        text_field(row, "a", "file:7")


def test_genders_have_one_spelling() -> None:
    assert [gender(code, "") for code in ("F", "f", "female", " M ", "m", "Male")] == ["female"] * 3 + ["male"] * 3
    with pytest.raises(LayoutError, match="file:7: expected a gender F or M, found 'x'"):
        gender("x", "file:7")


def test_relative_path_stays_below_the_corpus() -> None:
    assert relative_path("./a/b.wav", "") == PurePosixPath("a/b.wav")
    for text in ("", ".", "/a.wav", "../a.wav", "a/../../b.wav", "a\\b.wav", "a\x00.wav", "a\nb.wav", "x" * 256):
        with pytest.raises(LayoutError, match="file:7: expected a path below"):
            relative_path(text, "file:7")


def test_plain_names_have_no_folder() -> None:
    assert plain_name("a.b-c", "") == "a.b-c"
    for text in ("", ".", "..", "a/b", "./a", "/a", "a/", "a\\b", "x" * 256):
        with pytest.raises(LayoutError, match=r"file:7: expected (the name of a file|a path below)"):
            plain_name(text, "file:7")


def test_identifiers_say_where_they_stand() -> None:
    assert upstream_at("file:7", freesound, "0012") == "freesound:12"
    assert upstream_at("file:7", freesound, "0" * 9000 + "7") == "freesound:7"
    with pytest.raises(LayoutError, match=r"^file:7: expected a freesound id of digits, found 'x'"):
        upstream_at("file:7", freesound, "x")
