"""Canonical answer texts, and the way back: free text, labels, attributes, yes or no.

Whitespace is canonical everywhere (runs of it become one space, none at the ends). Items of a list stand between `; `,
so a label that contains `;` is refused rather than split in two when read back. Labels and attributes are sorted and
labels are unique: their order in an annotation means nothing, and one spelling per answer is what a decoder can learn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from uniwhisper.errors import ManifestError
from uniwhisper.instructions.config import AnswerStyle

__all__ = [
    "SEPARATOR",
    "clean_label",
    "clean_text",
    "read_attributes",
    "read_labels",
    "read_one_label",
    "read_text",
    "read_yes_no",
    "split_items",
    "write_attributes",
    "write_labels",
    "write_one_attribute",
    "write_one_label",
    "write_yes_no",
]

SEPARATOR = "; "
"""Stands between the items of a list."""

_LABELS = ("The clip contains ", ".")
_LABEL = ("The label is ", ".")
_YES_NO = {
    "short": {True: "yes", False: "no"},
    "sentence": {True: "Yes, it does.", False: "No, it does not."},
}
_SENTENCE_ATTRIBUTE = re.compile(r"[Tt]he (.+?) is (.+)")
_SHORT_ATTRIBUTE = re.compile(r"([^:]+): (.+)")


def clean_text(text: str) -> str:
    """Return `text` with every run of whitespace as one space and none at the ends."""
    return " ".join(text.split())


def clean_label(label: str, what: str = "label") -> str:
    """Return `label` in canonical whitespace.

    Raises:
        ManifestError: It is blank or contains `;`, which separates the items of an answer.
    """
    cleaned = clean_text(label)
    if not cleaned or ";" in cleaned:
        raise ManifestError(
            f"expected a {what} that is not blank and has no ';' (it separates items), found {label!r}; "
            "let the source split it into several or spell it without"
        )
    return cleaned


def split_items(text: str) -> list[str]:
    """Return the items of a list answer.

    Raises:
        ManifestError: An item is blank.
    """
    items = [clean_text(item) for item in text.split(";")]
    if not all(items):
        raise ManifestError(f"expected items between '{SEPARATOR}', found a blank one in {text[:200]!r}")
    return items


def read_text(answer: str) -> str:
    """Return a free-text answer in canonical whitespace.

    Raises:
        ManifestError: It is blank.
    """
    cleaned = clean_text(answer)
    if not cleaned:
        raise ManifestError("expected an answer text, found a blank one")
    return cleaned


def _wrap(text: str, frame: tuple[str, str], style: AnswerStyle) -> str:
    return text if style == "short" else f"{frame[0]}{text}{frame[1]}"


def _unwrap(answer: str, frame: tuple[str, str], style: AnswerStyle) -> str:
    text = read_text(answer)
    if style == "short":
        return text
    if not (text.startswith(frame[0]) and text.endswith(frame[1])):
        raise ManifestError(f"expected an answer like {frame[0] + '...' + frame[1]!r}, found {text[:200]!r}")
    return text[len(frame[0]) : -len(frame[1])]


def _sorted_labels(labels: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(labels), key=lambda label: (label.casefold(), label)))


def write_labels(labels: Iterable[str], style: AnswerStyle) -> str:
    """Return `dog; siren`, or `The clip contains dog; siren.`; a blank label or one with `;` is a ManifestError."""
    return _wrap(SEPARATOR.join(_sorted_labels(map(clean_label, labels))), _LABELS, style)


def read_labels(answer: str, style: AnswerStyle) -> tuple[str, ...]:
    """Return the labels of an answer, unique and sorted; a malformed answer is a ManifestError."""
    return _sorted_labels(split_items(_unwrap(answer, _LABELS, style)))


def write_one_label(label: str, style: AnswerStyle) -> str:
    """Return `dog`, or `The label is dog.`; a blank label or one with `;` is a ManifestError."""
    return _wrap(clean_label(label), _LABEL, style)


def read_one_label(answer: str, style: AnswerStyle) -> str:
    """Return the one label of an answer; a malformed answer is a ManifestError."""
    return clean_label(_unwrap(answer, _LABEL, style))


def write_yes_no(value: bool, style: AnswerStyle) -> str:
    """Return `yes` or `no`, or the sentence that says so."""
    return _YES_NO[style][value]


def read_yes_no(answer: str, style: AnswerStyle) -> bool:
    """Return whether the answer is yes, whatever its case.

    Raises:
        ManifestError: It is neither of the two answers of this style.
    """
    folded = clean_text(answer).casefold()
    for value, text in _YES_NO[style].items():
        if folded == text.casefold():
            return value
    raise ManifestError(f"expected one of {list(_YES_NO[style].values())}, found {answer[:200]!r}")


def _clean_attribute(name: str, value: str) -> tuple[str, str]:
    name, value = clean_label(name, "attribute name"), clean_label(value, "attribute value")
    if ":" in name or ": " in value or " is " in f"{name} ":
        raise ManifestError(
            "expected an attribute whose name has no ':' and no word 'is' after its first word, and whose value has no "
            f"': ' (they end the name in an answer), found {name!r}: {value!r}; let the source spell it otherwise"
        )
    return name, value


def write_attributes(attributes: Mapping[str, str], style: AnswerStyle) -> str:
    """Return `emotion: happy; gender: male`, or `The emotion is happy; the gender is male.`, sorted by name.

    Raises:
        ManifestError: A name or value is blank or could not be told apart when read back.
    """
    pairs = sorted(_clean_attribute(name, value) for name, value in attributes.items())
    if style == "short":
        return SEPARATOR.join(f"{name}: {value}" for name, value in pairs)
    return f"T{SEPARATOR.join(f'the {name} is {value}' for name, value in pairs)[1:]}."


def write_one_attribute(name: str, value: str, style: AnswerStyle) -> str:
    """Return `happy`, or `The emotion is happy.`; the same is refused as by `write_attributes`."""
    if style == "sentence":
        return write_attributes({name: value}, style)
    return _clean_attribute(name, value)[1]


def read_attributes(answer: str, style: AnswerStyle, attribute: str = "") -> dict[str, str]:
    """Return name -> value, sorted by name.

    Args:
        answer: One or several attributes.
        style: How it was written.
        attribute: The name that was asked for, where it was one; a bare value is filed under it ("" when not given).

    Raises:
        ManifestError: The answer is malformed, or names an attribute twice.
    """
    text = read_text(answer)
    if style == "sentence":
        if not text.endswith("."):
            raise ManifestError(f"expected an answer like 'The emotion is happy.', found {text[:200]!r}")
        text = text[:-1]
    elif attribute or not _SHORT_ATTRIBUTE.fullmatch(text):
        return {attribute: clean_label(text, "attribute value")}
    pattern = _SHORT_ATTRIBUTE if style == "short" else _SENTENCE_ATTRIBUTE
    found: dict[str, str] = {}
    for item in split_items(text):
        match = pattern.fullmatch(item)
        if match is None or match[1] in found:
            raise ManifestError(
                f"expected every attribute once, each with its name, found {item!r} in {answer[:200]!r}"
            )
        found[match[1]] = match[2]
    return dict(sorted(found.items()))
