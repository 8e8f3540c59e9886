"""Files and folders of the pipeline: atomic writes, hashes, JSON lines, and artifact folders whose `DONE` comes last.

Every stage writes through here, so an interrupted run leaves either the old file or the new one, never half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from uniwhisper.errors import ManifestError

__all__ = [
    "atomic_path",
    "content_hash",
    "home",
    "is_done",
    "is_offline",
    "mark_done",
    "read_json",
    "read_jsonl",
    "sha256_file",
    "write_json",
    "write_jsonl",
    "write_text",
]


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def home() -> Path:
    """Return the folder for weights, corpora and caches: `UNIWHISPER_HOME`, or `~/.cache/uniwhisper`."""
    value = os.environ.get("UNIWHISPER_HOME")
    return Path(value).expanduser().resolve() if value else Path.home() / ".cache" / "uniwhisper"


def is_offline() -> bool:
    """Return whether `UNIWHISPER_OFFLINE=1` forbids every download."""
    return os.environ.get("UNIWHISPER_OFFLINE", "") == "1"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes 0600; an artifact is readable like any other file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write `value` to `path` as indented JSON, atomically; NaN is refused."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Return the JSON value in `path`.

    Raises:
        ManifestError: The file is missing or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise ManifestError(f"expected a JSON file at {path}, found nothing there") from e
    except json.JSONDecodeError as e:
        raise ManifestError(f"expected JSON in {path}, found an error at line {e.lineno}: {e.msg}") from e
    except (ValueError, RecursionError) as e:  # not UTF-8, or numbers and nesting beyond what Python reads
        raise ManifestError(f"expected JSON in {path}, found: {e}") from e


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    """Write one JSON object a line, atomically, and return the number of rows.

    Raises:
        ManifestError: A text in a row cannot be written as UTF-8; the message shows it. Nothing is written then.
    """
    count = 0
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
            try:
                file.write(line)
            except UnicodeEncodeError as e:
                found = line[max(0, e.start - 60) : e.start + 20]
                raise ManifestError(
                    f"{path}: expected text that UTF-8 can hold in row {count + 1}, found half of a surrogate pair, or "
                    f"a file name in another encoding, in {found!r}: repair or rename it"
                ) from e
            count += 1
    return count


def read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the object on each line of `path`.

    Raises:
        ManifestError: The file is missing, or a line is not JSON in UTF-8; the message names the line.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError as e:
        raise ManifestError(f"expected a JSON-lines file at {path}, found nothing there") from e
    with file:
        for number, line in enumerate(file, start=1):
            try:
                value = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
                if _SURROGATE.search(line):  # most are pairs, which are characters; half of one is none
                    json.dumps(value, ensure_ascii=False).encode()
            except json.JSONDecodeError as e:
                raise ManifestError(f"expected JSON at {path}:{number}, found: {e.doc[:80]!r} ({e.msg})") from e
            except (ValueError, RecursionError) as e:  # not UTF-8, or numbers and nesting beyond what Python reads
                raise ManifestError(f"expected JSON in UTF-8 at {path}:{number}, found: {e}") from e
            yield value


def sha256_file(path: Path) -> str:
    """Return the sha256 of the file's bytes as 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_hash(value: Any) -> str:
    """Return the sha256 of `value` as canonical JSON (sorted keys): the key of caches and artifact names."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def mark_done(folder: Path, key: str) -> None:
    """Declare `folder` complete for the configuration hash `key`; call it last."""
    write_text(folder / "DONE", key + "\n")


def is_done(folder: Path, key: str) -> bool:
    """Return whether `folder` was completed for exactly the configuration hash `key`."""
    marker = folder / "DONE"
    return marker.is_file() and marker.read_text(encoding="utf-8", errors="replace").strip() == key
