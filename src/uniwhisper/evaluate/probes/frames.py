"""Train probes that say what is heard when: one linear layer (or two) a frame, frames streamed from a store.

Reads: a store of all frames, a frame task and its plan. Returns: probabilities and truth of every segment of every test
clip, by seed; labels and segments follow `segments.py`.
Guarantees: a few blocks of frames are held as float32, never all; every seed and learning rate trains on a block while
it is there; results do not depend on the number of threads. `strict`: standardisation uses the training part, early
stopping (mean loss a frame) and the learning rate (segment F1) use the validation part, the test part is predicted
once. `xares`: clips are padded with zero frames to the longest, padding counts in loss and score as in X-ARES, and the
epoch with the best segment F1 on the plan's validation part is kept.

A pass takes the clips in one shuffle, cut into blocks, and shuffles each block again for every seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uniwhisper.evaluate.metrics import f1_of_counts
from uniwhisper.evaluate.probes.config import FrameOutcome, ProbeConfig, XaresProbeConfig
from uniwhisper.evaluate.probes.frame_data import (
    Block,
    BlockReader,
    Frames,
    StrictRules,
    XaresRules,
    check_frames,
    frame_moments,
)
from uniwhisper.evaluate.probes.models import EarlyStack, bce_residuals, forward
from uniwhisper.evaluate.probes.segments import pool_max, segment_counts
from uniwhisper.evaluate.probes.strict import MIN_STEPS_PER_EPOCH
from uniwhisper.evaluate.probes.xares import XaresStack, cosine_rate, normalise_rows
from uniwhisper.evaluate.splits import Fold, Plan
from uniwhisper.evaluate.task import Task, XaresSettings
from uniwhisper.threads import map_threads, one_thread_each

__all__ = ["train_frame_probes"]

THRESHOLD = 0.5
"""A class is predicted where its probability is above this; it is not tuned."""
ROWS = 8192
"""Frames of one product outside training."""


def train_frame_probes(
    frames: Frames, task: Task, plan: Plan, *, config: ProbeConfig | XaresProbeConfig, device: str = "cpu"
) -> tuple[FrameOutcome, ...]:
    """Train every seed and learning rate of each fold in turn and return one outcome a fold.

    Args:
        frames: Of the task's clips, in their order, such as a `FrameStore`.
        task: A task of kind `frame`.
        plan: Its folds.
        config: How to train; its type is the protocol. Under `xares`, epochs and batch size are `task.xares`'s.
        device: Torch device that trains.

    Raises:
        TaskError: The frames are not the task's, or an event is of no class of the task.
    """
    index = check_frames(frames, task)
    with one_thread_each():
        if isinstance(config, XaresProbeConfig):
            rules = XaresRules(frames, task, index)
            return tuple(_fit_xares(frames, rules, fold, len(index), config, task.xares, device) for fold in plan.folds)
        strict = StrictRules(frames, task, index)
        return tuple(_fit_strict(frames, strict, fold, len(index), config, device) for fold in plan.folds)


class _StrictRun:
    """One seed at all learning rates."""

    def __init__(self, seed: int, width: int, known_C: Tensor, config: ProbeConfig, device: str) -> None:
        self.stack = EarlyStack([seed], width, len(known_C), config=config, device=device)
        self._known, self._batch_clips = known_C, config.frame_batch_clips
        self._random = np.random.default_rng(seed)

    def train(self, block: Block) -> None:
        """Take a step for every batch of the block's clips, in an order of this seed's own."""
        order = self._random.permutation(len(block.segments_per_clip))
        for i in range(0, len(order), self._batch_clips):
            x_FD, labels_FC = block.batch(order[i : i + self._batch_clips])

            def residuals(logits_PFC: Tensor, labels_FC: Tensor = labels_FC) -> Tensor:
                return bce_residuals(logits_PFC, labels_FC).mul_(self._known).div_(len(labels_FC))

            place = torch.zeros(len(self.stack.models), dtype=torch.int64, device=x_FD.device)
            self.stack.step(x_FD[None], place, residuals)

    def losses(self, block: Block) -> Tensor:
        """Return the summed loss, float64 [P], of every model that still trains."""
        total = torch.zeros(len(self.stack.models), dtype=torch.float64)
        for i in range(0, len(block.x), ROWS):
            logits_PFC = _logits(self.stack.parameters, block.x[i : i + ROWS])
            labels = block.labels[None, i : i + ROWS].expand_as(logits_PFC)
            losses = functional.binary_cross_entropy_with_logits(logits_PFC, labels, reduction="none")
            total += (losses * self._known).sum(dim=(1, 2), dtype=torch.float64).cpu()
        return total


def _fit_strict(
    frames: Frames, rules: StrictRules, fold: Fold, num_classes: int, config: ProbeConfig, device: str
) -> FrameOutcome:
    mean, scale = map(torch.from_numpy, frame_moments(frames, rules, fold.train).finish())

    def prepare(x_FD: Tensor) -> Tensor:
        return x_FD.sub(mean).div_(scale)

    def reader() -> BlockReader:
        return BlockReader(frames, rules, batch_clips=config.frame_batch_clips, prepare=prepare, device=device)

    known = np.zeros(num_classes, dtype=bool)
    for clip in fold.train.tolist():
        known |= rules.labels(clip).any(axis=0)
    known_C = torch.from_numpy(known).to(device)
    runs = [_StrictRun(seed, frames.dim, known_C, config, device) for seed in range(config.seeds)]
    valid = reader()
    _train_strict(runs, fold, reader(), valid, config)
    best = [run.stack.best_of_run(0) for run in runs]
    counts = sum(
        np.stack(list(map_threads(lambda one, block=block: _counts(_logits(one[0], block.x), block), best)))
        for block in valid.blocks(fold.valid)
    )
    scores = f1_of_counts(np.asarray(counts)).mean(axis=0).tolist()
    losses = np.mean([loss for _, loss in best], axis=0).tolist()
    rates = config.learning_rates
    chosen = min(range(len(rates)), key=lambda i: (-round(scores[i], 12), losses[i], rates[i]))
    kept = [[parameter[chosen : chosen + 1] for parameter in parameters] for parameters, _ in best]
    models = [lambda x_FD, parameters=parameters: _logits(parameters, x_FD)[0] for parameters in kept]
    return _predict(models, reader(), fold, learning_rate=rates[chosen], valid_scores=tuple(scores))


def _train_strict(
    runs: Sequence[_StrictRun], fold: Fold, train: BlockReader, valid: BlockReader, config: ProbeConfig
) -> None:
    """Train until every model has stopped; small training parts are passed several times an epoch."""
    passes = -(-MIN_STEPS_PER_EPOCH // -(-len(fold.train) // config.frame_batch_clips))
    for epoch in range(config.max_epochs):
        going = [run for run in runs if len(run.stack.models)]
        if not going:
            return
        for number in range(epoch * passes, (epoch + 1) * passes):
            for block in train.blocks(fold.train, order=number):
                list(map_threads(partial(_StrictRun.train, block=block), going))
        totals = [torch.zeros(len(run.stack.models), dtype=torch.float64) for run in going]
        num_frames = 0
        for block in valid.blocks(fold.valid):
            num_frames += len(block.x)
            found = map_threads(partial(_StrictRun.losses, block=block), going)
            for total, losses in zip(totals, found, strict=True):
                total += losses
        for run, total in zip(going, totals, strict=True):
            run.stack.look(total / num_frames)


class _XaresRun:
    """One seed."""

    def __init__(self, seed: int, width: int, num_classes: int, device: str) -> None:
        self.stack = XaresStack([seed], width, num_classes, device=device)
        self._random = np.random.default_rng(seed)

    def train(self, block: Block, *, batch_size: int, rate: float) -> None:
        """Take a step for every batch of the block's clips; the loss is the mean over frames and classes."""
        order = self._random.permutation(len(block.segments_per_clip))
        for i in range(0, len(order), batch_size):
            x_FD, labels_FC = block.batch(order[i : i + batch_size])
            weights = torch.full((1, len(x_FD)), 1.0 / labels_FC.numel(), device=x_FD.device)
            self.stack.step(x_FD[None], labels_FC[None], weights, rate)

    def counts(self, block: Block) -> np.ndarray:
        """Return true positives, false positives and misses of every class in the block's segments, [C, 3]."""
        return _counts(XaresStack.logits(self.stack.parameters, 0, block.x)[None], block)[0]


