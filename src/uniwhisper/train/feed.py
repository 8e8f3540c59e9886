"""From draws to training batches: reads waves, computes log-mels, renders and tokenises examples.

Everything random is a pure function of (seed, clip, epoch), so a batch is the same whenever and wherever it is made:
by one thread that works ahead of the computation, by worker processes, or by hand. Clips may be a list or any sequence
that reads a clip when it is asked for one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from uniwhisper import audio
from uniwhisper.batches import BatchOrder, Draw
from uniwhisper.errors import ShardError
from uniwhisper.instructions import InstructionConfig
from uniwhisper.mel import log_mel_tails
from uniwhisper.model.turns import Turn
from uniwhisper.train.batch import Batch
from uniwhisper.train.examples import draw_example, seeded
from uniwhisper.train.waves import WaveStore
from uniwhisper.train.workers import Job, load_by_thread, load_by_workers
from uniwhisper.types import Clip

__all__ = ["Batch", "Feed", "WaveStore", "draw_example", "seeded"]


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
        host_mels: bool = True,
    ) -> None:
        """Put together what makes a batch.

        Args:
            clips: The clips of every source; picklable where worker processes are to make batches.
            order: Which clips are in which batch.
            turn: Tokenises a prompt and an answer; picklable where worker processes are to make batches, and cheaply:
                a `model.turns.TurnMaker` rather than a method of the decoder, which would bring the decoder along.
            n_mels: Mel bins of the encoder.
            instructions: How annotations become text.
            family_shares: Relative chance of a task family among those a clip supports; 1 where not named.
            cache_mb: Memory for decoded audio, in this process, or in all its workers together.
            host_mels: Compute log-mels here; else batches carry samples, and `prefetched` computes them on the device.
        """
        self._order = order
        self._maker = _Maker(
            clips=clips,
            seed=order.seed,
            turn=turn,
            n_mels=n_mels,
            instructions=instructions,
            shares=family_shares,
            store=WaveStore(cache_mb),
            host_mels=host_mels,
        )

    def batch(self, number: int) -> Batch:
        """Return batch `number`."""
        return self.collate(self._order.batch(number))

    def collate(self, draws: Sequence[Draw]) -> Batch:
        """Return the batch that these draws make.

        Raises:
            AudioError: Audio cannot be read; the message names the clip, where it lies, and what to do.
            ShardError: A shard cannot be read.
            ConfigError: Every task family that a clip supports has share 0.
        """
        return self._maker.make(draws)

    def batches(self, start: int, stop: int, *, ahead: int = 2) -> Iterator[Batch]:
        """Yield batches `start` to `stop - 1` in order, prepared `ahead` of time by one thread."""
        return self.load(range(start, stop), ahead=ahead)

    def load(self, numbers: Sequence[int], *, workers: int = 0, ahead: int = 2) -> Iterator[Batch]:
        """Yield the batches `numbers` in order, prepared `ahead` of time.

        Args:
            numbers: Numbers of batches, such as those of one rank (`batches.rank_numbers`); read as they are needed.
            workers: Processes that make them; 0 makes them in a thread of this process. Each keeps its own part of
                `cache_mb`, and gets its own copy of the clips and of `turn`, which must be picklable.
            ahead: Batches prepared before they are asked for, by each worker.

        Raises:
            TrainingError: A worker died, or memory ran out.
            UniWhisperError: As in `collate`, wherever the batch was made.
        """
        if workers == 0:
            return load_by_thread(self.batch, numbers, ahead)
        jobs: Iterator[Job] = ((number, self._order.batch(number)) for number in numbers)
        maker = replace(self._maker, store=self._maker.store.shared_by(workers))
        return load_by_workers(maker, jobs, workers=workers, ahead=ahead)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Maker:
    """What a worker needs to make batches from draws; the order, which may hold millions of durations, stays behind."""

    clips: Mapping[str, Sequence[Clip]]
    seed: int
    turn: Callable[[str, str], Turn]
    n_mels: int
    instructions: InstructionConfig
    shares: Mapping[str, float]
    store: WaveStore
    host_mels: bool

    def __call__(self, job: Job) -> Batch:
        """Return the batch of a job."""
        return self.make(job[1])

    def make(self, draws: Sequence[Draw]) -> Batch:
        """Return the batch that these draws make."""
        clips = [self._clip(draw) for draw in draws]
        examples = [
            draw_example(
                clip,
                self.clips[draw.source],
                seed=self.seed,
                epoch=draw.epoch,
                config=self.instructions,
                shares=self.shares,
            )
            for clip, draw in zip(clips, draws, strict=True)
        ]
        waves = [torch.from_numpy(self.store.samples(clip)) for clip in clips]
        clip_mels = log_mel_tails(waves, self.n_mels) if self.host_mels else []
        turns = [self.turn(example.prompt, example.answer) for example in examples]
        return Batch(
            mels=[mel for mel, _ in clip_mels],
            tails=[tail for _, tail in clip_mels],
            turns=turns,
            examples=examples,
            domains=tuple(clip.domain for clip in clips),
            audio_s=sum(len(wave) for wave in waves) / audio.SAMPLE_RATE,
            num_answer_tokens=sum(len(turn.answer) for turn in turns),
            waves=[] if self.host_mels else waves,
        )

    def _clip(self, draw: Draw) -> Clip:
        try:
            return self.clips[draw.source][draw.index]
        except ShardError as e:
            raise ShardError(
                f"{e}. `uniwhisper shards --verify FOLDER` names everything that is damaged in that set; fetch those "
                "shards again, or make them again, then run the same training command again"
            ) from e
