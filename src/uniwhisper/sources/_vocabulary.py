"""Closed vocabularies: the class names of a corpus, spelt as words, and the check that a row uses one of them.

Reads `labels/<source>.csv` (columns code, label) beside this module where a list is long; short lists stand in the
source itself. Guarantees that every label of a clip is in the list: any other is refused with its place.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files

from uniwhisper.errors import LayoutError

__all__ = ["Vocabulary", "listed_vocabulary", "spell", "vocabulary"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """The classes of a corpus."""

    name: str
    """The source's name, which is also the label set's."""
    labels: Mapping[str, str]
    """Code in the publisher's files -> label in words."""

    def label(self, code: object, where: str) -> str:
        """Return the label of a code.

        Raises:
            LayoutError: The vocabulary has no such code; the message begins with `where`.
        """
        label = self.labels.get(str(code).strip())
        if label is None:
            some = ", ".join(list(self.labels)[:4])
            raise LayoutError(f"{where}: expected one of the {len(self.labels)} labels {some}, ..., found {code!r}")
        return label


def spell(code: str) -> str:
    """Return a class name as words: `dog_bark` -> `dog bark`."""
    return " ".join(code.replace("_", " ").split())


def vocabulary(name: str, codes: str) -> Vocabulary:
    """Return the vocabulary whose codes are the class names, given in one text with spaces between them."""
    return Vocabulary(name=name, labels={code: spell(code) for code in codes.split()})


def listed_vocabulary(name: str) -> Vocabulary:
    """Return the vocabulary in `labels/<name>.csv`."""
    lines = (files("uniwhisper.sources") / "labels" / f"{name}.csv").read_text(encoding="utf-8").splitlines()
    return Vocabulary(name=name, labels={row["code"]: spell(row["label"]) for row in csv.DictReader(lines)})