def _fit_xares(
    frames: Frames,
    rules: XaresRules,
    fold: Fold,
    num_classes: int,
    config: XaresProbeConfig,
    settings: XaresSettings,
    device: str,
) -> FrameOutcome:
    def prepare(x_FD: Tensor) -> Tensor:
        mean, scale = normalise_rows(x_FD)
        return (x_FD - mean[:, None]).mul_(scale[:, None])

    def reader() -> BlockReader:
        return BlockReader(frames, rules, batch_clips=settings.batch_size, prepare=prepare, device=device)

    runs = [_XaresRun(seed, frames.dim, num_classes, device) for seed in range(config.seeds)]
    train, valid = reader(), reader()

    for epoch in range(settings.epochs):
        rate = cosine_rate(config, epoch, settings.epochs)
        for block in train.blocks(fold.train, order=epoch):
            step = partial(_XaresRun.train, block=block, batch_size=settings.batch_size, rate=rate)
            list(map_threads(step, runs))
        found = sum(
            np.stack(list(map_threads(partial(_XaresRun.counts, block=block), runs)))
            for block in valid.blocks(fold.valid)
        )
        for run, score in zip(runs, f1_of_counts(np.asarray(found)).tolist(), strict=True):
            run.stack.look(0, score)
    models = [lambda x_FD, run=run: XaresStack.logits(run.stack.best, 0, x_FD) for run in runs]
    score = float(np.mean([run.stack.best_scores[0] for run in runs]))
    return _predict(models, reader(), fold, learning_rate=config.learning_rate, valid_scores=(score,))


