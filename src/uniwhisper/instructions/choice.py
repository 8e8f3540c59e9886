"""Seeded choices that are a pure function of (seed, clip, family): the same on every machine and in every process.

Python's own `hash` is salted per process and a shared generator depends on the order of calls, so neither can be used.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

__all__ = ["Choice"]

T = TypeVar("T")


class Choice:
    """A stream of picks from one 128-bit digest; the digits of the digest in mixed radix are the picks."""

    __slots__ = ("_rest",)

    def __init__(self, seed: int, clip_id: str, family: str) -> None:
        # The id comes last: it is the only part that may contain any character, so no two keys read the same.
        key = f"{seed:d}\n{family}\n{clip_id}".encode("utf-8", "surrogatepass")
        self._rest = int.from_bytes(hashlib.blake2b(key, digest_size=16).digest(), "little")

    def pick(self, options: Sequence[T]) -> T:
        """Return one of `options`, all but equally likely; a single option costs no randomness."""
        if len(options) == 1:
            return options[0]
        self._rest, index = divmod(self._rest, len(options))
        return options[index]
