"""The two sides of the training-step benchmark on the same weights and clips: `uniwhisper train`'s step, and the plain.

Reads clips and weights, writes nothing. Learning rates are 0 on both sides: the optimisers do all their work and no
weight moves, so every pass over a batch has the loss of the first, and all rows can be compared at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from clips import read_clips
from plain import PaddedBatch, PlainModel
from uniwhisper.batches import Draw
from uniwhisper.errors import UniWhisperError
from uniwhisper.model.flops import adapter_flops, adapter_positions, encoder_flops, encoder_frames, lm_flops
from uniwhisper.model.uniwhisper import UniWhisper
from uniwhisper.train.config import TrainConfig, override
from uniwhisper.train.data import TrainingData, training_data
from uniwhisper.train.feed import Batch, Feed
from uniwhisper.train.optim import build_optimizer, init_optimizer_state
from uniwhisper.train.prefetch import prefetched
from uniwhisper.train.run import Run
from uniwhisper.train.start import begin, build_feed
from uniwhisper.train.step import WATCH_EVERY, train_step
from uniwhisper.train.waves import FULL_SCALE
from uniwhisper.weights import resolve

__all__ = ["BATCHES", "Case", "Ours", "Plain", "Side", "still", "with_settings"]

BATCHES = 2
"""Of a case, so that a step of two batches can be compared with two steps of one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """Batches of the mixture, in every form that a side reads."""

    batches: tuple[Batch, ...]
    samples: tuple[Batch, ...]
    """The same before their log-mels are computed."""
    padded: tuple[PaddedBatch, ...] = ()
    """As the plain side reads them; absent where a process measures our side alone."""

    @property
    def examples(self) -> int:
        """Return the number of clips."""
        return sum(len(batch.turns) for batch in self.batches)

    @property
    def audio_s(self) -> float:
        """Return the seconds of audio."""
        return sum(batch.audio_s for batch in self.batches)


@dataclass(kw_only=True, slots=True)
class Side:
    """One row: a step, the losses it found, and why it could not go on where it could not."""

    step: Callable[[Case], float]
    losses: dict[int, float] = field(default_factory=dict)
    """By the case's `id`: the mean over its answer tokens."""
    must_run: bool = True
    refusal: str = ""

    def __call__(self, case: Case) -> None:
        """Do the step of a case, unless an earlier one showed that it cannot be done here."""
        if self.refusal:
            return
        try:
            self.losses[id(case)] = self.step(case)
        except (UniWhisperError, RuntimeError, NotImplementedError) as e:
            if self.must_run:
                raise
            self.refusal = _reason(e)

    def gap(self, other: Side) -> float:
        """Return the largest relative difference of the losses from another side's."""
        return max(abs(loss / other.losses[key] - 1) for key, loss in self.losses.items())


def _reason(error: Exception) -> str:
    """Return the part of a message that says what is missing here."""
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if isinstance(error, UniWhisperError):
        first = first.partition(". ")[0].rpartition(": ")[2]  # what was expected and found, without the advice
    return first[:160].replace("|", "/")


def with_settings(config: TrainConfig, settings: Sequence[str]) -> TrainConfig:
    """Return `config` with fields set one after the other, as `uniwhisper train --set` does.

    Raises:
        ConfigError: One of them is refused.
    """
    for setting in settings:
        config = override(config, setting)
    return config


def still(config: TrainConfig) -> TrainConfig:
    """Return `config` with rates of 0 and no closed-form start: every step finds the network as it was loaded."""
    return with_settings(config, ("optim.encoder_lr=0", "optim.adapter_lr=0", "start.clips=0"))


