"""One pass of an encoder over audio: which clips go into a batch, what is checked of its frames, what is kept.

Reads waves through the items' own `read`, and what the cache holds; writes the vectors of every batch to the cache as
soon as they are there, so a run that is killed loses the batches under way and nothing else.
Guarantees: a batch holds the same clips whatever the number of threads, and whether or not an earlier run was stopped
between two batches: a vector does not depend on either. What the encoder returns is checked before it is used; what is
wrong names the clip.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from uniwhisper.cache import EmbeddingCache
from uniwhisper.errors import EncoderError, UniWhisperError

__all__ = ["Audio", "FramesOf", "Spread", "checked_frames", "encode_batches", "mean_vectors", "plan_batches", "reading"]

In = TypeVar("In")
Out = TypeVar("Out")

FramesOf = Callable[[Sequence[np.ndarray]], Sequence[np.ndarray]]
"""An encoder's `frames`: waves in, the valid frames `[T_i, D]` of each out."""

_CHUNK = 512
"""Clips that are sorted by duration together: enough for even batches, few enough to stay near each other on disk."""


class Spread(Protocol):
    """How pieces of work are run: `map`, or a way to run them side by side that keeps their order."""

    def __call__(self, function: Callable[[In], Out], pieces: Iterable[In], /) -> Iterator[Out]:
        """Yield `function(piece)` for every piece, in order."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Audio:
    """One wave that is to be encoded, not read yet."""

    name: str
    """What messages call it."""
    duration_s: float
    read: Callable[[], np.ndarray]
    """Return the wave: mono, float32, at the encoder's rate."""
    key: Callable[[], str]
    """Return its place in the cache; asked for only where there is one."""


def reading(sample_rate: int) -> str:
    """Return how a file becomes a wave, as text for cache keys; it changes when `audio.read` gives other samples."""
    return f"mono, {sample_rate} Hz, v3"


def plan_batches(durations_s: Sequence[float], *, budget_s: float) -> list[list[int]]:
    """Return the indices of the clips of every batch: the longest first, each batch closed once it holds `budget_s`.

    Clips of similar length come together, so that an encoder that pads to the longest computes little padding. Equally
    long ones stay in their order.
    """
    batches: list[list[int]] = []
    filled_s = budget_s
    for index in sorted(range(len(durations_s)), key=lambda i: -durations_s[i]):
        if filled_s >= budget_s:
            batches.append([])
            filled_s = 0.0
        batches[-1].append(index)
        filled_s += durations_s[index]
    return batches


def checked_frames(
    frames_of: FramesOf, clips: Sequence[Audio], waves: Sequence[np.ndarray], *, encoder: str, dim: int
) -> list[np.ndarray]:
    """Return the frames of every wave, float32 `[T_i, D]`, each with at least one frame and all values finite.

    Raises:
        EncoderError: The encoder failed or returned something else; the message names the clip.
    """
    try:
        found = frames_of(waves)
    except Exception as e:
        raise _failure(frames_of, clips, waves, encoder, e) from e
    if len(found) != len(clips):
        raise EncoderError(f"{encoder}: expected the frames of {len(clips)} waves, found {len(found)}")
    for clip, frames in zip(clips, found, strict=True):
        if not isinstance(frames, np.ndarray) or frames.dtype != np.float32 or frames.ndim != 2:
            what = f"{frames.dtype} of shape {frames.shape}" if isinstance(frames, np.ndarray) else type(frames)
            raise EncoderError(f"{encoder}: expected frames of {clip.name} as float32 [T, {dim}], found {what}")
        if len(frames) < 1 or frames.shape[1] != dim:
            raise EncoderError(
                f"{encoder}: expected at least one frame of width {dim} of {clip.name} ({clip.duration_s:.3f} s), "
                f"found shape {frames.shape}"
            )
        if not np.isfinite(frames).all():
            raise EncoderError(f"{encoder}: frames of {clip.name} are not finite; are the weights damaged?")
    return list(found)


def mean_vectors(
    frames_of: FramesOf,
    clips: Sequence[Audio],
    *,
    encoder: str,
    dim: int,
    cache: EmbeddingCache | None,
    budget_s: float,
    spread: Spread = map,
    one_at_a_time: bool = False,
    on_done: Callable[[int], object] = lambda n: None,
) -> np.ndarray:
    """Return the mean over the frames of every clip, float32 [N, D]; a clip with a cached vector is not read.

    Args:
        frames_of: The encoder's `frames`.
        clips: What to encode; those with one key are encoded once.
        encoder: Name of the encoder, for messages.
        dim: D.
        cache: Where vectors are kept, batch by batch; None keeps none.
        budget_s: Seconds of audio that close a batch.
        spread: Runs batches, each read and encoded as one piece of work.
        one_at_a_time: Spread the reading alone and encode here, one batch after the other: for an accelerator, and for
            an encoder that two threads must not use at once.
        on_done: Called with the number of clips that have been finished since the last call.

    Raises:
        AudioError: A clip cannot be read.
        EncoderError: The encoder breaks its protocol on a clip.
    """
    result = np.empty((len(clips), dim), dtype=np.float32)
    copies: list[tuple[int, int]] = []
    keys: dict[int, str] = {}

    def compute(batch: Sequence[int], waves: Sequence[np.ndarray]) -> int:
        frames = checked_frames(frames_of, [clips[i] for i in batch], waves, encoder=encoder, dim=dim)
        for i, values in zip(batch, frames, strict=True):
            result[i] = values.mean(axis=0, dtype=np.float64)
        if cache is not None:
            cache.put_many({keys[i]: result[i] for i in batch})
        return len(batch)

    batches = _missing(clips, result, keys, copies, cache=cache, budget_s=budget_s, spread=spread, on_done=on_done)
    for num_done in _run(compute, clips, batches, spread, one_at_a_time):
        on_done(num_done)
    for copy, original in copies:
        result[copy] = result[original]
    return result


