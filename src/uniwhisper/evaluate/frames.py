"""All frames of a task on disk as float16, mapped into memory: for probes that need more than one vector a clip.

Reads clips as embeddings.py does. Writes one folder, by default `frames/<key>` in `files.home()`:

    00000.npy, 00001.npy, ...    float16 [sum of T, D]: the frames of consecutive clips; written before their index
    00000.json, 00001.json, ...  `key`, `lengths` (T of every clip), `rounding`: the shard is complete
    DONE                         the key of the store, written last

Guarantees: the key is the hash of the encoder's fingerprint and of every clip's audio, so frames of other weights or of
a changed file are never served; a run that is killed goes on after its last complete shard; a value that float16
cannot hold is an error, not an infinity. Neither threads nor interruptions change a frame.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from uniwhisper.clips import length_s
from uniwhisper.embed import Encoder
from uniwhisper.errors import EncoderError, ManifestError
from uniwhisper.evaluate.embeddings import audio_of, batch_s, clip_key, runs_side_by_side
from uniwhisper.files import atomic_path, content_hash, home, is_done, mark_done, read_json, write_json
from uniwhisper.passes import encode_batches
from uniwhisper.threads import map_threads
from uniwhisper.types import Clip

__all__ = ["FrameStore", "frame_bytes", "store_frames"]

_SHARD_S = 1200.0
"""Audio in one shard: what a kill costs, and what is held in memory (a tenth of a GB of Whisper-large frames)."""
_LARGEST = float(np.finfo(np.float16).max)


class FrameStore:
    """The frames of N clips, in the clips' order; several threads may read it at once."""

    def __init__(self, folder: Path, *, hop_ms: float) -> None:
        """Open a finished folder; `store_frames` makes one.

        Raises:
            EncoderError: A shard is missing or damaged.
        """
        self.folder = folder
        self.hop_ms = hop_ms
        """Between the centres of two frames."""
        try:
            indexes = [read_json(path) for path in sorted(folder.glob("[0-9]*.json"))]
            per_shard = [np.array(index["lengths"], dtype=np.int64) for index in indexes]
            rounding = max(index["rounding"] for index in indexes)
        except (ManifestError, KeyError, TypeError, ValueError) as e:
            raise EncoderError(f"expected a finished frame store in {folder}, found: {e}. Delete it to redo it") from e
        self.rounding: float = rounding
        """What float16 cost: the largest root-mean-square error of a shard, relative to its frames."""
        self._shards = [_mapped(folder, number, int(lengths.sum())) for number, lengths in enumerate(per_shard)]
        self.lengths: np.ndarray = np.concatenate(per_shard)
        """Frames of every clip, int64 [N]."""
        self.dim = int(self._shards[0].shape[1])
        self._shard = np.repeat(np.arange(len(per_shard)), [len(lengths) for lengths in per_shard])
        self._start = np.concatenate([np.cumsum(lengths) - lengths for lengths in per_shard])

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> np.ndarray:
        """Return the frames of one clip, float32 [T, D]."""
        start, shard = self._start[index], self._shards[self._shard[index]]
        return shard[start : start + self.lengths[index]].astype(np.float32)

    def rows(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the frames of several clips one after the other, float32 [sum of T, D], and their T, int64."""
        lengths = self.lengths[np.asarray(indices, dtype=np.int64)]
        result = np.empty((int(lengths.sum()), self.dim), dtype=np.float32)
        end = 0
        for index, length in zip(indices, lengths, strict=True):
            start, shard = self._start[index], self._shards[self._shard[index]]
            result[end : end + length] = shard[start : start + length]
            end += length
        return result, lengths

    @property
    def num_bytes(self) -> int:
        """Bytes of all frames on disk."""
        return sum(shard.nbytes for shard in self._shards)


def frame_bytes(encoder: Encoder, clips: Sequence[Clip]) -> int:
    """Return the disk space in bytes that the clips' frames take, to within a frame a clip.

    Raises:
        EncoderError: The encoder does not say how far its frames are apart.
    """
    if not encoder.hop_ms > 0:
        raise EncoderError(f"{encoder.name}: expected hop_ms above 0 for a task over time, found {encoder.hop_ms}")
    num_frames = sum(math.ceil(length_s(clip) * 1000 / encoder.hop_ms) for clip in clips)
    return 2 * encoder.dim * num_frames


def store_frames(
    encoder: Encoder,
    clips: Sequence[Clip],
    folder: Path | None = None,
    *,
    on_done: Callable[[int], object] = lambda n: None,
) -> FrameStore:
    """Encode the clips and return the store of their frames; a finished one is opened, a stopped one goes on.

    Call it within `threads.one_thread_each()`.

    Args:
        encoder: Whose frames are stored.
        clips: With absolute paths.
        folder: Where; by default `frames/<key>` in `files.home()`. Shards of other frames in it are replaced.
        on_done: Called with the number of clips that have been finished since the last call.

    Raises:
        AudioError: A clip's audio cannot be read; the message names the clip.
        EncoderError: There is no clip, the disk has too little room (the message says how much is needed), the encoder
            breaks its protocol, or a frame holds a value beyond float16; the message names the clip.
    """
    if not clips:
        raise EncoderError(f"{encoder.name}: expected clips to store the frames of, found none")
    num_bytes = frame_bytes(encoder, clips)
    keys = list(map_threads(lambda clip: clip_key(encoder, clip, kind="frames, float16"), clips))
    key = content_hash(keys)
    folder = folder or home() / "frames" / key
    if is_done(folder, key):
        on_done(len(clips))
        return FrameStore(folder, hop_ms=encoder.hop_ms)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "DONE").unlink(missing_ok=True)
    shards = _shards(clips)
    todo = [n for n, rows in enumerate(shards) if not _is_complete(folder, n, content_hash([keys[i] for i in rows]))]
    done = [n for n in range(len(shards)) if n not in set(todo)]
    on_done(sum(len(shards[n]) for n in done))
    _check_room(folder, encoder, num_bytes * sum(len(shards[n]) for n in todo) // len(clips), num_bytes)
    for number in todo:
        rows = shards[number]
        _write_shard(encoder, [clips[i] for i in rows], folder, number, content_hash([keys[i] for i in rows]), on_done)
    for path in folder.glob("[0-9]*.*"):
        if path.stem.isdigit() and int(path.stem) >= len(shards):  # of a longer list of clips in the same folder
            path.unlink()
    mark_done(folder, key)
    return FrameStore(folder, hop_ms=encoder.hop_ms)


def _shards(clips: Sequence[Clip]) -> list[range]:
    """Return the clips of every shard: consecutive ones, closed once they hold `_SHARD_S`."""
    shards, start, filled_s = [], 0, 0.0
    for number, clip in enumerate(clips):
        filled_s += length_s(clip)
        if filled_s >= _SHARD_S or number == len(clips) - 1:
            shards.append(range(start, number + 1))
            start, filled_s = number + 1, 0.0
    return shards


def _write_shard(
    encoder: Encoder, clips: Sequence[Clip], folder: Path, number: int, key: str, on_done: Callable[[int], object]
) -> None:
    """Encode a shard's clips side by side and write their frames, then their index."""
    found: dict[int, np.ndarray] = {}
    errors, powers = 0.0, 0.0
    audio = [audio_of(encoder, clip) for clip in clips]
    batches = encode_batches(
        encoder.frames,
        audio,
        encoder=encoder.name,
        dim=encoder.dim,
        budget_s=batch_s(encoder),
        spread=map_threads,
        one_at_a_time=not runs_side_by_side(encoder),
    )
    for batch, frames in batches:
        for row, values in zip(batch, frames, strict=True):
            found[row] = _rounded(values, audio[row].name, encoder.name)
            errors += float(np.square(found[row].astype(np.float32) - values).sum(dtype=np.float64))
            powers += float(np.square(values).sum(dtype=np.float64))
        on_done(len(batch))
    in_order = [found[row] for row in range(len(clips))]
    _index_path(folder, number).unlink(missing_ok=True)
    with atomic_path(_frames_path(folder, number)) as temporary, temporary.open("wb") as file:
        np.save(file, np.concatenate(in_order))
    rounding = math.sqrt(errors / powers) if powers else 0.0
    write_json(
        _index_path(folder, number), {"key": key, "lengths": [len(own) for own in in_order], "rounding": rounding}
    )


def _rounded(values: np.ndarray, clip: str, encoder: str) -> np.ndarray:
    """Return frames as float16.

    Raises:
        EncoderError: A value is beyond what float16 holds.
    """
    largest = float(np.abs(values).max())
    if largest > _LARGEST:
        raise EncoderError(
            f"{encoder}: expected frames within {_LARGEST:g}, which float16 can hold, found {largest:g} in {clip}: "
            "scale the encoder's frames down"
        )
    return values.astype(np.float16)


def _check_room(folder: Path, encoder: Encoder, needed: int, num_bytes: int) -> None:
    """Raise an EncoderError where the disk has no room for the frames that are still to be made."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise EncoderError(
            f"expected {needed / 1e9:.2f} GB of free disk in {folder} for the frames of {encoder.name} "
            f"({num_bytes / 1e9:.2f} GB in all), found {free / 1e9:.2f} GB: free some, or set UNIWHISPER_HOME"
        )


def _is_complete(folder: Path, number: int, key: str) -> bool:
    """Return whether the shard is there and holds these clips' frames."""
    try:
        index = read_json(_index_path(folder, number))
        _mapped(folder, number, sum(index["lengths"]))
        return index["key"] == key
    except (ManifestError, EncoderError, KeyError, TypeError):
        return False


def _mapped(folder: Path, number: int, num_rows: int) -> np.ndarray:
    """Return a shard's frames, mapped."""
    path = _frames_path(folder, number)
    try:
        frames = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as e:
        raise EncoderError(f"expected frames in {path}, found: {e}. Delete {folder} to make them again") from e
    if frames.dtype != np.float16 or frames.ndim != 2 or len(frames) != num_rows:
        found = f"{frames.dtype} of shape {frames.shape}"
        raise EncoderError(f"expected {num_rows} float16 frames in {path}, found {found}. Delete {folder} to redo them")
    return frames


def _frames_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.npy"


def _index_path(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.json"
