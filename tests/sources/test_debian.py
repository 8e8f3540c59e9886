from __future__ import annotations

import io
import shutil
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from uniwhisper.errors import DownloadError
from uniwhisper.sources import _debian
from uniwhisper.sources._debian import fetch_packages, unpack_package


def deb_bytes(name: str, *others: tarfile.TarInfo) -> bytes:
    """Return a Debian package that holds usr/share/<name>.txt, and other members without content."""
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w:xz") as archive:
        member = tarfile.TarInfo(f"./usr/share/{name}.txt")
        member.size = len(name)
        archive.addfile(member, io.BytesIO(name.encode()))
        for other in others:
            archive.addfile(other, io.BytesIO(bytes(other.size)))
    control = io.BytesIO()
    with tarfile.open(fileobj=control, mode="w:gz"):
        pass
    members = (("debian-binary", b"2.0\n"), ("control.tar.gz", control.getvalue()), ("data.tar.xz", tar.getvalue()))
    result = b"!<arch>\n"
    for title, content in members:
        result += f"{title:<16}{0:<12}{0:<6}{0:<6}{'100644':<8}{len(content):<10}`\n".encode() + content
        result += b"\n" * (len(content) % 2)
    return result


@pytest.fixture
def fake_apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Put an apt-get on PATH that delivers every package but those called missing-*, and logs its calls."""
    programs = tmp_path / "bin"
    programs.mkdir()
    log = tmp_path / "apt.log"
    store = tmp_path / "store"
    store.mkdir()
    for name in ("one", "two"):
        (store / f"{name}_1.0_all.deb").write_bytes(deb_bytes(name))
    monkeypatch.delenv("UNIWHISPER_OFFLINE", raising=False)

    def install(body: str = "") -> Path:
        script = programs / "apt-get"
        script.write_text(
            f'#!/bin/sh\necho "$@" >> "{log}"\n{body}\n'
            'while [ "$1" = "-o" ]; do shift 2; done\n'
            '[ "$1" = update ] && exit 0\nshift\n'
            f'for n in "$@"; do cp "{store}/${{n}}_1.0_all.deb" . 2>/dev/null || '
            '{ echo "E: Unable to locate package $n" >&2; exit 100; }; done\n',
            encoding="utf-8",
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
        return log

    return install


def test_packages_are_fetched_once(fake_apt: Callable[..., Path], tmp_path: Path) -> None:
    log = fake_apt()
    files = fetch_packages(["one", "two"], tmp_path / "corpus")
    assert (files / "usr/share/one.txt").read_text() == "one"
    assert (files / "usr/share/two.txt").read_text() == "two"
    assert sorted(path.name for path in (tmp_path / "corpus").iterdir()) == ["DONE", "files"]
    calls = log.read_text()
    assert fetch_packages(["two", "one"], tmp_path / "corpus") == files
    assert log.read_text() == calls


def test_other_packages_replace_the_folder(fake_apt: Callable[..., Path], tmp_path: Path) -> None:
    fake_apt()
    fetch_packages(["one"], tmp_path / "corpus")
    files = fetch_packages(["two"], tmp_path / "corpus")
    assert [path.name for path in (files / "usr/share").iterdir()] == ["two.txt"]


def test_empty_system_lists_mean_lists_of_our_own(
    fake_apt: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_debian, "_SYSTEM_LISTS", tmp_path / "none")
    log = fake_apt()
    fetch_packages(["one"], tmp_path / "corpus")
    first, second = log.read_text().splitlines()
    assert first.endswith("update")
    assert second.endswith("download one")
    for call in (first, second):
        assert f"Dir::State::Lists={tmp_path}/corpus" in call
        assert "Dir::Cache=" in call


def test_stale_system_lists_fall_back_to_our_own(
    fake_apt: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "archive_Packages.lz4").touch()
    monkeypatch.setattr(_debian, "_SYSTEM_LISTS", lists)
    fake_apt('[ "$1" = "-o" ] || { echo "E: 404 Not Found" >&2; exit 100; }')
    assert (fetch_packages(["one"], tmp_path / "corpus") / "usr/share/one.txt").is_file()


def test_each_failed_package_is_listed(fake_apt: Callable[..., Path], tmp_path: Path) -> None:
    fake_apt()
    with pytest.raises(DownloadError) as error:
        fetch_packages(["missing-a", "one", "missing-b"], tmp_path / "corpus")
    message = str(error.value)
    assert "3 packages, 2 failed" in message
    assert "missing-a: apt-get ended with 100: E: Unable to locate package missing-a" in message
    assert "missing-b: apt-get ended with 100: E: Unable to locate package missing-b" in message
    assert "convert table" in message
    assert not (tmp_path / "corpus" / "DONE").exists()


def test_offline_forbids_the_download(
    fake_apt: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = fake_apt()
    monkeypatch.setenv("UNIWHISPER_OFFLINE", "1")
    with pytest.raises(DownloadError, match="UNIWHISPER_OFFLINE=1"):
        fetch_packages(["one"], tmp_path / "corpus")
    assert not log.exists()


def test_without_apt_the_other_ways_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("UNIWHISPER_OFFLINE", raising=False)
    with pytest.raises(DownloadError, match=r"expected apt-get .* convert table .* Hugging Face hub .* --root FOLDER"):
        fetch_packages(["one"], tmp_path / "corpus")


@pytest.mark.parametrize("with_dpkg", [True, False])
def test_unpacking_with_and_without_dpkg(with_dpkg: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if with_dpkg and shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not on this machine")
    if not with_dpkg:
        monkeypatch.setenv("PATH", str(tmp_path))
    deb = tmp_path / "one.deb"
    deb.write_bytes(deb_bytes("one"))
    unpack_package(deb, tmp_path / "files")
    assert (tmp_path / "files/usr/share/one.txt").read_text() == "one"


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04zip", b"!<arch>\n", b"!<arch>\n" + b"x" * 60])
def test_a_file_that_is_no_package(content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    deb = tmp_path / "x.deb"
    deb.write_bytes(content)
    with pytest.raises(DownloadError, match=r"x\.deb"):
        unpack_package(deb, tmp_path / "files")


def other(name: str, kind: bytes = tarfile.REGTYPE, target: str = "", size: int = 0) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname, member.size = kind, target, size
    return member


@pytest.fixture(params=["dpkg-deb", "Python alone"])
def unpack(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Path]:
    """Return a function that unpacks a package and returns the folder."""
    if request.param == "dpkg-deb" and shutil.which("dpkg-deb") is None:
        pytest.skip("dpkg-deb is not on this machine")
    if request.param != "dpkg-deb":
        monkeypatch.setenv("PATH", str(tmp_path))

    def run(content: bytes) -> Path:
        (tmp_path / "x.deb").write_bytes(content)
        unpack_package(tmp_path / "x.deb", tmp_path / "in" / "files")
        return tmp_path / "in" / "files"

    return run


@pytest.mark.parametrize(
    ("member", "expected"),
    [
        (other("../evil.txt"), "evil.txt"),
        (other("usr/../../evil.txt"), "evil.txt"),
        (other("dev/null", tarfile.CHRTYPE), "null"),
        (other("pipe", tarfile.FIFOTYPE), "pipe"),
        (other("big", size=1001), "expected at most .* files with 1000 bytes"),
    ],
)
def test_packages_that_are_not_safe_are_refused(
    member: tarfile.TarInfo,
    expected: str,
    unpack: Callable[[bytes], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(_debian, "_MAX_BYTES", 1000)
    with pytest.raises(DownloadError, match=rf"x\.deb.*{expected}"):
        unpack(deb_bytes("one", member))
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} <= {"x.deb", "one.txt"}


def test_a_package_of_too_many_files_is_refused(
    unpack: Callable[[bytes], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_debian, "_MAX_MEMBERS", 3)
    with pytest.raises(DownloadError, match="expected at most 3 files"):
        unpack(deb_bytes("one", *(other(f"file{number}") for number in range(3))))


def test_links_out_of_the_package_are_not_made(unpack: Callable[[bytes], Path]) -> None:
    members = (
        other("usr/share/inside", tarfile.SYMTYPE, "one.txt"),
        other("usr/share/passwd", tarfile.SYMTYPE, "/etc/passwd"),
        other("usr/share/above", tarfile.SYMTYPE, "../../../secret"),
        other("usr/share/twin", tarfile.LNKTYPE, "./usr/share/one.txt"),
        other("usr/share/hard", tarfile.LNKTYPE, "../../etc/passwd"),
        other("/usr/share/absolute.txt"),
    )
    files = unpack(deb_bytes("one", *members))
    assert sorted(path.name for path in (files / "usr/share").iterdir()) == [
        "absolute.txt",
        "inside",
        "one.txt",
        "twin",
    ]
    assert (files / "usr/share/inside").read_text() == (files / "usr/share/twin").read_text() == "one"


def test_a_truncated_package_is_named(unpack: Callable[[bytes], Path]) -> None:
    with pytest.raises(DownloadError, match=r"x\.deb"):
        unpack(deb_bytes("one")[:-4])
