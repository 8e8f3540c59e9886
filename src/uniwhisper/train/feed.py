"""From draws to training batches: reads waves, computes log-mels, renders and tokenises examples.

Everything random is a pure function of (seed, clip, epoch), so a batch is the same whenever and wherever it is made:
by one thread that works ahead of the computation, by worker processes, or by hand. Clips may be a list or any sequence
that reads a clip when it is asked for one.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing.context import BaseContext

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from uniwhisper import audio
from uniwhisper.batches import BatchOrder, Draw
from uniwhisper.clips import read_clip
from uniwhisper.errors import AudioError, ConfigError, UniWhisperError
from uniwhisper.instructions import InstructionConfig, families, render
from uniwhisper.mel import log_mel_tails
from uniwhisper.model.decoder import Turn
from uniwhisper.types import Clip, Example

__all__ = ["Batch", "Feed", "WaveStore", "draw_example", "seeded"]

_ROUNDING_S = 0.5  # a clip cut at 30 s may come a little longer out of a lossy file or a rounded cut


@dataclass(frozen=True, kw_only=True, slots=True)
class Batch:
    """Everything one forward pass needs, and where it came from."""

    mels: list[Tensor]
    """Log-mels `[n_mels, F_i]`."""
    tails: list[Tensor]
    """The two log-mel frames after each clip `[n_mels, 2]`."""
    turns: list[Turn]
    examples: list[Example]
    audio_s: float
    num_answer_tokens: int


class WaveStore:
    """Decoded audio, kept in memory as 16-bit samples up to a limit; the rest is decoded again when asked for."""

    def __init__(self, limit_mb: float) -> None:
        self._limit = int(limit_mb * 1e6)
        self._used = 0
        self._waves: dict[tuple[str, int, float, float], np.ndarray] = {}

    def wave(self, clip: Clip) -> np.ndarray:
        """Return the clip's samples, float32 at 16 kHz, at most 30 s.

        Raises:
            AudioError: The audio cannot be read, or the clip is longer than what an encoder sees at once; the message
                names the clip.
        """
        # Clips may share a file, a start, or both: two cuts of one recording.
        key = (clip.path, clip.offset_bytes, clip.start_s, clip.duration_s)
        stored = self._waves.get(key)
        if stored is None:
            _check_fits(clip, clip.duration_s)
            wave = read_clip(clip)
            _check_fits(clip, len(wave) / audio.SAMPLE_RATE)
            stored = np.round(np.clip(wave[: audio.WINDOW_SAMPLES], -1, 1) * 32767).astype(np.int16)
            if self._used + stored.nbytes <= self._limit:
                self._waves[key] = stored
                self._used += stored.nbytes
        return stored.astype(np.float32) / 32767


def _check_fits(clip: Clip, duration_s: float) -> None:
    """Raise if a clip is longer than the encoder's window by more than rounding."""
    if duration_s > audio.WINDOW_S + _ROUNDING_S:
        raise AudioError(
            f"clip {clip.id!r} of {clip.source!r}: expected at most {audio.WINDOW_S} s, found {duration_s:.2f} s: "
            "`uniwhisper shards` cuts longer clips where their annotations allow"
        )


