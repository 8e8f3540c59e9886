"""Bounds-checked little-endian reading of foreign weight files; a truncated or absurd file names its offset."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from uniwhisper.errors import WeightsError

__all__ = ["Cursor"]

_MAX_RANK = 4
"""Whisper's widest tensor is a convolution kernel of rank 3; a higher rank means that the file was misread."""


class Cursor:
    """A file mapped into memory and a position in it; every read past the end raises `WeightsError`.

    Args:
        path: The file.
        format_name: What the file is expected to be, for messages.
    """

    def __init__(self, path: Path, format_name: str) -> None:
        self.path = path
        self.format_name = format_name
        if path.stat().st_size == 0:
            raise WeightsError(f"expected a {format_name} file at {path}, found an empty file; fetch it again")
        # copy-on-write: torch wants writable memory, the file itself is never touched
        self._bytes = np.memmap(path, dtype=np.uint8, mode="c")
        self.offset = 0

    @property
    def num_left(self) -> int:
        """Number of bytes after the position."""
        return int(self._bytes.size) - self.offset

    def fail(self, expected: str, found: str, offset: int | None = None) -> WeightsError:
        """Return the error that says what was expected and found at `offset` (default: the position)."""
        where = self.offset if offset is None else offset
        return WeightsError(
            f"{self.path}: not a valid {self.format_name} file: expected {expected} at byte {where}, found {found}. "
            "The file is truncated or corrupt; delete it and fetch it again"
        )

    def take(self, num_bytes: int, what: str) -> np.ndarray:
        """Return the next `num_bytes` bytes without copying them.

        Raises:
            WeightsError: Fewer bytes are left.
        """
        if num_bytes < 0 or num_bytes > self.num_left:
            raise self.fail(f"{num_bytes} bytes of {what}", f"{self.num_left} bytes to the end of the file")
        start, self.offset = self.offset, self.offset + num_bytes
        return self._bytes[start : self.offset]

    def integer(self, code: str, what: str) -> int:
        """Return the next integer in `struct` notation `code`: B, H, I or i."""
        (value,) = struct.unpack(f"<{code}", self.take(struct.calcsize(code), what).tobytes())
        return value

    def shape(self, rank: int, code: str, what: str) -> tuple[int, ...]:
        """Return the next `rank` sizes."""
        if not 0 <= rank <= _MAX_RANK:
            raise self.fail(f"a rank of 0 to {_MAX_RANK} for {what}", str(rank))
        sizes = tuple(self.integer(code, f"the shape of {what}") for _ in range(rank))
        if any(size < 1 for size in sizes):
            raise self.fail(f"positive sizes for {what}", str(sizes))
        return sizes

    def text(self, num_bytes: int, what: str) -> str:
        """Return the next `num_bytes` bytes as UTF-8 text, without a trailing NUL."""
        start = self.offset
        raw = self.take(num_bytes, what).tobytes()
        try:
            return raw.rstrip(b"\0").decode("utf-8")
        except UnicodeDecodeError as e:
            raise self.fail(f"{what} in UTF-8", repr(raw[:40]), start) from e

    def tensor(self, dtype: torch.dtype, shape: tuple[int, ...], what: str) -> Tensor:
        """Return the next tensor of `dtype` and `shape`; it shares the mapped memory."""
        num_bytes = dtype.itemsize * int(np.prod(shape, dtype=np.int64))
        raw = self.take(num_bytes, what)
        return torch.from_numpy(raw).view(torch.uint8).clone().view(dtype).reshape(shape)
