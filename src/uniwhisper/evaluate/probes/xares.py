"""Protocol `xares`: LayerNorm and one linear layer, trained as X-ARES 0.1.3 trains them, all runs side by side.

What is X-ARES's: the model and its start, the losses' means, Adam, one cosine over the epochs, the last batch of an
epoch being smaller, the epoch with the best validation score (the first of equals), predictions from that epoch.
What is ours: every epoch is one shuffle of the whole training part (X-ARES shuffles within a buffer, unseeded), and
several seeds.

Shape letters: A runs (fold x seed), B batch, D width, C classes.

Source: https://github.com/jimbozhang/xares (v0.1.3: src/xares/models/simple.py, src/xares/trainer.py,
src/xares/task.py); the schedule is ignite's CosineAnnealingScheduler, set when an epoch starts; batches are
webdataset's `batched`, which keeps the last, partial one.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from uniwhisper.evaluate.metrics import accuracy, mean_average_precision
from uniwhisper.evaluate.probes.config import ProbeOutcome, XaresProbeConfig
from uniwhisper.evaluate.probes.data import ClipData, Shuffle, blocks
from uniwhisper.evaluate.probes.models import StackedAdam, bce_residuals, cross_entropy_residuals
from uniwhisper.evaluate.task import XaresSettings
from uniwhisper.threads import map_threads

__all__ = ["XaresStack", "cosine_rate", "fit_xares", "normalise_rows"]

LAYER_NORM_EPSILON = 1e-5
"""Source: torch.nn.LayerNorm's default, which X-ARES keeps."""
MAX_RUNS_PER_CHUNK = 8
MIN_CHUNKS = 4
"""So that small tasks, too, occupy several processors; a constant, for results must not depend on their number."""


def cosine_rate(config: XaresProbeConfig, epoch: int, epochs: int) -> float:
    """Return the learning rate of an epoch, counted from 0: the final one would be reached at `epochs`."""
    share = 0.5 * (1.0 + math.cos(math.pi * epoch / epochs))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * share


def normalise_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and inverse deviation of the last axis as LayerNorm takes them; neither changes in training."""
    variance, mean = torch.var_mean(x, dim=-1, correction=0)
    return mean, torch.rsqrt(variance + LAYER_NORM_EPSILON)


class XaresStack:
    """One model a run: LayerNorm's scale and shift and a linear layer; and each model's best epoch so far."""

    def __init__(
        self, seeds: Sequence[int], width: int, num_classes: int, *, device: str, dtype: torch.dtype = torch.float32
    ) -> None:
        """Draw the linear layers as `torch.nn.Linear` does after `torch.manual_seed(seed)`."""
        bound = 1.0 / math.sqrt(width)
        drawn = []
        for seed in seeds:
            generator = torch.Generator().manual_seed(seed)
            weights = torch.empty(num_classes, width).uniform_(-bound, bound, generator=generator)
            drawn.append((weights, torch.empty(num_classes).uniform_(-bound, bound, generator=generator)))
        first = torch.ones(len(seeds), width), torch.zeros(len(seeds), width)
        linear = (torch.stack(layer) for layer in zip(*drawn, strict=True))
        self.parameters = [parameter.to(device=device, dtype=dtype) for parameter in (*first, *linear)]
        """Scale [A, D], shift [A, D], weights [A, C, D], biases [A, C]."""
        self.best = [parameter.clone() for parameter in self.parameters]
        self.best_scores = [-math.inf] * len(seeds)
        self._adam = StackedAdam(self.parameters, [0.0] * len(seeds))

    def step(self, x_ABD: Tensor, targets: Tensor, weights_AB: Tensor, rate: float) -> None:
        """Take one step.

        Args:
            x_ABD: A batch for every run, rows normalised.
            targets: Class indices [A, B] or 0/1 [A, B, C].
            weights_AB: What every example's loss counts; 0 for one that only fills a batch up.
            rate: The learning rate.
        """
        scale, shift, weights, biases = self.parameters
        scaled_ABD = torch.addcmul(shift[:, None], x_ABD, scale[:, None])
        logits_ABC = torch.baddbmm(biases[:, None], scaled_ABD, weights.transpose(1, 2))
        residuals_of = cross_entropy_residuals if targets.ndim == 2 else bce_residuals
        residuals_ABC = residuals_of(logits_ABC, targets).mul_(weights_AB[..., None])
        back_ABD = torch.bmm(residuals_ABC, weights)
        found = [
            (back_ABD * x_ABD).sum(dim=1),
            back_ABD.sum(dim=1),
            torch.bmm(residuals_ABC.transpose(1, 2), scaled_ABD),
            residuals_ABC.sum(dim=1),
        ]
        self._adam.rates = [rate] * len(self.best_scores)
        self._adam.step(self.parameters, found)

    def look(self, run: int, score: float) -> None:
        """Keep the run's present parameters where `score` is above the best so far."""
        if score > self.best_scores[run]:
            self.best_scores[run] = score
            for best, parameter in zip(self.best, self.parameters, strict=True):
                best[run] = parameter[run]

    @staticmethod
    def logits(parameters: Sequence[Tensor], run: int, x_BD: Tensor) -> Tensor:
        """Return one run's logits [B, C] for normalised rows."""
        scale, shift, weights, biases = (parameter[run] for parameter in parameters)
        return torch.addmm(torch.addmv(biases, weights, shift), x_BD, (weights * scale).T)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Run:
    fold: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Found:
    """What came of one run."""

    run: _Run
    predictions: np.ndarray
    scores: np.ndarray | None
    valid_score: float


