"""Readers of annotation files: what they refuse, and that the message names file and line."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import Context
from uniwhisper.sources._read import Row, by_column, json_value, read_csv, read_gzip, read_json
from uniwhisper.sources._yaml import read_yaml


def rows(tmp_path: Path, text: str) -> list[Row]:
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    return list(read_csv(Context(source="toy", out_dir=tmp_path), tmp_path / "a.csv", columns=("name", "n")))


def test_a_column_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"a\.csv: expected every column once, found n twice or more"):
        rows(tmp_path, "name,n,n\na,1,2\n")
    assert rows(tmp_path, ",name,,n\n1,a,2,3\n")[0]["n"] == "3", "columns without a name cannot be asked for"


def test_whole_numbers(tmp_path: Path) -> None:
    assert [row.whole("n") for row in rows(tmp_path, "name,n\na,3\nb,4.0\n")] == [3, 4]
    for cell in ("2.5", "-1", "nan", "1e308", ""):
        with pytest.raises(LayoutError, match=r"a\.csv:2: column n: expected a (whole )?number"):
            rows(tmp_path, f"name,n\na,{cell}\n")[0].whole("n")


def test_rows_that_contradict_each_other_are_named(tmp_path: Path) -> None:
    same = rows(tmp_path, "name,n\na,1\nb,2\na,1\n")
    assert list(by_column(same, "name")) == ["a", "b"]
    with pytest.raises(LayoutError, match=r"a\.csv:4: expected one row with name 'a', .* otherwise at .*a\.csv:2"):
        by_column(rows(tmp_path, "name,n\na,1\nb,2\na,3\n"), "name")


def test_long_cells_make_no_long_messages(tmp_path: Path) -> None:
    with pytest.raises(LayoutError) as caught:
        rows(tmp_path, f"{'x' * 9000},{'y' * 9000}\n")
    assert len(str(caught.value)) < 1500


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "here: expected JSON, found: 'c' 2 times in one object"),
        ('["\\ud83d"]', "here: expected text, found half of a surrogate pair"),
        ("[" * 100_000, "here: expected JSON, found: maximum recursion depth"),
        ("7" * 5000, "here: expected JSON, found: Exceeds the limit"),
        ("", "here: expected JSON, found: Expecting value"),
    ],
)
def test_json_that_cannot_be_used(text: str, expected: str) -> None:
    with pytest.raises(LayoutError, match=f"^{expected}"):
        json_value(text, "here")


def test_pairs_of_surrogates_are_characters(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(["\U0001f600"]), encoding="utf-8")
    assert read_json(tmp_path / "a.json") == ["\U0001f600"]


def test_gzip_is_read_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniwhisper.sources._read._MAX_GZIP_BYTES", 100)
    path = tmp_path / "a.gz"
    path.write_bytes(gzip.compress("\ufeffgr\u00fcn".encode()))
    assert read_gzip(path) == "gr\u00fcn"
    path.write_bytes(gzip.compress(bytes(101)))
    with pytest.raises(LayoutError, match=r"a\.gz: expected gzipped text, found one that expands to over 100 bytes"):
        read_gzip(path)
    for content in (b"", b"no gzip", gzip.compress(b"\xff"), gzip.compress(b"x" * 90)[:-4]):
        path.write_bytes(content)
        if content:
            with pytest.raises(LayoutError, match=r"expected gzipped text in UTF-8 in .*a\.gz, found"):
                read_gzip(path)


def bomb(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "a0: &a0 [x, x]\n" + bomb(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)),
            "an object that repeats its parts without bound at line",
        ),
        (
            "a0: &a0 {x: 1}\n" + bomb(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}" for n in range(1, 12)),
            "an object that repeats its parts without bound at line",
        ),
        ("a: &a [*a]", "without bound"),
        ("a: 1\nb: 2\na: 3", "'a' twice in the object at line 1"),
        ("a: 0x" + "f" * 5000, "a number of 5002 digits at line 1"),
        ('a: "\\ud800"', "(surrogates not allowed|invalid Unicode character)"),
        ("a: " + "[" * 200_000 + "]" * 200_000, "objects or lists in one another, more than 64 deep"),
        ("a: " + "{a: " * 200_000, "objects or lists in one another, more than 64 deep"),
        ("a: !!python/object:os.system x", "could not determine a constructor"),
        ("a: 2001-99-99", "month must be in"),
        ("a: [", "while parsing"),
        ("- a", "expected an object with named fields"),
        ("1: a", "expected an object with named fields"),
        ("", "expected an object with named fields"),
    ],
)
def test_yaml_that_cannot_be_used(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(LayoutError, match=rf"a\.yaml: .*{expected}"):
        read_yaml(tmp_path / "a.yaml")


def test_yaml_may_repeat_a_part(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: &a {x: [1, 2.5]}\nb: *a\nc: \U0001f600\n", encoding="utf-8")
    assert read_yaml(tmp_path / "a.yaml") == {"a": {"x": [1, 2.5]}, "b": {"x": [1, 2.5]}, "c": "\U0001f600"}
