"""Train one adapter through the frozen LM and keep its best epoch on the validation part.

Reads frames and utterances; the LM's parameters need no gradient, are in no optimiser and never change. The loss of a
step is the mean over all its answer tokens, whatever pieces it is computed in; the bits depend on the configuration
and the seed alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from uniwhisper.errors import TrainingError
from uniwhisper.evaluate.asr.adapter import SwigluAdapter
from uniwhisper.evaluate.asr.config import AsrConfig
from uniwhisper.evaluate.asr.decode import transcripts
from uniwhisper.evaluate.asr.decoders import FrozenLM
from uniwhisper.evaluate.asr.examples import Utterance, epoch_steps, in_order, longest_answer, pack
from uniwhisper.evaluate.asr.warm_start import frame_statistics, warm_start
from uniwhisper.evaluate.transcripts import word_errors
from uniwhisper.threads import map_threads

if TYPE_CHECKING:
    from uniwhisper.evaluate.frames import FrameStore

__all__ = ["Epoch", "Fitted", "fit", "learning_rate", "piece_losses", "train_step"]

_MIN_STEPS_A_WARM_STEP = 10
"""A short training warms up for a tenth of its steps, or it would end before it has begun."""
_BABBLE = 0.5
"""Word error rate from which on all count as equally bad."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Epoch:
    """What one epoch came to."""

    epoch: int
    """From 1."""
    steps: int
    """Optimiser steps so far."""
    train_loss: float
    """Mean over the answer tokens of the epoch, while the adapter was learning."""
    valid_loss: float | None
    """Of an answer token of the validation part; None where nothing asked for it."""
    valid_wer: float | None
    """Word error rate of the validation part, as `selection` measures it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Fitted:
    """A trained adapter and its history."""

    adapter: SwigluAdapter
    """As it was at the end of `chosen`."""
    epochs: tuple[Epoch, ...]
    chosen: int


def fit(
    lm: FrozenLM,
    frames: FrameStore,
    train: Sequence[Utterance],
    valid: Sequence[Utterance],
    config: AsrConfig,
    *,
    seed: int,
    device: str = "cpu",
    on_epoch: Callable[[int], object] = lambda done: None,
) -> Fitted:
    """Return the adapter of the epoch that the validation part chose.

    Args:
        lm: The frozen LM.
        frames: Frames of every clip of the task.
        train: What the adapter learns from.
        valid: What chooses the epoch.
        config: How it is trained and chosen.
        seed: Of the initial weights and of the order of clips.
        device: Where it computes.
        on_epoch: Called with the number of epochs done.

    Raises:
        TrainingError: The loss is not a number any more.
    """
    adapter = _build(lm, frames, train, config, seed, device)
    optimizer = torch.optim.Adam(adapter.parameters(), lr=config.learning_rate, fused=True)
    steps = [epoch_steps(train, config, seed=seed, epoch=epoch) for epoch in range(config.epochs)]
    total, done = sum(map(len, steps)), 0
    history: list[Epoch] = []
    best_score, chosen, kept = (math.inf, math.inf), 0, adapter.state_dict()
    for epoch, pieces in enumerate(steps):
        loss_sum, tokens = 0.0, 0
        for step in pieces:
            rate = learning_rate(config, step=done, steps=total, epoch=epoch)
            loss, count = train_step(adapter, optimizer, lm, frames, step, config, rate=rate)
            loss_sum, tokens, done = loss_sum + loss * count, tokens + count, done + 1
            if not math.isfinite(loss):
                where = f"ASR probe, seed {seed}, step {done}"
                raise TrainingError(f"{where}: expected a finite loss, found {loss}. Lower asr.learning_rate")
        loss, wer = _validate(adapter, lm, frames, train, valid, config)
        history.append(Epoch(epoch=epoch + 1, steps=done, train_loss=loss_sum / tokens, valid_loss=loss, valid_wer=wer))
        on_epoch(epoch + 1)
        score = _score(history[-1], config)
        if not chosen or score < best_score:
            best_score, chosen = score, epoch + 1
            kept = {name: value.clone() for name, value in adapter.state_dict().items()}
        elif config.patience_epochs and epoch + 1 - chosen >= config.patience_epochs:
            break
    adapter.load_state_dict(kept)
    return Fitted(adapter=adapter, epochs=tuple(history), chosen=chosen)


def train_step(
    adapter: SwigluAdapter,
    optimizer: torch.optim.Optimizer,
    lm: FrozenLM,
    frames: FrameStore,
    pieces: Sequence[Sequence[Utterance]],
    config: AsrConfig,
    *,
    rate: float,
) -> tuple[float, int]:
    """Do one optimiser step on all pieces; return the mean loss of their answer tokens and how many there are."""
    parameters = list(adapter.parameters())
    total = sum(len(utterance.turn.answer) for piece in pieces for utterance in piece)

    def compute(piece: Sequence[Utterance]) -> tuple[float, tuple[Tensor, ...]]:
        loss = piece_losses(adapter, lm, frames, piece, config).sum() / total
        return float(loss.detach()), torch.autograd.grad(loss, parameters)

    losses = []
    optimizer.zero_grad(set_to_none=True)
    for loss, gradients in map_threads(compute, pieces):  # in the pieces' order, whichever ends first
        losses.append(loss)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad.add_(gradient)
    if config.clip_norm:
        nn.utils.clip_grad_norm_(parameters, config.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return sum(losses), total


def piece_losses(
    adapter: SwigluAdapter, lm: FrozenLM, frames: FrameStore, piece: Sequence[Utterance], config: AsrConfig
) -> Tensor:
    """Return the loss of every answer token of some clips, packed in their order."""
    packed = pack(frames, piece, str(adapter.mean.device))
    with torch.autocast(packed.values.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
        audio = adapter(packed)
    return lm.decoder.answer_losses(audio, [utterance.turn for utterance in piece])


def learning_rate(config: AsrConfig, *, step: int, steps: int, epoch: int) -> float:
    """Return the rate of a step: a linear rise, then a cosine over all steps, or over epochs as X-ARES has it.

    Source: https://pypi.org/project/xares/0.1.3/ (xares/trainer.py: ignite's CosineAnnealingScheduler by epoch).
    """
    progress = step / max(1, steps) if config.schedule == "step" else epoch / config.epochs
    cosine = 0.5 * (1 + math.cos(math.pi * progress))
    warm = min(1.0, (step + 1) / (min(config.warmup_steps, steps // _MIN_STEPS_A_WARM_STEP) + 1))
    return config.learning_rate * warm * (config.end_share + (1 - config.end_share) * cosine)


def _build(
    lm: FrozenLM, frames: FrameStore, train: Sequence[Utterance], config: AsrConfig, seed: int, device: str
) -> SwigluAdapter:
    """Return the adapter before its first step; its random numbers are drawn on the CPU, apart from everyone's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        adapter = SwigluAdapter(
            frames.dim, hidden=config.hidden, decoder_width=lm.decoder.width, reduction=config.reduction
        )
    if config.standardise:
        adapter.standardise(*frame_statistics(frames, train))
    if config.warm_start:
        warm_start(adapter, lm, frames, train)
    return adapter.to(device)