def _logits(parameters: Sequence[Tensor], x_FD: Tensor) -> Tensor:
    """Return [P, F, C] of models that read the same frames."""
    place = torch.zeros(len(parameters[-1]), dtype=torch.int64, device=x_FD.device)
    return torch.cat([forward(parameters, part[None], place)[0] for part in x_FD.split(ROWS)], dim=1)


def _counts(logits_PFC: Tensor, block: Block) -> np.ndarray:
    """Return true positives, false positives and misses of every model and class in the block's segments, [P, C, 3]."""
    return np.stack([segment_counts(block.truth, _pool(logits, block) > THRESHOLD) for logits in logits_PFC])


def _pool(logits_FC: Tensor, block: Block) -> np.ndarray:
    """Return the probability of every segment and class: that of its likeliest frame, float32 [M, C]."""
    return torch.sigmoid(torch.from_numpy(pool_max(logits_FC.cpu().numpy(), block.spans))).numpy()


def _predict(
    models: Sequence[Callable[[Tensor], Tensor]],
    reader: BlockReader,
    fold: Fold,
    *,
    learning_rate: float,
    valid_scores: tuple[float, ...],
) -> FrameOutcome:
    """Predict the fold's test part with every seed's model, which turns frames into logits [F, C]."""
    probabilities, truth, segments = [], [], []
    for block in reader.blocks(fold.test):
        found = map_threads(lambda model, block=block: _pool(model(block.x), block), models)
        probabilities.append(np.stack(list(found)))
        truth.append(block.truth)
        segments.append(block.segments_per_clip)
    return FrameOutcome(
        probabilities=np.concatenate(probabilities, axis=1),
        truth=np.concatenate(truth),
        segments_per_clip=np.concatenate(segments),
        learning_rate=learning_rate,
        valid_scores=valid_scores,
    )
