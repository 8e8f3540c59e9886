"""The pass over a task's clips: one vector a clip, computed once per encoder and audio, whatever tasks list it.

Reads clips (files, spans of files, members of tars) at the encoder's own sample rate, and the cache; writes every
batch's vectors to the cache as soon as they are there, so a run that is killed loses the batches under way.
Guarantees: a vector is the mean over the clip's valid frames; it does not depend on the number of threads or on
interruptions. A clip that cannot be read or encoded is an error that names it: leaving it out would change the task, so
corpora list broken files when they are converted, and a score covers every clip of its task.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from uniwhisper.cache import EmbeddingCache, audio_hash, embedding_key
from uniwhisper.clips import clip_span, length_s, read_clip
from uniwhisper.embed import Encoder
from uniwhisper.passes import Audio, mean_vectors, reading
from uniwhisper.threads import map_threads
from uniwhisper.types import Clip

__all__ = ["audio_of", "batch_s", "clip_key", "embed_clips", "runs_side_by_side"]

_CPU_BATCH_S = 30.0
"""Audio in one batch of one thread: measured on whisper-base, more gains nothing and takes more memory."""
_GPU_BATCH_S = 600.0
"""An accelerator has one stream of large batches."""


def embed_clips(
    encoder: Encoder,
    clips: Sequence[Clip],
    *,
    cache: EmbeddingCache | None,
    on_done: Callable[[int], object] = lambda n: None,
) -> np.ndarray:
    """Return the mean over the valid frames of every clip, float32 [N, D], in the clips' order.

    Call it within `threads.one_thread_each()`: the batches run side by side, and each should compute with one thread.

    Args:
        encoder: Whose frames are averaged.
        clips: With absolute paths; the same audio listed twice is encoded once.
        cache: Where vectors are kept from run to run; None keeps none.
        on_done: Called with the number of clips that have been finished since the last call.

    Raises:
        AudioError: A clip's audio cannot be read; the message names the clip.
        EncoderError: The encoder fails or breaks its protocol on a clip; the message names it.
    """
    return mean_vectors(
        encoder.frames,
        [audio_of(encoder, clip) for clip in clips],
        encoder=encoder.name,
        dim=encoder.dim,
        cache=cache,
        budget_s=batch_s(encoder),
        spread=map_threads,
        one_at_a_time=not runs_side_by_side(encoder),
        on_done=on_done,
    )


def audio_of(encoder: Encoder, clip: Clip) -> Audio:
    """Return the clip as the encoder hears it, to be read when its batch is due."""
    return Audio(
        name=f"clip {clip.id!r} of {clip.source!r}",
        duration_s=length_s(clip),
        read=lambda: read_clip(clip, sample_rate=encoder.sample_rate),
        key=lambda: clip_key(encoder, clip),
    )


def clip_key(encoder: Encoder, clip: Clip, *, kind: str = "mean") -> str:
    """Return the key of what the encoder makes of the clip: its fingerprint, the audio's bytes and span, and the kind.

    Neither a path nor a class name is in it, and a span that covers its file whole has the file's own key.
    """
    start_s, duration_s = clip_span(clip)
    content = audio_hash(clip.path, offset_bytes=clip.offset_bytes, num_bytes=clip.num_bytes)
    return embedding_key(
        encoder=encoder.fingerprint,
        preprocessing=reading(encoder.sample_rate),
        kind=kind,
        audio=content if duration_s is None and not start_s else f"{content} {start_s!r} {duration_s!r}",
    )


def batch_s(encoder: Encoder) -> float:
    """Return how many seconds of audio close a batch on the encoder's device."""
    return _CPU_BATCH_S if _on_cpu(encoder) else _GPU_BATCH_S


def runs_side_by_side(encoder: Encoder) -> bool:
    """Return whether several threads may call the encoder at once and gain by it."""
    return _on_cpu(encoder) and bool(getattr(encoder, "thread_safe", False))


def _on_cpu(encoder: Encoder) -> bool:
    return str(getattr(encoder, "device", "cpu")).partition(":")[0] == "cpu"
