"""Fetch Debian packages without root and without touching the system, and unpack them into one folder.

Uses the system's package lists where there are any, and lists of its own where there are none or they are out of
date. Writes the packages' files below `folder/files` and `folder/DONE` last: a second call does nothing. Packages are
unpacked as if they came from a stranger: a name that leaves the folder, a device, or content that expands without
bound is refused, and a link that leads out of the folder is not made.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from uniwhisper.errors import DownloadError
from uniwhisper.files import content_hash, is_done, is_offline, mark_done

__all__ = ["fetch_packages", "unpack_package"]

_OTHER_WAYS = (
    "Other ways to get audio: a table of your own files (uniwhisper convert table --root clips.csv), a data set from "
    "the Hugging Face hub saved as such a table, or these packages unpacked elsewhere "
    "(dpkg-deb -x PACKAGE.deb FOLDER) and given with --root FOLDER."
)
_TIMEOUT_S = 1800
_MAX_BYTES = 4 << 30
_MAX_MEMBERS = 1_000_000
"""Both far above any package of ours."""
_SYSTEM_LISTS = Path("/var/lib/apt/lists")
_AR_MAGIC = b"!<arch>\n"
_AR_HEADER_BYTES = 60


def fetch_packages(names: Sequence[str], folder: Path) -> Path:
    """Return a folder with the files of the Debian packages `names`, fetched unless that was done before.

    Args:
        names: Debian package names; their dependencies are not fetched.
        folder: Where to put them; this function owns it.

    Raises:
        DownloadError: Downloads are forbidden, apt-get is missing, or a package cannot be fetched or unpacked; the
            message lists each package with its reason.
    """
    key = content_hash({"packages": sorted(names)})
    files = folder / "files"
    if is_done(folder, key):
        return files
    wanted = ", ".join(names)
    if is_offline():
        raise DownloadError(
            f"expected the Debian packages {wanted} in {folder}, found none there, and UNIWHISPER_OFFLINE=1 forbids "
            f"the download. {_OTHER_WAYS}"
        )
    if shutil.which("apt-get") is None:
        raise DownloadError(
            f"expected apt-get (Debian, Ubuntu and their kin) to fetch {wanted}, found none on PATH. {_OTHER_WAYS}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as name:
        unpacked = Path(name) / "files"
        for deb in _download(names, Path(name)):
            unpack_package(deb, unpacked)
        (folder / "DONE").unlink(missing_ok=True)
        shutil.rmtree(files, ignore_errors=True)
        unpacked.rename(files)
    mark_done(folder, key)
    return files


def _download(names: Sequence[str], target: Path) -> list[Path]:
    """Return the .deb files of `names`, downloaded into `target`: by the system's lists first, then by our own."""
    reasons: dict[str, str] = {}
    ways = [_own_lists]
    if any(_SYSTEM_LISTS.glob("*_Packages*")):
        ways.insert(0, _system_lists)
    for way in ways:
        missing = [name for name in names if not _found(name, target)]
        if not missing:
            break
        try:
            options = way(target / "apt")
            _run(["apt-get", *options, "download", *missing], target)
        except DownloadError as e:
            reasons.update(dict.fromkeys(missing, str(e)))
            if way is _own_lists:  # one bad name fails the whole call: ask for each, to learn and to keep the rest
                reasons.update(_download_singly(missing, target))
    missing = [name for name in names if not _found(name, target)]
    if missing:
        listing = "\n".join(f"  {name}: {reasons.get(name, 'apt-get delivered no file')}" for name in missing)
        raise DownloadError(
            f"expected apt-get to deliver {len(names)} packages, {len(missing)} failed:\n{listing}\n{_OTHER_WAYS}"
        )
    return [_found(name, target)[-1] for name in names]


def _download_singly(names: Sequence[str], target: Path) -> dict[str, str]:
    """Download each package on its own; return the reason for each that failed."""
    reasons = {}
    for name in names:
        try:
            _run(["apt-get", *_own_options(target / "apt"), "download", name], target)
        except DownloadError as e:
            reasons[name] = str(e)
    return reasons


def _found(name: str, target: Path) -> list[Path]:
    return sorted(target.glob(f"{name}_*.deb"))


def _system_lists(folder: Path) -> list[str]:
    return []