def _validate(
    adapter: SwigluAdapter,
    lm: FrozenLM,
    frames: FrameStore,
    train: Sequence[Utterance],
    valid: Sequence[Utterance],
    config: AsrConfig,
) -> tuple[float | None, float | None]:
    """Return the loss and the word error rate that the selection needs."""
    if config.selection == "loss":
        return _mean_loss(adapter, lm, frames, valid, config), None
    if config.selection == "last":
        return None, None
    if config.selection == "wer":
        guesses, _ = transcripts(adapter, lm, frames, valid, config, limit=longest_answer(train, config))
    else:
        guesses = _teacher_forced(adapter, lm, frames, valid, config)
    texts = [utterance.text for utterance in valid]
    errors, words = word_errors(texts, guesses, normaliser=config.normaliser)
    loss = _mean_loss(adapter, lm, frames, valid, config) if config.selection == "wer" else None
    return loss, float(errors.sum() / words.sum())


def _score(epoch: Epoch, config: AsrConfig) -> tuple[float, float]:
    """Return what the choice minimises: first one, then the other; the last epoch where nothing chooses.

    Until half of the words are right, word error rates measure how much is babbled more than how well is heard (silence
    has 1), so that far the loss chooses.
    """
    if config.selection == "last":
        return -float(epoch.epoch), 0.0
    if config.selection == "teacher_forced":
        return (math.inf if epoch.valid_wer is None else epoch.valid_wer), 0.0
    wer = _BABBLE if epoch.valid_wer is None else max(epoch.valid_wer, 0.0)
    return min(wer, _BABBLE), (math.inf if epoch.valid_loss is None else epoch.valid_loss)


@torch.no_grad()
def _mean_loss(
    adapter: SwigluAdapter, lm: FrozenLM, frames: FrameStore, valid: Sequence[Utterance], config: AsrConfig
) -> float:
    def compute(batch: Sequence[Utterance]) -> tuple[float, int]:
        with torch.no_grad():
            losses = piece_losses(adapter, lm, frames, batch, config)
        return float(losses.sum()), len(losses)

    sums = list(map_threads(compute, in_order(valid, config)))
    return sum(loss for loss, _ in sums) / sum(count for _, count in sums)


def _teacher_forced(
    adapter: SwigluAdapter, lm: FrozenLM, frames: FrameStore, valid: Sequence[Utterance], config: AsrConfig
) -> list[str]:
    """Return the best token after the true words so far, for every token, cut to the transcript's letters."""

    def compute(batch: Sequence[Utterance]) -> list[str]:
        with (
            torch.no_grad(),
            torch.autocast(adapter.mean.device.type, torch.bfloat16, enabled=config.precision == "bf16"),
        ):
            audio = adapter(pack(frames, batch, str(adapter.mean.device)))
        with torch.no_grad():
            states, _ = lm.decoder.hidden(audio, [utterance.turn for utterance in batch])
            best = lm.decoder.lm.get_output_embeddings()(states).argmax(dim=-1)  # type: ignore[operator]
        guesses = best.split([len(utterance.turn.answer) for utterance in batch])
        decode = lm.decoder.tokenizer.decode
        return [
            decode(guess.tolist(), skip_special_tokens=True)[: len(utterance.text)]
            for guess, utterance in zip(guesses, batch, strict=True)
        ]

    return [text for texts in map_threads(compute, in_order(valid, config)) for text in texts]
