"""The store of computed embeddings, addressed by everything that decides their value.

A key is the sha256 of the encoder's fingerprint, the preprocessing, what was computed (pooled or frames) and the bytes
of the audio; never a class name or a path, so no encoder is served another's vectors and no changed file is stale.

Reads and writes one SQLite file. Guarantees: `put_many` stores all of its vectors or none, also when the process is
killed in the middle; any number of processes and threads may read and write at once; what is read back is bit for bit
what was put, or an error. A damaged store raises and says how to start afresh; it is never repaired silently.
"""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import lru_cache
from pathlib import Path

import numpy as np

from uniwhisper.errors import AudioError, EncoderError, UniWhisperError
from uniwhisper.files import content_hash, home, sha256_file

__all__ = ["EmbeddingCache", "array_hash", "audio_hash", "embedding_key"]

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE IF NOT EXISTS embeddings (
    key TEXT PRIMARY KEY,
    rows INTEGER,               -- T of [T, D]; NULL for [D]
    width INTEGER NOT NULL,     -- D
    checksum INTEGER NOT NULL,  -- crc32 of data
    data BLOB NOT NULL          -- little-endian float32
)
"""
_KEYS_PER_QUERY = 500  # SQLite allows 999 parameters in its oldest supported builds
_BUSY_TIMEOUT_S = 60.0


def embedding_key(*, encoder: str, preprocessing: str, kind: str, audio: str) -> str:
    """Return the key of one embedding as 64 hex digits.

    Args:
        encoder: The encoder's `fingerprint`, a hash of its weights.
        preprocessing: Everything between the file and the encoder's input that can change, as text.
        kind: What is stored: a way of pooling, or frames.
        audio: `audio_hash` of the file, or `array_hash` of the wave.
    """
    return content_hash({"audio": audio, "encoder": encoder, "kind": kind, "preprocessing": preprocessing})


def audio_hash(path: str | os.PathLike[str], *, offset_bytes: int = 0, num_bytes: int = 0) -> str:
    """Return the sha256 of an audio file's bytes, computed once per process for each (path, size, modification time).

    Args:
        path: The file, or the container that holds it.
        offset_bytes: Where in a container the file begins.
        num_bytes: How long it is there; 0: `path` is the file itself. The same bytes have the same hash either way.

    Raises:
        AudioError: There is no such file.
    """
    file = Path(path).absolute()
    try:
        status = file.stat()
        return _hash_once(str(file), status.st_size, status.st_mtime_ns, offset_bytes, num_bytes)
    except OSError as error:
        raise AudioError(f"expected an audio file at {file}, found: {error.strerror}. Check the path") from error


@lru_cache(maxsize=1 << 20)
def _hash_once(path: str, size_bytes: int, mtime_ns: int, offset_bytes: int, num_bytes: int) -> str:
    """Return the sha256 of the file; size and time are there to tell versions of one path apart."""
    if not num_bytes:
        return sha256_file(Path(path))
    with Path(path).open("rb") as container:
        return hashlib.sha256(os.pread(container.fileno(), num_bytes, offset_bytes)).hexdigest()


def array_hash(wave: np.ndarray) -> str:
    """Return the sha256 of an array's type, shape and values: the audio part of a key where there is no file."""
    digest = hashlib.sha256(f"{wave.dtype.str} {wave.shape}\n".encode())
    digest.update(np.ascontiguousarray(wave).tobytes())
    return digest.hexdigest()


