"""An encoded audio file, on disk or in memory, checked to be there before a decoder sees it.

Reads nothing but a file's size; writes nothing. `audio.py` decodes what this module hands it.
"""

from __future__ import annotations

import io
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from uniwhisper.errors import AudioError

__all__ = ["Blob", "EncodedFile", "handle", "open_encoded"]


@dataclass(frozen=True, slots=True)
class Blob:
    """An encoded audio file in memory, for the functions that otherwise get a path."""

    data: bytes
    name: str

    @property
    def suffix(self) -> str:
        """Return the suffix of the name, with its dot."""
        return Path(self.name).suffix

    def open(self, mode: str = "rb") -> BinaryIO:
        """Return the bytes as a stream."""
        return io.BytesIO(self.data)

    def stat(self) -> os.stat_result:
        """Return what the file system would say about a plain file of this size."""
        return os.stat_result((stat.S_IFREG, 0, 0, 0, 0, 0, len(self.data), 0, 0, 0))

    def __str__(self) -> str:
        return self.name


EncodedFile = Path | Blob
"""A file on disk, or its bytes."""


def handle(file: EncodedFile) -> Any:
    """Return what a decoder opens: a file's name, or a stream of the bytes in memory."""
    return file.open() if isinstance(file, Blob) else str(file)


def open_encoded(path: str | os.PathLike[str] | bytes, name: str) -> EncodedFile:
    """Return the file at `path`, or the bytes under the name `name`.

    Raises:
        AudioError: There is no such file, it is no plain file, or there is nothing in it.
    """
    if isinstance(path, bytes):
        if not path:
            raise AudioError(f"expected an audio file as {name}, found 0 bytes: fetch or make it again")
        return Blob(path, name)
    file = Path(path)
    try:
        str(file).encode()  # as the decoders get it
        there = file.stat()
    except FileNotFoundError as error:
        raise AudioError(f"expected an audio file at {file}, found nothing there: check the path") from error
    except (OSError, ValueError) as error:  # no permission, a name too long, with a null in it, or not in UTF-8
        raise AudioError(f"expected an audio file at {str(file)[:200]!r}, found: {error}: rename it") from error
    if not stat.S_ISREG(there.st_mode):
        found = "directory: name the files in it" if stat.S_ISDIR(there.st_mode) else "device or pipe: check the path"
        raise AudioError(f"expected an audio file at {file}, found a {found}")
    if there.st_size == 0:
        raise AudioError(f"expected an audio file at {file}, found an empty one: fetch or make it again")
    return file