def fit_xares(
    data: ClipData, config: XaresProbeConfig, settings: XaresSettings, *, want_scores: bool
) -> tuple[ProbeOutcome, ...]:
    """Train all folds and seeds; return one outcome a fold."""
    rows = np.arange(len(data.features))
    parts = [normalise_rows(data.features[block[0] : block[-1] + 1]) for block in blocks(rows, data.width)]
    statistics = torch.cat([mean for mean, _ in parts]), torch.cat([scale for _, scale in parts])
    found: dict[tuple[int, int], _Found] = {}

    def fit(runs: Sequence[_Run]) -> list[_Found]:
        return _Chunk(data, statistics, runs, settings).fit(config, want_scores=want_scores)

    for some in map_threads(fit, _make_chunks(data, config, settings)):
        found.update({(one.run.fold, one.run.seed): one for one in some})
    return tuple(
        _outcome([found[f, seed] for seed in range(config.seeds)], config.learning_rate) for f in range(len(data.folds))
    )


def _outcome(runs: Sequence[_Found], rate: float) -> ProbeOutcome:
    scores = [run.scores for run in runs if run.scores is not None]
    return ProbeOutcome(
        predictions=np.stack([run.predictions for run in runs]),
        scores=np.stack(scores) if scores else None,
        learning_rate=rate,
        valid_scores=(float(np.mean([run.valid_score for run in runs])),),
    )


def _make_chunks(data: ClipData, config: XaresProbeConfig, settings: XaresSettings) -> list[list[_Run]]:
    """Return the runs that train in the same products: those with as many batches an epoch, few at a time."""
    alike: dict[int, list[_Run]] = defaultdict(list)
    for f, fold in enumerate(data.folds):
        for seed in range(config.seeds):
            alike[-(-len(fold.train) // settings.batch_size)].append(_Run(fold=f, seed=seed))
    num_runs = len(data.folds) * config.seeds
    size = max(1, min(MAX_RUNS_PER_CHUNK, num_runs // MIN_CHUNKS)) if data.device == "cpu" else num_runs
    return [group[i : i + size] for group in alike.values() for i in range(0, len(group), size)]


class _Chunk:
    """Runs that train together."""

    def __init__(
        self, data: ClipData, statistics: tuple[Tensor, Tensor], runs: Sequence[_Run], settings: XaresSettings
    ) -> None:
        self._data, self._statistics, self._runs, self._settings = data, statistics, runs, settings
        self._shuffles = [Shuffle(data.folds[run.fold].train, run.seed) for run in runs]
        seeds = [run.seed for run in runs]
        self._stack = XaresStack(seeds, data.width, data.num_classes, device=data.device, dtype=data.dtype)

    def fit(self, config: XaresProbeConfig, *, want_scores: bool) -> list[_Found]:
        """Train for all epochs and predict the test parts with the best."""
        data, stack = self._data, self._stack
        metric = mean_average_precision if data.multilabel else accuracy
        for epoch in range(self._settings.epochs):
            rate = cosine_rate(config, epoch, self._settings.epochs)
            for rows, weights in self._batches():
                stack.step(self._rows(rows), data.targets[rows], weights, rate)
            for a, run in enumerate(self._runs):
                valid = data.folds[run.fold].valid
                guess, _ = self._predict(stack.parameters, a, valid, want_scores=False)
                stack.look(a, metric(data.truth[valid], guess))
        return [self._finish(a, want_scores=want_scores) for a in range(len(self._runs))]

    def _batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's row indices [A, B] and weights [A, B]; a weight is 1 / (examples x values an example)."""
        size, orders = self._settings.batch_size, [shuffle.epoch() for shuffle in self._shuffles]
        longest = max(len(order) for order in orders)
        rows = np.stack([np.pad(order, (0, longest - len(order)), mode="edge") for order in orders])
        weights = np.zeros(rows.shape)
        values = self._data.num_classes if self._data.multilabel else 1
        for a, order in enumerate(orders):
            for i in range(0, len(order), size):
                last = min(i + size, len(order))
                weights[a, i:last] = 1.0 / ((last - i) * values)
        rows_AN = self._data.index(rows)
        weights_AN = torch.as_tensor(weights, dtype=self._data.dtype, device=self._data.device)
        yield from zip(rows_AN.split(size, dim=1), weights_AN.split(size, dim=1), strict=True)

    def _rows(self, rows: Tensor) -> Tensor:
        """Return embeddings of any shape of indices, each normalised by itself."""
        mean, scale = self._statistics
        return self._data.features[rows].sub_(mean[rows][..., None]).mul_(scale[rows][..., None])

    def _predict(
        self, parameters: Sequence[Tensor], a: int, rows: np.ndarray, *, want_scores: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a run's class indices [T]; multi-label: logits [T, C]; and log-probabilities if wanted."""
        predictions, scores = [], []
        for block in blocks(rows, max(self._data.width, self._data.num_classes)):
            found = XaresStack.logits(parameters, a, self._rows(self._data.index(block)))
            predictions.append((found if self._data.multilabel else found.argmax(dim=-1)).cpu().numpy())
            if want_scores and not self._data.multilabel:
                scores.append(torch.log_softmax(found, dim=-1).cpu().numpy())
        return np.concatenate(predictions), np.concatenate(scores) if scores else None

    def _finish(self, a: int, *, want_scores: bool) -> _Found:
        run = self._runs[a]
        test = self._data.folds[run.fold].test
        predictions, scores = self._predict(self._stack.best, a, test, want_scores=want_scores)
        return _Found(run=run, predictions=predictions, scores=scores, valid_score=self._stack.best_scores[a])