class Ours:
    """Our network: a run of `uniwhisper train` past its alignment phase, and variants of it on the same weights."""

    def __init__(self, config: TrainConfig, data: Path | None) -> None:
        self.data: TrainingData = training_data(read_clips(data))
        self.run = self._begin(config)

    @property
    def model(self) -> UniWhisper:
        """Return the network."""
        return self.run.model

    def _begin(self, config: TrainConfig) -> Run:
        with TemporaryDirectory() as out:
            run = begin(still(config), self.data, Path(out), "benchmark")
        run.step = config.optim.align_steps
        run.step += run.step % WATCH_EVERY == 0  # a step like most, which does not look at how far weights move
        return run

    def variant(self, config: TrainConfig) -> Run:
        """Return a run of another configuration, on this network unless it needs other weights or types."""
        config, base = still(config), self.run.config
        if (config.precision, config.optim.weights) != (base.precision, base.optim.weights):
            return self._begin(config)
        run = replace(self.run, config=config, pieces=config.machine.pieces)
        if config.optim != base.optim:
            run.optimizer = build_optimizer(run.model, config.optim)
            init_optimizer_state(run.optimizer)
        return run

    def cases(self, count: int, *, num_clips: int | None = None) -> Iterator[Case]:
        """Yield the first batches of the mixture, or their first clips, `BATCHES` a case."""
        config = replace(self.run.config, machine=replace(self.run.config.machine, mel="device"))
        _, later = build_feed(config, self.model, self.data, device=torch.device("cpu"))
        for number in range(count):
            drawn = [self.run.order.batch(BATCHES * number + i)[:num_clips] for i in range(BATCHES)]
            yield Case(batches=_collated(self.run.feed, drawn), samples=_collated(later, drawn))

    def step(self, run: Run, case: Case) -> float:
        """Do the steps of a case by `train_step` and return their mean loss."""
        encoder, decoder = run.model.audio.encoder, run.model.decoder
        encoder.execution = decoder.execution = run.config.execution
        ready = case.samples if run.config.machine.mel == "device" else case.batches
        batches = list(prefetched(iter(ready), device=run.world.device, n_mels=encoder.dims.n_mels))
        size = run.config.accumulation
        rows = [train_step(run, batches[start : start + size]) for start in range(0, len(batches), size)]
        tokens = [row["num_answer_tokens"] for row in rows]
        return sum(row["loss"] * count for row, count in zip(rows, tokens, strict=True)) / sum(tokens)

    def flops(self, case: Case) -> float:
        """Return the operations that the lengths of a case ask for."""
        return sum(self.run.flops.of([mel.shape[1] for mel in batch.mels], batch.turns) for batch in case.batches)


class Plain:
    """The plain network with copies of our subsampler and adapter, and its own AdamW."""

    def __init__(self, ours: Ours) -> None:
        config = ours.run.config
        dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
        folders = {"encoder_folder": resolve(config.encoder), "lm_folder": resolve(config.decoder)}
        self.network = PlainModel(ours.model, **folders, dtype=dtype)
        self._counts, self._clip_norm = ours.run.flops, config.optim.clip_norm

    @cached_property
    def _optimizer(self) -> torch.optim.Optimizer:
        trained = [p for p in self.network.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=0.0, fused=True)

    def pad(self, case: Case) -> Case:
        """Return `case` with its plain form."""
        padded = []
        for batch, samples in zip(case.batches, case.samples, strict=True):
            waves = [wave.numpy().astype(np.float32) / FULL_SCALE for wave in samples.waves]
            frames = [encoder_frames(mel.shape[1]) for mel in batch.mels]
            padded.append(self.network.collate(waves, frames, batch.turns))
        return replace(case, padded=tuple(padded))

    def step(self, case: Case, *, masked: bool = True) -> float:
        """Do a step for each batch of a case and return their mean loss."""
        total = 0.0
        for batch in case.padded:
            loss = self.network(batch, masked=masked)
            loss.backward()
            trained = [p for p in self.network.parameters() if p.grad is not None]
            torch.nn.utils.clip_grad_norm_(trained, self._clip_norm)
            self._optimizer.step()
            self._optimizer.zero_grad(set_to_none=True)
            total += float(loss.detach()) * _answer_tokens(batch)
        return total / sum(_answer_tokens(batch) for batch in case.padded)

    def flops(self, case: Case) -> float:
        """Return the operations of windows, padded sequences and logits everywhere."""
        return sum(self._flops(batch) for batch in case.padded)

    def _flops(self, batch: PaddedBatch) -> float:
        counts = self._counts
        window = [counts.encoder.n_audio_ctx] * len(batch.turns)
        longest = max(self.lengths(batch))
        padded = [longest] * len(batch.turns)
        return (
            encoder_flops(counts.encoder, window)
            + adapter_flops(counts.encoder, counts.adapter, counts.lm, window)
            + lm_flops(counts.lm, padded, sum(padded))
        )

    def lengths(self, batch: PaddedBatch) -> list[int]:
        """Return the LM's positions of every example, the last answer token included."""
        counts = self._counts
        return [
            counts.opening + adapter_positions(frames, counts.adapter) + len(turn.prompt) + len(turn.answer)
            for frames, turn in zip(batch.frames, batch.turns, strict=True)
        ]


def _collated(feed: Feed, drawn: Sequence[Sequence[Draw]]) -> tuple[Batch, ...]:
    return tuple(feed.collate(draws) for draws in drawn)


def _answer_tokens(batch: PaddedBatch) -> int:
    return sum(len(turn.answer) for turn in batch.turns)
