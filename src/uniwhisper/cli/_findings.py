"""One line of what `uniwhisper doctor` says about the machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "fail", "first_line", "note", "ok"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One line of the doctor's answer."""

    state: Literal["ok", "note", "FAIL"]
    """`note` where something optional is missing, `FAIL` where uniwhisper cannot work."""
    name: str
    text: str


def ok(name: str, text: str) -> Finding:
    """Return something that is as it should be."""
    return Finding(state="ok", name=name, text=text)


def note(name: str, text: str) -> Finding:
    """Return something optional that is missing, or odd."""
    return Finding(state="note", name=name, text=text)


def fail(name: str, text: str) -> Finding:
    """Return something essential that is broken."""
    return Finding(state="FAIL", name=name, text=text)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:300] if lines else type(error).__name__
