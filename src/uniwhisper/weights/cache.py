"""The folder of converted models: `home()/weights/<name>/`, each complete or absent.

A model is built in a temporary folder beside its place and renamed into it. provenance.json says where it came from
and lists every file with size and sha256; `DONE`, written last, is the hash of that.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uniwhisper.errors import ManifestError
from uniwhisper.files import content_hash, home, is_done, mark_done, read_json, sha256_file, write_json

__all__ = ["FORMAT", "build", "cached", "read_provenance", "seal"]

FORMAT = 1
"""Raised when a converter changes what it writes; folders of another format are built again."""

_STALE_S = 86_400.0


def _place(key: str) -> Path:
    return home() / "weights" / key


def cached(key: str) -> Path | None:
    """Return the finished folder of `key`, or None; sizes are compared with provenance.json, hashes are not."""
    folder = _place(key)
    provenance = read_provenance(folder)
    if provenance is None or provenance.get("format") != FORMAT or not is_done(folder, content_hash(provenance)):
        return None
    for name, entry in provenance["files"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry["size_bytes"]:
            return None
    return folder


def read_provenance(folder: Path) -> dict[str, Any] | None:
    """Return the content of the folder's provenance.json, or None where there is none that can be read."""
    try:
        return read_json(folder / "provenance.json")
    except ManifestError:
        return None


@contextmanager
def build(key: str) -> Iterator[Path]:
    """Yield an empty folder that becomes the cache's folder of `key` when the block ends without an error.

    However the block ends, nothing temporary is left; what a killed process left is removed once it is a day old.
    A folder finished meanwhile by another process is kept.
    """
    place = _place(key)
    place.parent.mkdir(parents=True, exist_ok=True)
    for left in place.parent.glob(f".{key}.*"):
        if time.time() - left.stat().st_mtime > _STALE_S:
            shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(dir=place.parent, prefix=f".{key}."))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp makes 0700; a model is readable like any other file
        if cached(key) is None:
            shutil.rmtree(place, ignore_errors=True)  # unfinished, damaged, or of an older format
            _rename(temporary, place, key)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _rename(temporary: Path, place: Path, key: str) -> None:
    try:
        temporary.rename(place)
    except OSError:
        if cached(key) is None:  # otherwise another process was faster with the same model
            raise


def seal(folder: Path, provenance: dict[str, Any]) -> None:
    """Write provenance.json with every file's size and sha256, then `DONE`."""
    files = {
        path.name: {"size_bytes": path.stat().st_size, "sha256": sha256_file(path)}
        for path in sorted(folder.iterdir())
        if path.is_file()
    }
    content = {**provenance, "format": FORMAT, "files": files}
    write_json(folder / "provenance.json", content)
    mark_done(folder, content_hash(content))
