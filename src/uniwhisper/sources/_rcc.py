"""Qt's compiled resources (`.rcc`): a small file system in one file.

Reads one `.rcc` file; writes nothing. The file is taken as untrusted: names that leave the folder, nodes that are
listed again and again, and content that expands without bound are refused.

Source: the format as written by Qt's rcc tool, qtbase src/tools/rcc/rcc.cpp (format versions 1 to 3): a header of magic
and four big-endian numbers (version; offsets of tree, data and names), then nodes of 14 bytes (22 from version 2).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError

__all__ = ["read_resources"]

_ZLIB, _FOLDER, _ZSTD = 1, 2, 4
_MAX_BYTES = 256 << 20
"""Far above any file, and all files together, of the corpus."""


def read_resources(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield name (without a leading slash) and content of the files in `path` whose names end in `suffixes`.

    Raises:
        LayoutError: The file is not an rcc file or not safe to read, or a wanted file is compressed with Zstandard.
    """
    try:
        num_bytes = 0
        for name, content in _files(path, suffixes):
            num_bytes += len(content)
            if num_bytes > _MAX_BYTES:
                raise ValueError(f"its files expand to more than {_MAX_BYTES} bytes")
            yield name, content
    except (OSError, struct.error, ValueError, zlib.error, RecursionError) as e:
        raise LayoutError(f"expected compiled Qt resources at {path}, found a file that is none: {e}") from e


def _files(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    content = path.read_bytes()
    magic, version, tree, data, names = struct.unpack_from(">4s4I", content)
    if magic != b"qres":
        raise ValueError(f"the file begins with {magic!r}")
    yield from _walk(content, (tree, data, names), 22 if version >= 2 else 14, 0, "", suffixes, set())


def _walk(
    content: bytes,
    offsets: tuple[int, int, int],
    size: int,
    index: int,
    folder: str,
    suffixes: tuple[str, ...],
    seen: set[int],
) -> Iterator[tuple[str, bytes]]:
    """Yield the files below node `index`, which lies in `folder`; no node is in two folders."""
    if index in seen:
        raise ValueError(f"folder {folder!r} holds node {index}, as another folder does")
    seen.add(index)
    tree, data, names = offsets
    name_offset, flags = struct.unpack_from(">IH", content, tree + index * size)
    name = folder
    if index:  # the root has no name
        (length,) = struct.unpack_from(">H", content, names + name_offset)
        start = names + name_offset + 6
        own = content[start : start + 2 * length].decode("utf-16-be")
        if own in ("", ".", "..") or "/" in own or "\0" in own or "\\" in own:
            raise ValueError(f"folder {folder!r} holds a file named {own[:80]!r}: do not use it")
        name = f"{folder}/{own}".lstrip("/")
    if flags & _FOLDER:
        count, first = struct.unpack_from(">II", content, tree + index * size + 6)
        if first <= index:  # folders stand before what they hold; anything else would go in circles
            raise ValueError(f"folder {name!r} at node {index} holds node {first}")
        for child in range(first, first + count):
            yield from _walk(content, offsets, size, child, name, suffixes, seen)
        return
    if not name.endswith(suffixes):
        return
    if flags & _ZSTD:
        raise ValueError(f"{name} is compressed with Zstandard")
    (where,) = struct.unpack_from(">I", content, tree + index * size + 10)
    (length,) = struct.unpack_from(">I", content, data + where)
    stored = content[data + where + 4 : data + where + 4 + length]
    yield name, _inflate(stored[4:], name) if flags & _ZLIB else stored  # Qt puts the size before the stream


def _inflate(stream: bytes, name: str) -> bytes:
    """Return the content of a compressed file; one that expands without bound is refused."""
    content = zlib.decompressobj().decompress(stream, _MAX_BYTES)
    if len(content) == _MAX_BYTES:
        raise ValueError(f"{name} expands to {_MAX_BYTES} bytes or more")
    return content