def seeded(*parts: object) -> int:
    """Return 63 bits that depend on `parts` alone, the same in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


_TAKES_NEGATIVE = ("audio_text_matching", "question_answering")


def draw_example(
    clip: Clip, others: Sequence[Clip], *, seed: int, epoch: int, config: InstructionConfig, shares: Mapping[str, float]
) -> Example:
    """Return the example that `clip` gives in `epoch`: one of its task families, chosen by `shares` (default 1 each).

    `others` are the clips of the same source; matching takes its wrong text from one of them.

    Raises:
        ConfigError: Every family that the clip supports has share 0.
    """
    names = families(clip, config)
    weights = np.array([shares.get(name, 1.0) for name in names], dtype=np.float64)
    if weights.sum() <= 0:
        raise ConfigError(
            f"clip {clip.id} of source {clip.source} supports {list(names)}, and every one of them has share 0"
        )
    point = seeded(seed, "family", clip.source, clip.id, epoch) / 2**63 * weights.sum()
    family = names[min(int(np.searchsorted(np.cumsum(weights), point, side="right")), len(names) - 1)]
    negative = ""
    if family in _TAKES_NEGATIVE:  # only then: looking at another clip may read it from a shard
        negative = _other_text(clip, others, seeded(seed, "negative", clip.source, clip.id, epoch))
    return render(clip, family, seeded(seed, epoch), config=config, negative=negative)


def _other_text(clip: Clip, others: Sequence[Clip], number: int) -> str:
    """Return a caption or label of another clip of the source; empty where none of a few tried has one."""
    for attempt in range(8):
        annotation = others[(number + attempt * 7919) % len(others)].annotation
        texts = annotation.captions or annotation.labels
        if texts and texts != (clip.annotation.captions or clip.annotation.labels):
            return texts[number % len(texts)]
    return ""


class Feed:
    """Makes the batches of a batch order, any of them at any time."""

    def __init__(
        self,
        clips: Mapping[str, Sequence[Clip]],
        order: BatchOrder,
        *,
        turn: Callable[[str, str], Turn],
        n_mels: int,
        instructions: InstructionConfig,
        family_shares: Mapping[str, float],
        cache_mb: float,
    ) -> None:
        self._clips = clips
        self._order = order
        self._turn = turn
        self._n_mels = n_mels
        self._instructions = instructions
        self._shares = family_shares
        self._store = WaveStore(cache_mb)

    def batch(self, number: int) -> Batch:
        """Return batch `number`."""
        return self.collate(self._order.batch(number))

    def collate(self, draws: Sequence[Draw]) -> Batch:
        """Return the batch that these draws make."""
        clips = [self._clips[draw.source][draw.index] for draw in draws]
        examples = [
            draw_example(
                clip,
                self._clips[draw.source],
                seed=self._order.seed,
                epoch=draw.epoch,
                config=self._instructions,
                shares=self._shares,
            )
            for clip, draw in zip(clips, draws, strict=True)
        ]
        waves = [torch.from_numpy(self._store.wave(clip)) for clip in clips]
        clip_mels = log_mel_tails(waves, self._n_mels)
        turns = [self._turn(example.prompt, example.answer) for example in examples]
        return Batch(
            mels=[mel for mel, _ in clip_mels],
            tails=[tail for _, tail in clip_mels],
            turns=turns,
            examples=examples,
            audio_s=sum(len(wave) for wave in waves) / audio.SAMPLE_RATE,
            num_answer_tokens=sum(len(turn.answer) for turn in turns),
        )

    def batches(self, start: int, stop: int, *, ahead: int = 2) -> Iterator[Batch]:
        """Yield batches `start` to `stop - 1` in order, prepared `ahead` of time by one thread."""
        return self.load(range(start, stop), ahead=ahead)

    def load(self, numbers: Sequence[int], *, workers: int = 0, ahead: int = 2) -> Iterator[Batch]:
        """Yield the batches `numbers` in order, prepared `ahead` of time.

        Args:
            numbers: Numbers of batches, such as those of one rank (`batches.for_rank`).
            workers: Processes that make them; 0 makes them in a thread of this process. Each keeps its own store of
                decoded audio, and gets its own copy of the clips and of `turn`, which must be picklable.
            ahead: Batches prepared before they are asked for, by each worker.

        Workers are never forked from a process that computes: see `_fresh_processes`.
        """
        return self._load_by_thread(numbers, ahead) if workers == 0 else self._load_by_workers(numbers, workers, ahead)

    def _load_by_thread(self, numbers: Sequence[int], ahead: int) -> Iterator[Batch]:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed") as pool:
            waiting: list[Future[Batch]] = [pool.submit(self.batch, number) for number in numbers[:ahead]]
            for i in range(len(numbers)):
                batch = waiting.pop(0).result()
                if i + ahead < len(numbers):
                    waiting.append(pool.submit(self.batch, numbers[i + ahead]))
                yield batch

    def _load_by_workers(self, numbers: Sequence[int], workers: int, ahead: int) -> Iterator[Batch]:
        loader = DataLoader(
            _PackedDataset(self),
            batch_size=None,
            sampler=numbers,
            num_workers=workers,
            prefetch_factor=ahead,
            worker_init_fn=_leave_ctrl_c_to_the_run,
            multiprocessing_context=_fresh_processes(),
            generator=torch.Generator(),  # the loader draws a number that nothing uses: not from the global stream
        )
        for answer in loader:
            if isinstance(answer, UniWhisperError):
                raise answer
            yield _unpack(answer)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Packed:
    """A batch on its way between processes: each tensor would cost an open file of its own, so they travel as one."""

    values: Tensor
    shapes: list[torch.Size]
    batch: Batch
    """All but the tensors."""


class _PackedDataset(Dataset[_Packed | UniWhisperError]):
    """The batches of a feed by their numbers, ready to travel; an error of ours comes without a worker's traceback."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def __getitem__(self, number: int) -> _Packed | UniWhisperError:
        try:
            return _pack(self._feed.batch(number))
        except UniWhisperError as e:
            return e


def _pack(batch: Batch) -> _Packed:
    tensors = [*batch.mels, *batch.tails]
    return _Packed(
        values=torch.cat([tensor.reshape(-1) for tensor in tensors]),
        shapes=[tensor.shape for tensor in tensors],
        batch=replace(batch, mels=[], tails=[]),
    )


def _unpack(packed: _Packed) -> Batch:
    parts = packed.values.split([shape.numel() for shape in packed.shapes])
    tensors = [part.view(shape) for part, shape in zip(parts, packed.shapes, strict=True)]
    half = len(tensors) // 2
    return replace(packed.batch, mels=tensors[:half], tails=tensors[half:])


def _fresh_processes() -> BaseContext:
    """Return the way to start workers: never as copies of this process.

    Once this process has computed a log-mel, the memory of the library that does the Fourier transform may be in use
    by one of its threads; a copy made in that moment waits for that thread forever. Workers are forked from a process
    that has imported this module and computed nothing, which costs milliseconds each.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    context.set_forkserver_preload([__name__])
    return context


def _leave_ctrl_c_to_the_run(worker: int) -> None:
    """Let Ctrl-C reach the run alone, which ends its step with the batches that the workers hold."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
