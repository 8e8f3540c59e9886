"""Blocks of frames for frame probes: read from the store side by side, cut or padded, labelled, ready to train on.

Reads: a store of all frames and a frame task. Guarantees: a block holds at most `BLOCK_BYTES` of float32 frames (or one
batch of clips, if that is more); what it holds does not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.probes.data import Moments
from uniwhisper.evaluate.probes.segments import (
    class_index,
    count_frames,
    frame_labels,
    pool_max,
    segment_spans,
    segment_truth,
    xares_frame_labels,
    xares_spans,
)
from uniwhisper.evaluate.task import Task
from uniwhisper.threads import map_threads

__all__ = [
    "Block",
    "BlockReader",
    "Frames",
    "StrictRules",
    "XaresRules",
    "check_frames",
    "frame_moments",
    "used_frames",
]

BLOCK_BYTES = 256 << 20
"""Of float32 frames that are held while every model trains on them."""
CLIPS_PER_READ = 8
"""Clips that one thread reads at a time."""


class Frames(Protocol):
    """What a probe needs of a store of frames; `frames.FrameStore` has it."""

    hop_ms: float
    dim: int
    lengths: np.ndarray
    """Frames of every clip, int64 [N]."""

    def rows(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the clips' frames one after the other, float32 [sum of T, D], and their lengths."""
        ...


class StrictRules:
    """Frames up to the clip's end, labels by their centres, seconds of a fixed grid."""

    def __init__(self, frames: Frames, task: Task, index: Mapping[str, int]) -> None:
        self._hop_s = frames.hop_ms / 1000
        self._clips, self._index = task.clips, index
        counts = [
            count_frames(int(num_frames), self._hop_s, clip.duration_s)
            for num_frames, clip in zip(frames.lengths, task.clips, strict=True)
        ]
        self.used = np.array(counts, dtype=np.int64)
        """Frames of every clip that are read."""
        self.held = self.used
        """Frames of every clip with padding."""

    def labels(self, clip: int) -> np.ndarray:
        """Return the clip's labels, uint8 [T, C]."""
        return frame_labels(self._clips[clip].annotation.events, self._index, int(self.held[clip]), self._hop_s)

    def spans(self, clip: int) -> np.ndarray:
        """Return every segment's frames, int64 [M, 2]."""
        return segment_spans(int(self.held[clip]), self._hop_s, self._clips[clip].duration_s)

    def truth(self, clip: int) -> np.ndarray:
        """Return which classes every segment has, uint8 [M, C]."""
        return segment_truth(self._clips[clip].annotation.events, self._index, self._clips[clip].duration_s)


class XaresRules:
    """All clips as long as the longest, labels in rounded frames, segments of whole seconds of frames."""

    def __init__(self, frames: Frames, task: Task, index: Mapping[str, int]) -> None:
        self._hop_ms = frames.hop_ms
        self._clips, self._index = task.clips, index
        self.used = frames.lengths
        """Frames of every clip that are read."""
        self.held = np.full(len(frames.lengths), frames.lengths.max(), dtype=np.int64)
        """Frames of every clip with padding."""

    def labels(self, clip: int) -> np.ndarray:
        """Return the clip's labels, uint8 [T, C]."""
        return xares_frame_labels(self._clips[clip].annotation.events, self._index, int(self.held[clip]), self._hop_ms)

    def spans(self, clip: int) -> np.ndarray:
        """Return every segment's frames, int64 [M, 2]."""
        return xares_spans(int(self.held[clip]), self._hop_ms)

    def truth(self, clip: int) -> np.ndarray:
        """Return which classes every segment has, uint8 [M, C]."""
        return pool_max(self.labels(clip), self.spans(clip))


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """Frames and labels of some clips, one clip after the other."""

    x: Tensor
    """Prepared frames, float32 [F, D]."""
    labels: Tensor
    """0/1, float32 [F, C]."""
    starts: np.ndarray
    """First frame of every clip, and F."""
    spans: np.ndarray
    """Frames of every segment of all clips, [M, 2]."""
    truth: np.ndarray
    """0/1, uint8 [M, C]."""
    segments_per_clip: np.ndarray

    def batch(self, clips: np.ndarray) -> tuple[Tensor, Tensor]:
        """Return frames and labels of some of the block's clips."""
        parts = [slice(self.starts[clip], self.starts[clip + 1]) for clip in clips.tolist()]
        return torch.cat([self.x[part] for part in parts]), torch.cat([self.labels[part] for part in parts])


