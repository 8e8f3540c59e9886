"""English names of languages by ISO 639 code, from the table `languages.csv` beside this file."""

from __future__ import annotations

import csv
import functools
from importlib import resources

__all__ = ["known_languages", "language_name"]


@functools.cache
def known_languages() -> dict[str, str]:
    """Return the table, code -> English name; treat it as read-only.

    Source: ISO 639-1 and 639-3 codes with their usual English names, and `jw`, which Whisper uses for Javanese.
    """
    text = resources.files("uniwhisper.instructions").joinpath("languages.csv").read_text(encoding="ascii")
    return {row["code"]: row["name"] for row in csv.DictReader(text.splitlines())}


@functools.cache
def language_name(code: str) -> str:
    """Return the English name of `code` (`nl`, `pt-BR`, `zh_CN`); a code that is not in the table is its own name."""
    table = known_languages()
    lowered = code.lower().replace("_", "-")
    return table.get(lowered) or table.get(lowered.partition("-")[0]) or code
