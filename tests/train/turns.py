"""A tokeniser of bytes in a module of its own: worker processes import it, and it should not take them long."""

from __future__ import annotations

from uniwhisper.model.turns import Turn


def turn(prompt: str, answer: str) -> Turn:
    """Return the bytes of both texts, and a zero that closes the answer."""
    return Turn(prompt=tuple(prompt.encode()), answer=(*answer.encode(), 0))
