"""Freesound's identifiers and licences have one spelling."""

from __future__ import annotations

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources._freesound import freesound_id, freesound_license


def test_identifiers_are_numbers() -> None:
    assert freesound_id("0123", "here") == freesound_id(123, "here") == "freesound:123"
    with pytest.raises(LayoutError, match=r"^table\.csv:3: .*'12a'"):
        freesound_id("12a", "table.csv:3")


@pytest.mark.parametrize(
    ("text", "license"),
    [
        ("http://creativecommons.org/licenses/by/3.0/", "CC-BY-3.0"),
        ("https://creativecommons.org/licenses/by-nc/4.0/legalcode", "CC-BY-NC-4.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0"),
        ("http://creativecommons.org/licenses/sampling+/1.0/", "LicenseRef-CC-Sampling-Plus-1.0"),
        ("Creative Commons 0", "CC0-1.0"),
        ("Attribution Noncommercial", "Attribution Noncommercial"),
        ("", ""),
    ],
)
def test_licenses_become_spdx_where_a_version_is_stated(text: str, license: str) -> None:
    assert freesound_license(text) == license
