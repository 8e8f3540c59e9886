"""From draws to training batches: reads waves, computes log-mels, renders and tokenises examples.

Everything random is a pure function of (seed, clip, epoch), so a batch is the same whenever and wherever it is made.
One thread prepares the next batches while the current one is being computed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uniwhisper import audio
from uniwhisper.batches import BatchOrder, Draw
from uniwhisper.errors import AudioError, ConfigError
from uniwhisper.instructions import InstructionConfig, families, render
from uniwhisper.mel import log_mel_tails
from uniwhisper.model.decoder import Turn
from uniwhisper.types import Clip, Example

__all__ = ["Batch", "Feed", "WaveStore", "draw_example", "seeded"]


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
        self._waves: dict[str, np.ndarray] = {}

    def wave(self, clip: Clip) -> np.ndarray:
        """Return the clip's samples, float32 at 16 kHz, cut at 30 s.

        Raises:
            AudioError: The file cannot be read; the message names the clip.
        """
        stored = self._waves.get(clip.path)
        if stored is None:
            try:
                wave = audio.read(clip.path)[: audio.WINDOW_SAMPLES]
            except AudioError as e:
                raise AudioError(f"clip {clip.id} of source {clip.source}: {e}") from e
            stored = np.round(np.clip(wave, -1, 1) * 32767).astype(np.int16)
            if self._used + stored.nbytes <= self._limit:
                self._waves[clip.path] = stored
                self._used += stored.nbytes
        return stored.astype(np.float32) / 32767


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
    negative = _other_text(clip, others, seeded(seed, "negative", clip.source, clip.id, epoch))
    return render(
        clip, family, seeded(seed, epoch), config=config, negative=negative if family in _TAKES_NEGATIVE else ""
    )


def _other_text(clip: Clip, others: Sequence[Clip], number: int) -> str:
    """Return a caption or label of another clip of the source; empty where none of a few tried has one."""
    for attempt in range(8):
        annotation = others[(number + attempt * 7919) % len(others)].annotation
        texts = annotation.captions or annotation.labels
        if texts and texts != (clip.annotation.captions or clip.annotation.labels):
            return texts[number % len(texts)]
    return ""


class Feed:
    """An iterator over batches `start`, `start + 1`, ... of a batch order."""

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
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="feed") as pool:
            waiting: list[Future[Batch]] = [pool.submit(self.batch, n) for n in range(start, min(start + ahead, stop))]
            for number in range(start, stop):
                batch = waiting.pop(0).result()
                if number + ahead < stop:
                    waiting.append(pool.submit(self.batch, number + ahead))
                yield batch
