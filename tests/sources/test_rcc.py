"""Qt's compiled resources: read back what was packed, and refuse what is no such file."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources._rcc import read_resources

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from make_sounds import resources

FILES = {"a/b/one.ogg": b"first", "a/two.ogg": b"second" * 100, "a/b/three.txt": b"text", "four.ogg": b""}


@pytest.mark.parametrize("compressed", [False, True])
def test_files_come_back(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "files.rcc"
    path.write_bytes(resources(FILES, compressed=compressed))
    assert dict(read_resources(path, (".ogg", ".txt"))) == FILES
    assert set(dict(read_resources(path, (".ogg",)))) == {name for name in FILES if name.endswith(".ogg")}


@pytest.mark.parametrize("content", [b"", b"qre", b"RIFF" + bytes(40), b"qres" + struct.pack(">4I", 3, 999, 0, 0)])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "files.rcc"
    path.write_bytes(content)
    with pytest.raises(LayoutError, match=r"expected compiled Qt resources at .*files\.rcc"):
        list(read_resources(path, (".ogg",)))