def encode_batches(
    frames_of: FramesOf,
    clips: Sequence[Audio],
    *,
    encoder: str,
    dim: int,
    budget_s: float,
    spread: Spread = map,
    one_at_a_time: bool = False,
) -> Iterator[tuple[list[int], list[np.ndarray]]]:
    """Yield every batch's indices and frames; the arguments are those of `mean_vectors`.

    Raises:
        AudioError: A clip cannot be read.
        EncoderError: The encoder breaks its protocol on a clip.
    """

    def compute(batch: list[int], waves: Sequence[np.ndarray]) -> tuple[list[int], list[np.ndarray]]:
        return batch, checked_frames(frames_of, [clips[i] for i in batch], waves, encoder=encoder, dim=dim)

    batches = plan_batches([clip.duration_s for clip in clips], budget_s=budget_s)
    yield from _run(compute, clips, batches, spread, one_at_a_time)


def _run(
    compute: Callable[[list[int], Sequence[np.ndarray]], Out],
    clips: Sequence[Audio],
    batches: Iterable[list[int]],
    spread: Spread,
    one_at_a_time: bool,
) -> Iterator[Out]:
    """Yield what `compute` makes of every batch and its waves."""

    def read(batch: list[int]) -> list[np.ndarray]:
        return [clips[i].read() for i in batch]

    if one_at_a_time:
        for batch, waves in spread(lambda batch: (batch, read(batch)), batches):
            yield compute(batch, waves)
    else:
        yield from spread(lambda batch: compute(batch, read(batch)), batches)


def _missing(
    clips: Sequence[Audio],
    result: np.ndarray,
    keys: dict[int, str],
    copies: list[tuple[int, int]],
    *,
    cache: EmbeddingCache | None,
    budget_s: float,
    spread: Spread,
    on_done: Callable[[int], object],
) -> Iterator[list[int]]:
    """Yield batches of clips that have no vector yet; put the cached ones into `result`, and repetitions on a list.

    Batches are planned over all clips and then lose those that are cached: since whole batches are stored, a run that
    goes on computes the batches that an undisturbed one would have computed.
    """
    first: dict[str, int] = {}
    for start in range(0, len(clips), _CHUNK):
        chunk = list(range(start, min(start + _CHUNK, len(clips))))
        cached: dict[str, np.ndarray] = {}
        if cache is not None:
            keys.update(zip(chunk, spread(lambda i: clips[i].key(), chunk), strict=True))
            repeated = [i for i in chunk if first.setdefault(keys[i], i) != i]
            copies += [(i, first[keys[i]]) for i in repeated]
            chunk = sorted(set(chunk).difference(repeated))
            cached = cache.get_many([keys[i] for i in chunk])
            for i in chunk:
                if keys[i] in cached:
                    result[i] = cached[keys[i]]
            num_known = len(repeated) + len(cached)
            if num_known:
                on_done(num_known)
        for batch in plan_batches([clips[i].duration_s for i in chunk], budget_s=budget_s):
            left = [chunk[n] for n in batch if keys.get(chunk[n]) not in cached]
            if left:
                yield left


def _failure(
    frames_of: FramesOf, clips: Sequence[Audio], waves: Sequence[np.ndarray], encoder: str, error: Exception
) -> UniWhisperError:
    """Return an error that names the clip on which the encoder fails, found by giving it one wave after the other."""
    for clip, wave in zip(clips, waves, strict=True):
        try:
            frames_of([wave])
        except Exception as e:
            reason = str(e) if isinstance(e, UniWhisperError) else f"{type(e).__name__}: {e}"
            return EncoderError(f"{encoder}: expected frames of {clip.name}, found an error: {reason}")
    reason = str(error) if isinstance(error, UniWhisperError) else f"{type(error).__name__}: {error}"
    return EncoderError(
        f"{encoder}: expected frames of {len(clips)} waves together, from {clips[0].name} to {clips[-1].name}, found "
        f"an error, although each of them alone works: {reason}"
    )
