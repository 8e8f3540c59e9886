"""Damage that files suffer: on the way (bits, truncation), by hand (lines, numbers, columns), and on purpose."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

__all__ = ["MUTATIONS", "mutate"]

_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_WORD = re.compile(rb"[A-Za-z_]{3,}")
_CELL = re.compile(rb'[^\s,;|"{}\[\]]+')
_NASTY = (
    b"\xff\xfe",
    b"\x00",
    b'"',
    b"\n\n",
    b"\r",
    b"\t",
    b",",
    b"{",
    b"]",
    b"NaN",
    b"-1",
    b"1e999",
    "\u2028".encode(),
    b"../../etc/passwd",
    b"\xc3\x28",
    b"null",
    b"\\ud83d",
    b"x" * 5000,
    b"7" * 5000,
    b"[" * 5000,
)
_STRANGE_NUMBERS = (b"-3", b"0", b"", b"nan", b"inf", b"1e308", b"99999999999", b"0.0001", b"x", b"8" * 400)
_STRANGE_CELLS = (
    b"",
    b".",
    b"..",
    b"/etc/passwd",
    b"../../../../etc/passwd",
    b"a/../../b",
    b"C:\\a",
    b"\x07",
    b"unknown thing",
    b"a;b",
    b"y" * 300,
    b"y" * 5000,
    "\u0661".encode(),
    b"true",
    b"-",
    b"*a",
)


def _flip(data: bytearray, draw: random.Random) -> None:
    for _ in range(draw.randint(1, 8)):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)


def _cut(data: bytearray, draw: random.Random) -> None:
    del data[draw.randrange(len(data)) :]


def _insert(data: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(data) + 1)
    data[place:place] = draw.choice(_NASTY)


def _delete(data: bytearray, draw: random.Random) -> None:
    place = draw.randrange(len(data))
    del data[place : place + draw.randint(1, 64)]


def _lines(data: bytearray, draw: random.Random) -> None:
    lines = bytes(data).split(b"\n")
    first, second = draw.randrange(len(lines)), draw.randrange(len(lines))
    match draw.randrange(4):
        case 0:
            del lines[first]
        case 1:
            lines.insert(second, lines[first])
        case 2:
            lines[first], lines[second] = lines[second], lines[first]
        case _:
            lines[first] = lines[first][: draw.randrange(len(lines[first]) + 1)]
    data[:] = b"\n".join(lines)


def _found(pattern: re.Pattern[bytes], data: bytearray, draw: random.Random) -> re.Match[bytes] | None:
    """Return a place where the pattern matches, the first after a random one."""
    content = bytes(data)
    return pattern.search(content, draw.randrange(len(content))) or pattern.search(content)


def _number(data: bytearray, draw: random.Random) -> None:
    match = _found(_NUMBER, data, draw)
    if match:
        data[match.start() : match.end()] = draw.choice(_STRANGE_NUMBERS)


def _cell(data: bytearray, draw: random.Random) -> None:
    """Put something strange, or what stands elsewhere, into a cell or a value."""
    match, other = _found(_CELL, data, draw), _found(_CELL, data, draw)
    if match and other:
        data[match.start() : match.end()] = draw.choice((*_STRANGE_CELLS, other[0], other[0]))


def _separator(data: bytearray, draw: random.Random) -> None:
    old, new = draw.sample((b",", b"\t", b";", b" ", b":"), 2)
    data[:] = bytes(data).replace(old, new, draw.randint(1, 5))


def _rename(data: bytearray, draw: random.Random) -> None:
    """Change a word: a column, a key of JSON, a label, a file's name."""
    match = _found(_WORD, data, draw)
    if match:
        data[match.start() : match.end()] = draw.choice((b"unknown_thing", b"", match[0].upper(), match[0] * 2))


def _repeat(data: bytearray, draw: random.Random) -> None:
    data[:] = bytes(data) * 2


def _empty(data: bytearray, draw: random.Random) -> None:
    data.clear()


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _cut,
    _insert,
    _delete,
    _lines,
    _number,
    _cell,
    _cell,
    _separator,
    _rename,
    _repeat,
    _empty,
)


def mutate(data: bytes, seed: int) -> bytes:
    """Return damaged content, the same for the same seed."""
    draw = random.Random(seed)
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        if changed:
            draw.choice(MUTATIONS)(changed, draw)
    return bytes(changed)
