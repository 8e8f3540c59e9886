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


@pytest.mark.parametrize("name", ["../evil.ogg", "a/../../evil.ogg", "a/./b.ogg", "a\\b.ogg", "a\x00b.ogg"])
def test_names_that_leave_the_folder_are_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / "files.rcc"
    path.write_bytes(resources({name: b"x"}))
    with pytest.raises(LayoutError, match=r"files\.rcc, .* holds a file named .*: do not use it"):
        list(read_resources(path, (".ogg",)))


def test_files_that_expand_without_bound_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniwhisper.sources._rcc._MAX_BYTES", 1000)
    path = tmp_path / "files.rcc"
    path.write_bytes(resources({"a.ogg": bytes(2000)}, compressed=True))
    with pytest.raises(LayoutError, match=r"a\.ogg expands to 1000 bytes or more"):
        list(read_resources(path, (".ogg",)))
    path.write_bytes(resources({f"{name}.ogg": bytes(400) for name in "abc"}, compressed=True))
    with pytest.raises(LayoutError, match="its files expand to more than 1000 bytes"):
        list(read_resources(path, (".ogg",)))


def test_folders_that_share_their_files_are_refused(tmp_path: Path) -> None:
    """Thirty folders that each hold all further ones would be a thousand million files."""
    folders = (struct.pack(">IHII", 0, 2, 31 - index, index + 1) + bytes(8) for index in range(31))
    nodes = b"".join(folders) + bytes(22)
    name = struct.pack(">HI", 1, 0) + "a".encode("utf-16-be")
    path = tmp_path / "files.rcc"
    path.write_bytes(struct.pack(">4s5I", b"qres", 3, 24 + len(name), 24, 24, 0) + name + nodes)
    with pytest.raises(LayoutError, match="holds node 31, as another folder does"):
        list(read_resources(path, (".ogg",)))
