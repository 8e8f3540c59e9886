"""Qt's compiled resources (`.rcc`): a small file system in one file.

Reads one `.rcc` file; writes nothing.

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


def read_resources(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield name (without a leading slash) and content of the files in `path` whose names end in `suffixes`.

    Raises:
        LayoutError: The file is not an rcc file, or a wanted file is compressed with Zstandard.
    """
    try:
        content = path.read_bytes()
        magic, version, tree, data, names = struct.unpack_from(">4s4I", content)
        if magic != b"qres":
            raise ValueError(f"the file begins with {magic!r}")
        yield from _walk(content, (tree, data, names), 22 if version >= 2 else 14, 0, "", suffixes)
    except (OSError, struct.error, ValueError, zlib.error) as e:
        raise LayoutError(f"expected compiled Qt resources at {path}, found a file that is none: {e}") from e


def _walk(
    content: bytes, offsets: tuple[int, int, int], size: int, index: int, folder: str, suffixes: tuple[str, ...]
) -> Iterator[tuple[str, bytes]]:
    """Yield the files below node `index`, which lies in `folder`."""
    tree, data, names = offsets
    name_offset, flags = struct.unpack_from(">IH", content, tree + index * size)
    name = folder
    if index:  # the root has no name
        (length,) = struct.unpack_from(">H", content, names + name_offset)
        start = names + name_offset + 6
        name = f"{folder}/{content[start : start + 2 * length].decode('utf-16-be')}".lstrip("/")
    if flags & _FOLDER:
        count, first = struct.unpack_from(">II", content, tree + index * size + 6)
        for child in range(first, first + count):
            yield from _walk(content, offsets, size, child, name, suffixes)
        return
    if not name.endswith(suffixes):
        return
    if flags & _ZSTD:
        raise ValueError(f"{name} is compressed with Zstandard")
    (where,) = struct.unpack_from(">I", content, tree + index * size + 10)
    (length,) = struct.unpack_from(">I", content, data + where)
    stored = content[data + where + 4 : data + where + 4 + length]
    yield name, zlib.decompress(stored[4:]) if flags & _ZLIB else stored  # Qt puts the size before the stream
