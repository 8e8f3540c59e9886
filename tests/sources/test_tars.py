from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import Context
from uniwhisper.sources._tars import TarClip, has_tars, read_tars


def write(
    path: Path, members: list[tuple[str, bytes]], change: Callable[[tarfile.TarInfo], None] | None = None
) -> Path:
    with tarfile.open(path, "w:") as archive:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            if change is not None:
                change(info)
            archive.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return path


def read(folder: Path, ctx: Context | None = None) -> list[TarClip]:
    return list(read_tars(ctx or Context(source="toy", out_dir=folder), folder, {"train": "*.tar"}))


def test_samples_are_members_of_one_name(tmp_path: Path) -> None:
    write(
        tmp_path / "a.tar",
        [
            ("x/1.wav", b"audio one"),
            ("x/1.json", b'{"label": 3}'),
            ("2.JSON", b"{}"),
            ("2.flac", b"audio two"),
            ("2.txt", "  gr\u00fcn\n".encode()),
        ],
    )
    first, second = read(tmp_path)
    assert (first.key, first.split, first.suffix, first.json) == ("x/1", "train", ".wav", {"label": 3})
    assert (second.key, second.suffix, second.texts) == ("2", ".flac", {"txt": "gr\u00fcn"})
    for sample, content in ((first, b"audio one"), (second, b"audio two")):
        data = sample.path.read_bytes()
        assert data[sample.offset_bytes : sample.offset_bytes + sample.num_bytes] == content


def test_a_name_that_comes_back_is_another_sample(tmp_path: Path) -> None:
    names = ["00001.wav", "00001.json", "00002.wav", "00001.wav", "00001.json", "00001.wav"]
    write(tmp_path / "a.tar", [(name, b"{}") for name in names])
    ctx = Context(source="toy", out_dir=tmp_path)
    assert [sample.key for sample in read(tmp_path, ctx)] == ["00001", "00002", "00001~2", "00001~3"]
    assert ctx.rows[tmp_path / "a.tar"] == 4


def test_members_of_a_sample_need_not_be_neighbours(tmp_path: Path) -> None:
    names = ["1.json", "2.json", "1.wav", "2.wav"]
    write(tmp_path / "a.tar", [(name, b'{"label": "x"}') for name in names])
    assert [(sample.key, sample.json) for sample in read(tmp_path)] == [("1", {"label": "x"}), ("2", {"label": "x"})]


def test_a_list_of_objects_is_rows(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [("1.wav", b"x"), ("1.json", b'[{"label": "dog"}, {"label": "cat"}]'), ("2.wav", b"x")])
    first, second = read(tmp_path)
    assert (first.json, first.rows) == ({}, ({"label": "dog"}, {"label": "cat"}))
    assert second.rows == ()


def test_a_sample_without_audio_is_listed(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [("1.json", b"{}"), ("2.wav", b"x")])
    ctx = Context(source="toy", out_dir=tmp_path)
    assert [sample.key for sample in read(tmp_path, ctx)] == ["2"]
    assert [(item.id, item.reason) for item in ctx.dropped] == [("a/1", "no audio in the sample: members json")]


def symlink(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.SYMTYPE, "/etc/passwd", 0


def hardlink(info: tarfile.TarInfo) -> None:
    info.type, info.linkname, info.size = tarfile.LNKTYPE, "x", 0


def device(info: tarfile.TarInfo) -> None:
    info.type, info.size = tarfile.CHRTYPE, 0


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("../1.wav", None, "members below the folder"),
        ("a/../../1.wav", None, "members below the folder"),
        ("/etc/1.wav", None, "members below the folder"),
        ("a\\1.wav", None, "members below the folder"),
        ("1.wav", symlink, "a link or device"),
        ("1.wav", hardlink, "a link or device"),
        ("1.wav", device, "a link or device"),
        ("noname", None, "<key>.<suffix>"),
        (".wav", None, "<key>.<suffix>"),
    ],
)
def test_what_is_not_safe_is_refused(name: str, change: Any, expected: str, tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [(name, b"x")], change)
    with pytest.raises(LayoutError, match=expected) as caught:
        read(tmp_path)
    assert "a.tar" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"{", "expected JSON, found"),
        (b"[1]", "a JSON object or a list of them"),
        (b"\xff\xfe", "expected UTF-8"),
        (b"[" * 100_000, "expected JSON, found"),
        (b"1" * 5000, "expected JSON, found"),
        (b'{"a": "\\ud83d"}', "expected text, found half of a surrogate pair"),
    ],
)
def test_a_bad_annotation_is_named(content: bytes, expected: str, tmp_path: Path) -> None:
    write(tmp_path / "a.tar", [("1.wav", b"x"), ("1.json", content)])
    with pytest.raises(LayoutError, match=expected) as caught:
        read(tmp_path)
    assert "a.tar:1." in str(caught.value)


def test_an_annotation_without_bound_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniwhisper.sources._tars._MAX_TEXT_BYTES", 100)
    write(tmp_path / "a.tar", [("1.wav", b"x"), ("1.json", json.dumps({"x": "y" * 200}).encode())])
    with pytest.raises(LayoutError, match="at most 100 bytes, found 209"):
        read(tmp_path)


def test_a_truncated_or_compressed_tar_is_refused(tmp_path: Path) -> None:
    tar = write(tmp_path / "a.tar", [("1.wav", b"x" * 5000), ("2.wav", b"y" * 5000)])
    tar.write_bytes(tar.read_bytes()[:7000])
    with pytest.raises(LayoutError, match=r"a\.tar"):
        read(tmp_path)
    with tarfile.open(tar, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("1.wav"))
    with pytest.raises(LayoutError, match="uncompressed"):
        read(tmp_path)


def test_a_member_of_negative_size_is_refused(tmp_path: Path) -> None:
    """It leads back to the member before it, and Python's tarfile would read the two for ever."""
    tar = write(tmp_path / "a.tar", [("1.wav", b"x" * 5), ("2.wav", b"y" * 5)])
    content = bytearray(tar.read_bytes())
    header = content[1024:1536]
    header[124:136] = b"\xff" + (2**88 - 1024).to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[1024:1536] = header
    tar.write_bytes(content)
    with pytest.raises(LayoutError, match=r"a\.tar: expected '2\.wav' to have a size, found -1024 bytes"):
        read(tmp_path)


def test_a_folder_named_like_a_tar(tmp_path: Path) -> None:
    (tmp_path / "a.tar").mkdir()
    with pytest.raises(LayoutError, match=r"expected an uncompressed tar at .*a\.tar"):
        read(tmp_path)


def test_a_split_without_tars(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    assert not has_tars(tmp_path, ["*.tar"])
    with pytest.raises(LayoutError, match=r"expected tars \*\.tar for split train .* found readme\.txt"):
        read(tmp_path)