def _own_lists(folder: Path) -> list[str]:
    """Fetch package lists into `folder` and return the options that make apt-get use them."""
    for part in ("lists/partial", "cache/archives/partial"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    options = _own_options(folder)
    _run(["apt-get", *options, "update"], folder)
    return options


def _own_options(folder: Path) -> list[str]:
    return ["-o", f"Dir::State::Lists={folder}/lists", "-o", f"Dir::Cache={folder}/cache"]


def _run(command: list[str], folder: Path) -> None:
    """Run a command in `folder`; its last lines are the error's reason."""
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        result = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise DownloadError(f"{command[0]} did not finish: {e}") from e
    if result.returncode != 0:
        errors = [line for line in result.stderr.splitlines() if line.startswith("E:")]
        tail = errors or result.stderr.splitlines()[-3:] or result.stdout.splitlines()[-3:]
        raise DownloadError(f"{command[0]} ended with {result.returncode}: {' | '.join(tail)}")


def unpack_package(deb: Path, folder: Path) -> None:
    """Unpack the files of one .deb into `folder`, read by dpkg-deb or, where that is missing, by Python alone.

    Raises:
        DownloadError: The file is not a Debian package, its compression cannot be read here, or it is not safe to
            unpack.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with_dpkg = shutil.which("dpkg-deb") is not None
    with (_dpkg_tar if with_dpkg else _data_tar)(deb) as stream:
        try:
            with tarfile.open(fileobj=stream, mode="r|" if with_dpkg else "r|*") as archive:
                _extract(archive, folder, deb)
        except (tarfile.TarError, OSError, ValueError, EOFError) as e:
            hint = "" if with_dpkg else " Install dpkg (dpkg-deb), which knows more kinds of compression."
            raise DownloadError(f"expected to unpack the Debian package {deb}, found: {e}.{hint}") from e


def _extract(archive: tarfile.TarFile, folder: Path, deb: Path) -> None:
    num_bytes = 0
    for count, member in enumerate(archive):
        num_bytes += member.size
        if member.size < 0 or num_bytes > _MAX_BYTES or count >= _MAX_MEMBERS:
            raise DownloadError(
                f"{deb}: expected at most {_MAX_MEMBERS} files with {_MAX_BYTES} bytes in all, found more at "
                f"{member.name[:100]!r}: do not use it"
            )
        try:
            archive.extract(member, folder, filter="data")
        except (tarfile.AbsoluteLinkError, tarfile.LinkOutsideDestinationError):
            continue  # it would lead to files of this machine, which the corpus does not have


@contextmanager
def _dpkg_tar(deb: Path) -> Iterator[IO[bytes]]:
    """Yield the package's files as a tar, unpacked by dpkg-deb as they are read."""
    command = ["dpkg-deb", "--fsys-tarfile", str(deb.resolve())]
    with tempfile.TemporaryFile() as errors:
        try:
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, env={**os.environ, "LC_ALL": "C"}
            )
        except OSError as e:
            raise DownloadError(f"dpkg-deb did not start: {e}") from e
        with process:
            stream = cast(IO[bytes], process.stdout)
            try:
                yield stream
                while stream.read(1 << 20):  # a tar may be padded after its end
                    pass
            except BaseException:
                process.kill()
                if process.wait() in (0, -signal.SIGKILL):  # else it had failed before, and its reason is the reason
                    raise
        if process.returncode != 0:
            errors.seek(0)
            reason = " | ".join(errors.read().decode(errors="replace").splitlines()[-3:])
            raise DownloadError(f"expected a Debian package at {deb}, found that dpkg-deb cannot read it: {reason}")


@contextmanager
def _data_tar(deb: Path) -> Iterator[IO[bytes]]:
    """Yield the package's files as a compressed tar: the `data.tar.*` member of a .deb, which is an ar archive.

    Source: deb(5) and ar(5): an 8-byte magic, then members of a 60-byte header (name in bytes 0-15, size in decimal
    in bytes 48-57) and the content, padded to an even length.
    """
    with deb.open("rb") as file:
        magic = file.read(len(_AR_MAGIC))
        if magic != _AR_MAGIC:
            raise DownloadError(f"expected a Debian package (ar archive) at {deb}, found {magic!r}")
        while len(header := file.read(_AR_HEADER_BYTES)) == _AR_HEADER_BYTES:
            try:
                size = int(header[48:58])
            except ValueError as e:
                raise DownloadError(f"expected an ar header in {deb}, found {header!r}") from e
            if size < 0:
                raise DownloadError(f"expected an ar member with a size in {deb}, found {size} bytes: damaged")
            if deb.stat().st_size < file.tell() + size:
                raise DownloadError(f"expected {size} bytes of {header[:16]!r} in {deb}, found fewer: fetch it again")
            if header.startswith(b"data.tar"):
                yield file  # the last member: what follows it is not read
                return
            file.seek(size + size % 2, os.SEEK_CUR)
    raise DownloadError(f"expected a data.tar member in {deb}, found none")
