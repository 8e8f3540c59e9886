"""Batches on their way to the device: log-mels where they are still missing, one batch ahead of the computation.

Reads batches of a feed, yields the same ones in the same order with their log-mels on the device. On a GPU a thread
takes each batch from the feed, lays it into one piece of page-locked memory, and copies it on a stream of its own,
where log-mels are computed too; the computation waits on the GPU for what it needs and the host waits for nothing. On
a CPU batches pass through.

Source: torch's notes on CUDA semantics, "Use pinned memory buffers" and "CUDA streams", and `Tensor.record_stream`:
https://docs.pytorch.org/docs/stable/notes/cuda.html
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch

from uniwhisper.mel import lay_end_to_end, log_mel_tails
from uniwhisper.train.batch import Batch, pack, unpack

__all__ = ["prefetched"]


def prefetched(batches: Iterator[Batch], *, device: torch.device, n_mels: int, pin: bool = True) -> Iterator[Batch]:
    """Yield the batches with log-mels on `device`.

    Args:
        batches: Batches as a feed makes them, with log-mels or with samples.
        device: Where the network is.
        n_mels: Mel bins, for log-mels that are computed here.
        pin: Copy to a GPU from page-locked memory, one batch ahead; else copy each batch when it is asked for.

    Raises:
        UniWhisperError: Whatever `batches` raises, at the batch that it concerns.
    """
    try:
        if device.type != "cuda":
            yield from (_with_mels(batch, n_mels) for batch in batches)
        elif not pin:
            yield from (_sent(batch, device, n_mels, pin=False) for batch in batches)
        else:
            yield from _copied_ahead(batches, device, n_mels)
    finally:
        if isinstance(batches, Generator):
            batches.close()  # now and not when it is collected: threads and processes of the feed end with it


def _with_mels(batch: Batch, n_mels: int) -> Batch:
    """Return the batch with log-mels, computed on a CPU where they are missing."""
    if not batch.waves:
        return batch
    mels, tails = zip(*log_mel_tails(batch.waves, n_mels), strict=True)
    return replace(batch, mels=list(mels), tails=list(tails), waves=[])


def _sent(batch: Batch, device: torch.device, n_mels: int, *, pin: bool) -> Batch:
    """Return the batch with log-mels on a GPU: two copies and a few kernels, on the current stream."""
    if batch.waves:
        row = lay_end_to_end(batch.waves)
        row = (row.pinned() if pin else row).to(device, non_blocking=pin)
        mels, tails = zip(*row.log_mels(n_mels), strict=True)
        return replace(batch, mels=list(mels), tails=list(tails), waves=[])
    packed = pack(batch)
    values = packed.values.pin_memory() if pin else packed.values
    return unpack(replace(packed, values=values.to(device, non_blocking=pin)))


@dataclass(frozen=True, slots=True)
class _Copied:
    """A batch that is being copied, and the event after which it is there."""

    batch: Batch
    there: Any


def _copied_ahead(batches: Iterator[Batch], device: torch.device, n_mels: int) -> Iterator[Batch]:
    stream = torch.cuda.Stream(device)

    def copied() -> _Copied | None:
        batch = next(batches, None)
        if batch is None:
            return None
        with torch.cuda.stream(stream):
            return _Copied(_sent(batch, device, n_mels, pin=True), stream.record_event())

    # A thread, because this side may wait for the feed or for the GPU, and the copy of the next batch must not.
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch") as pool:
        ahead = pool.submit(copied)
        while (ready := ahead.result()) is not None:
            ahead = pool.submit(copied)
            yield _handed_over(ready, device)


def _handed_over(ready: _Copied, device: torch.device) -> Batch:
    """Return a copied batch to the current stream.

    Its memory belongs to the stream that copied it: without a note that this stream reads it too, the next batch could
    be written there as soon as Python drops this one, while the GPU still computes with it.
    """
    current = torch.cuda.current_stream(device)
    current.wait_event(ready.there)
    for tensor in (*ready.batch.mels[:1], *ready.batch.tails[:1]):  # all of them are views of one piece of memory
        tensor.record_stream(current)
    return ready.batch