class EmbeddingCache:
    """Embeddings by key in one SQLite file, float32 [D] or [T, D].

    The object holds a path and nothing else: every call opens the file, so it can be shared by threads, pickled, and
    carried over a fork. Put and get many at a time.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        """Use the store at `path`, made on the first put; by default `embeddings.sqlite` in `files.home()`."""
        self.path = Path(path) if path is not None else home() / "embeddings.sqlite"

    def get_many(self, keys: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the embeddings that are stored under `keys`; keys without one are absent.

        Raises:
            UniWhisperError: The store is damaged or cannot be read.
        """
        if not keys or not self.path.exists():
            return {}
        found: dict[str, np.ndarray] = {}
        with self._open() as connection:
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                some = list(keys[start : start + _KEYS_PER_QUERY])
                marks = ",".join("?" * len(some))
                query = f"SELECT key, rows, width, checksum, data FROM embeddings WHERE key IN ({marks})"
                for key, rows, width, checksum, data in connection.execute(query, some):
                    found[key] = self._to_array(key, rows, width, checksum, data)
        return found

    def put_many(self, embeddings: Mapping[str, np.ndarray]) -> None:
        """Store embeddings by key, all or none; one that is there already is replaced.

        Raises:
            EncoderError: An embedding is not finite float32 [D] or [T, D]; nothing is stored.
            UniWhisperError: The store is damaged or cannot be written.
        """
        rows = [_to_row(key, embedding) for key, embedding in embeddings.items()]
        if not rows:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as connection, _transaction(connection):
            connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?, ?, ?, ?)", rows)

    def __len__(self) -> int:
        if not self.path.exists():
            return 0
        with self._open() as connection:
            return connection.execute("SELECT COUNT(*) FROM embeddings").fetchone()[0]

    def size_bytes(self) -> int:
        """Return the size of the store on disk."""
        return self.path.stat().st_size if self.path.exists() else 0

    def clear(self) -> int:
        """Remove every embedding and return the bytes given back; a damaged store is deleted as a whole."""
        before = self.size_bytes()
        if not self.path.exists():
            return 0
        try:
            with closing(self._connect()) as connection:
                self._prepare(connection)
                connection.execute("DELETE FROM embeddings")
                connection.execute("VACUUM")
        except sqlite3.OperationalError as error:  # locked or read-only: not damage, so it must not be deleted
            raise UniWhisperError(f"expected to clear the embedding cache {self.path}, found: {error}") from error
        except sqlite3.DatabaseError:
            self.path.unlink()
            self.path.with_name(self.path.name + "-journal").unlink(missing_ok=True)
        return before - self.size_bytes()

    def _connect(self) -> sqlite3.Connection:
        """Return a connection that leaves transactions to us.

        The rollback journal is SQLite's default and is kept: a write-ahead log would need shared memory, which network
        file systems lack, and batched writes gain little from it.
        """
        return sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S, isolation_level=None)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection to a store of this schema, and turn SQLite's errors into ours."""
        try:
            with closing(self._connect()) as connection:
                self._prepare(connection)
                yield connection
        except sqlite3.OperationalError as error:
            raise UniWhisperError(
                f"expected a usable embedding cache at {self.path}, found: {error}. "
                "Free disk space, check the permissions, or name another cache"
            ) from error
        except sqlite3.DatabaseError as error:
            raise UniWhisperError(self._damaged(str(error))) from error

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Make the table in a new store; raise for a store of another schema."""
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            with _transaction(connection):
                connection.execute(_SCHEMA)
                connection.execute(f"PRAGMA user_version = {_SCHEMA_VERSION}")
        elif version != _SCHEMA_VERSION:
            raise UniWhisperError(
                f"expected version {_SCHEMA_VERSION} of the embedding cache {self.path}, found version {version}: "
                "another release of uniwhisper made it; delete the file or name another cache"
            )

    def _to_array(self, key: str, rows: int | None, width: int, checksum: int, data: bytes) -> np.ndarray:
        """Return a stored embedding, or raise if it is not what was put."""
        shape = (width,) if rows is None else (rows, width)
        if len(data) != 4 * math.prod(shape) or zlib.crc32(data) != checksum:
            raise UniWhisperError(self._damaged(f"wrong bytes under key {key}"))
        return np.frombuffer(data, dtype="<f4").astype(np.float32).reshape(shape)

    def _damaged(self, found: str) -> str:
        """Return the message for a store whose content cannot be trusted."""
        return (
            f"expected an intact embedding cache at {self.path}, found: {found}. It holds nothing that cannot be "
            "computed again: delete the file, or call EmbeddingCache(path).clear()"
        )


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the block as one write: all of it, or on any error or kill none of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _to_row(key: str, embedding: np.ndarray) -> tuple[str, int | None, int, int, bytes]:
    """Return an embedding as a row of the table, or raise if no encoder should have made it."""
    if embedding.dtype != np.float32 or embedding.ndim not in (1, 2) or not np.isfinite(embedding).all():
        raise EncoderError(
            f"expected a finite float32 embedding [D] or [T, D] to store, found {embedding.dtype} of shape "
            f"{embedding.shape} (finite: {bool(np.isfinite(embedding).all())}) under key {key}: correct the encoder"
        )
    data = embedding.astype("<f4").tobytes()
    rows = embedding.shape[0] if embedding.ndim == 2 else None
    return key, rows, embedding.shape[-1], zlib.crc32(data), data