class BlockReader:
    """Reads one part of a fold in blocks; a part of one block is read once and kept."""

    def __init__(
        self,
        frames: Frames,
        rules: StrictRules | XaresRules,
        *,
        batch_clips: int,
        prepare: Callable[[Tensor], Tensor],
        device: str,
    ) -> None:
        """Read by the rules; `prepare` normalises frames [F, D]; blocks hold whole batches of `batch_clips`."""
        self._frames, self._rules, self._prepare, self._device = frames, rules, prepare, device
        fitting = BLOCK_BYTES // max(1, 4 * frames.dim * int(rules.held.max()))
        self._clips_per_block = max(1, fitting // batch_clips) * batch_clips
        self._kept: Block | None = None

    def blocks(self, clips: np.ndarray, *, order: int | None = None) -> Iterator[Block]:
        """Yield the clips in blocks, in their order or in the shuffle with the number `order`."""
        if len(clips) <= self._clips_per_block:
            if self._kept is None:
                self._kept = self._read(clips)  # whoever trains shuffles within the block
            yield self._kept
            return
        if order is not None:
            clips = np.random.default_rng(order).permutation(clips)
        for i in range(0, len(clips), self._clips_per_block):
            yield self._read(clips[i : i + self._clips_per_block])

    def _read(self, clips: np.ndarray) -> Block:
        rules = self._rules
        starts = np.concatenate([[0], np.cumsum(rules.held[clips])])
        x = torch.zeros(int(starts[-1]), self._frames.dim)

        def read(first: int) -> None:
            some = clips[first : first + CLIPS_PER_READ]
            for i, frames in enumerate(used_frames(self._frames, rules, some), start=first):
                x[starts[i] : starts[i] + len(frames)] = self._prepare(torch.from_numpy(frames))

        list(map_threads(read, range(0, len(clips), CLIPS_PER_READ)))
        labels = np.concatenate([rules.labels(clip) for clip in clips.tolist()])
        spans = [rules.spans(clip) for clip in clips.tolist()]
        return Block(
            x=x.to(self._device),
            labels=torch.from_numpy(labels).to(self._device, torch.float32),
            starts=starts,
            spans=np.concatenate([own + start for own, start in zip(spans, starts[:-1], strict=True)]),
            truth=np.concatenate([rules.truth(clip) for clip in clips.tolist()]),
            segments_per_clip=np.array([len(own) for own in spans], dtype=np.int64),
        )


def used_frames(frames: Frames, rules: StrictRules | XaresRules, clips: np.ndarray) -> Iterator[np.ndarray]:
    """Yield every clip's frames [T, D], without those past its end."""
    values, lengths = frames.rows(clips)
    ends = np.cumsum(lengths)
    for clip, end, length in zip(clips.tolist(), ends.tolist(), lengths.tolist(), strict=True):
        yield values[end - length : end - length + rules.used[clip]]


def frame_moments(frames: Frames, rules: StrictRules, clips: np.ndarray) -> Moments:
    """Return the moments of all frames of the clips, read once."""
    total = Moments(frames.dim)

    def read(first: int) -> Moments:
        return Moments.of(np.concatenate(list(used_frames(frames, rules, clips[first : first + CLIPS_PER_READ]))))

    for found in map_threads(read, range(0, len(clips), CLIPS_PER_READ)):
        total.merge(found)
    return total


def check_frames(frames: Frames, task: Task) -> dict[str, int]:
    """Return the index of every class, having checked that the store belongs to the task.

    Raises:
        TaskError: Counts differ, a clip has no frame, or the task has no classes over time.
    """
    if len(frames.lengths) != len(task.clips):
        raise TaskError(f"{task.where}: expected frames of {len(task.clips)} clips, found {len(frames.lengths)}")
    if not frames.hop_ms > 0:
        raise TaskError(f"{task.where}: expected an encoder with hop_ms above 0, found {frames.hop_ms}")
    empty = np.flatnonzero(frames.lengths < 1)
    if len(empty):
        raise TaskError(f"{task.where}: {task.clips[empty[0]].id}: expected at least one frame, found none")
    return class_index(task)
