"""Hearing a clip once: everything that the hash and fingerprint stages need to know about its audio.

Reads each clip's audio through `clips`, decodes it once, and returns hashes and a fingerprint, or for a training clip
the evaluation clips that it shares sound with; broken audio comes back as a reason, because one broken file must not
end a scan of a million. Work is spread over an engine's workers in chunks. A `Library` is the evaluation side on disk,
written once, and opened once by every worker.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from uniwhisper.clips import clip_bytes, read_clip
from uniwhisper.dedup.fingerprint import FRAME_SPAN_S, MIN_SOUND_MS, Fingerprint, fingerprint, fingerprint_query
from uniwhisper.dedup.hashing import file_sha256, pcm_hash
from uniwhisper.dedup.index import FingerprintIndex, Match
from uniwhisper.engine import EngineKind, map_tasks
from uniwhisper.errors import AudioError
from uniwhisper.files import atomic_path
from uniwhisper.types import Annotation, Clip

__all__ = ["INDEX_FILE", "Heard", "Hearing", "Library", "hear", "hear_all", "write_places"]

INDEX_FILE = "index.npz"
"""The fingerprint index within a library."""

_CHUNK = 32
"""Clips that one task hears; some seconds of work."""
_NOTHING = Annotation()
_MUTE = f"less than {MIN_SOUND_MS / 1000 + FRAME_SPAN_S:.1f} s of sound: copies may go unnoticed"
_REFERENCES = 64
"""Evaluation clips whose samples a worker keeps; one that is proposed is often proposed again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Hearing:
    """What is wanted of every clip."""

    hashes: bool = True
    fingerprints: bool = True
    library: str = ""
    """Folder of the evaluation side to search; empty for the evaluation side itself, whose fingerprints come back."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Heard:
    """What a clip's audio is known by."""

    number: int
    """The clip's place in its list."""
    file_sha256: str = ""
    """Of the encoded file's bytes; empty for a clip that begins later in a file, which the bytes do not identify."""
    pcm_hash: str = ""
    """Of the decoded samples without silence at the ends; empty for silence."""
    fingerprint: Fingerprint | None = None
    matches: tuple[Match, ...] = ()
    """Clips of the library that hold the same sound, the most evident first."""
    mute: str = ""
    """Why its fingerprint is not enough to find every copy, though the audio can be read."""
    error: str = ""
    """Why the audio cannot be read; everything else is empty then."""


class Library:
    """The evaluation side on disk: the index, and where the audio of every indexed clip lies."""

    def __init__(self, folder: Path) -> None:
        """Open what `FingerprintIndex.save` and `write_places` wrote.

        Raises:
            DedupError: The index is missing or damaged.
        """
        self.index = FingerprintIndex.load(folder / INDEX_FILE)
        self._places = folder / "places.jsonl"
        self._offsets = np.load(folder / "places.npy", mmap_mode="r")
        self.wave = functools.lru_cache(maxsize=_REFERENCES)(self._wave)

    def _wave(self, key: int | str) -> np.ndarray:
        """Return the samples of the clip with number `key`."""
        with self._places.open("rb") as file:
            file.seek(int(self._offsets[int(key)]))
            return read_clip(_bare_clip(*json.loads(file.readline())))


def write_places(folder: Path, clips: Iterable[Clip]) -> None:
    """Write `places.jsonl` and `places.npy`: where the audio of every clip lies, and where its line begins."""
    offsets: list[int] = []
    with atomic_path(folder / "places.jsonl") as temporary, temporary.open("wb") as file:
        for clip in clips:
            offsets.append(file.tell())
            place = [clip.path, clip.start_s, clip.duration_s, clip.offset_bytes, clip.num_bytes]
            file.write(json.dumps(place).encode() + b"\n")
    with atomic_path(folder / "places.npy") as temporary, temporary.open("wb") as file:
        np.save(file, np.array(offsets, dtype=np.int64))


def _bare_clip(path: str, start_s: float, duration_s: float, offset_bytes: int, num_bytes: int) -> Clip:
    """Return a clip of which only the audio matters."""
    return Clip(
        id=path,
        source="evaluation",
        path=path,
        split="test",
        duration_s=duration_s,
        domain="sound",
        annotation=_NOTHING,
        start_s=start_s,
        offset_bytes=offset_bytes,
        num_bytes=num_bytes,
    )


@functools.lru_cache(maxsize=1)
def _open_library(folder: str, written_ns: int) -> Library:
    """Return the library in `folder`, opened once in each worker; `written_ns` tells one from its successor."""
    return Library(Path(folder))


def hear(number: int, clip: Clip, hearing: Hearing) -> Heard:
    """Return what the clip's audio is known by; audio that cannot be read is an `error`, not an exception.

    Raises:
        AudioError: A clip of the library can no longer be read.
        DedupError: The library is missing or damaged.
    """
    try:
        wave = read_clip(clip)
        file_hash = file_sha256(clip_bytes(clip)) if hearing.hashes and not clip.start_s else ""
    except AudioError as e:
        return Heard(number=number, error=str(e))
    heard = Heard(number=number, file_sha256=file_hash, pcm_hash=pcm_hash(wave) if hearing.hashes else "")
    if not hearing.fingerprints:
        return heard
    prints = fingerprint_query(wave) if hearing.library else fingerprint(wave)
    heard = replace(heard, mute="" if prints.is_usable else _MUTE)
    if not hearing.library:
        return replace(heard, fingerprint=prints if prints.num_informative else None)
    library = _open_library(hearing.library, (Path(hearing.library) / INDEX_FILE).stat().st_mtime_ns)
    return replace(heard, matches=tuple(library.index.search(prints, lambda: wave, library.wave)))


def _hear_chunk(clips: Sequence[tuple[int, Clip]], hearing: Hearing) -> list[Heard]:
    return [hear(number, clip, hearing) for number, clip in clips]


def hear_all(
    clips: Iterable[tuple[int, Clip]],
    hearing: Hearing,
    *,
    workers: int = 1,
    engine: EngineKind = "local",
    label: str = "",
    total: int | None = None,
) -> Iterator[list[Heard]]:
    """Yield what every clip is known by, in the order of the clips, chunk by chunk.

    Raises:
        AudioError: A clip of the library can no longer be read.
        ConfigError: The engine is unknown or not installed.
        DedupError: The library is missing or damaged.
    """
    # Annotations can be long, and nobody who listens needs them: they do not travel.
    rest = ((number, replace(clip, annotation=_NOTHING)) for number, clip in clips)
    chunks = iter(lambda: list(itertools.islice(rest, _CHUNK)), [])
    task = partial(_hear_chunk, hearing=hearing)
    yield from map_tasks(task, chunks, workers=workers, kind=engine, label=label, unit="clips", amount=len, total=total)
