"""LibriSpeech's own lists: its subsets, readers and transcripts; shared by the corpora that are made from it.

Reads `SPEAKERS.TXT` and `<speaker>-<chapter>.trans.txt`. Rows are counted; a row that is not of the form is named.

Source: https://www.openslr.org/12 (README.TXT and SPEAKERS.TXT in every archive).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import gender
from uniwhisper.sources._read import Row, by_column, read_lines

__all__ = ["SUBSETS", "Reader", "Utterance", "read_readers", "read_table", "read_transcripts", "utterance"]

SUBSETS = {
    "train-clean-100": "train",
    "train-clean-360": "train",
    "train-other-500": "train",
    "dev-clean": "valid",
    "dev-other": "valid",
    "test-clean": "test",
    "test-other": "test",
}
"""Subset -> split; every reader is in one subset only."""

_UTTERANCE = re.compile(r"(?P<speaker>[0-9]{1,9})-(?P<chapter>[0-9]{1,9})-[0-9]{1,9}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Reader:
    """A person who reads."""

    gender: str
    name: str
    """As registered at LibriVox."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Utterance:
    """A line of a transcript."""

    id: str
    speaker: str
    chapter: str
    transcript: str
    where: str


def read_readers(ctx: Context, path: Path) -> dict[str, Reader]:
    """Return reader id -> reader, of all readers in `SPEAKERS.TXT`.

    Raises:
        LayoutError: The file is missing, or a row's gender is neither F nor M.
    """
    rows = read_table(ctx, path, ("id", "sex", "subset", "minutes", "name"))
    return {
        reader: Reader(gender=gender(row["sex"], row.where), name=row["name"])
        for reader, row in by_column(rows, "id").items()
    }


def read_table(ctx: Context, path: Path, names: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of one of the lists, whose cells stand between `|`.

    They are no CSV: the last cell may hold the separator (reader 60 is `|CBW|Simon`), and a title a carriage return.

    Raises:
        LayoutError: The file is missing or not UTF-8.
    """
    for where, line in read_lines(ctx, path):
        if line.startswith(";"):
            ctx.rows[path] -= 1  # a comment
            continue
        cells = [" ".join(cell.split()) for cell in line.split("|", len(names) - 1)]
        yield Row(dict(zip(names, [*cells, *[""] * (len(names) - len(cells))], strict=True)), where)


def read_transcripts(ctx: Context, path: Path) -> Iterator[Utterance]:
    """Yield the lines of a `.trans.txt`, whose text is upper case without punctuation.

    Raises:
        LayoutError: The file is missing, or a line is not an utterance id and a text.
    """
    for where, line in read_lines(ctx, path):
        name, _, text = line.partition(" ")
        yield utterance(name, text.strip(), where)


def utterance(name: str, transcript: str, where: str) -> Utterance:
    """Return the utterance `name`.

    Raises:
        LayoutError: The name is not `<speaker>-<chapter>-<number>`, or there is no text.
    """
    match = _UTTERANCE.fullmatch(name)
    if match is None or not transcript:
        raise LayoutError(
            f"{where}: expected an utterance <speaker>-<chapter>-<number> and its text, found {name[:80]!r} and "
            f"{transcript[:80]!r}"
        )
    return Utterance(id=name, speaker=match["speaker"], chapter=match["chapter"], transcript=transcript, where=where)
