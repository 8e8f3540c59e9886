"""Protocol `strict` on embeddings: standardise, train every seed and learning rate, stop early, keep the best epoch.

The runs of a task (fold x seed) are cut into chunks that depend on the task and the kind of device alone; the models of
a chunk, all its runs at all learning rates, train in the same products, and chunks train side by side. On a processor a
chunk is one run: its learning rates share every batch, so a product has more columns and no batch is copied. On a
GPU a chunk holds every run with as many steps an epoch.

Shape letters: P models (run x learning rate, those of one rate together), A runs, B batch, D width, C classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uniwhisper.evaluate.metrics import accuracy, mean_average_precision
from uniwhisper.evaluate.probes.config import ProbeConfig, ProbeOutcome
from uniwhisper.evaluate.probes.data import ClipData, Shuffle, blocks
from uniwhisper.evaluate.probes.models import EarlyStack, bce_residuals, cross_entropy_residuals, forward
from uniwhisper.threads import map_threads

__all__ = ["NEVER", "fit_strict"]

MIN_STEPS_PER_EPOCH = 10
"""Small training parts are seen several times between two looks at the validation part."""
NEVER = -1e4
"""Log-probability of a class that the fold never trains on."""
MAX_STACKED_BYTES = 8 << 30
"""Largest parameters and optimiser state of one chunk."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One fold with one seed."""

    fold: int
    seed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class _Trained:
    """A run's models at their best epochs, one a learning rate."""

    run: Run
    parameters: list[Tensor]
    """[R, ...] each."""
    losses: list[float]
    scores: list[float]
    """On the validation part, by learning rate."""


def fit_strict(data: ClipData, config: ProbeConfig, *, want_scores: bool) -> tuple[ProbeOutcome, ...]:
    """Train all folds, seeds and learning rates; return one outcome a fold."""
    statistics = list(map_threads(data.statistics, range(len(data.folds))))
    chunks = make_chunks(data, config)
    trained: dict[Run, _Trained] = {}
    for found in map_threads(lambda runs: _Chunk(data, statistics, runs, config).fit(), chunks):
        trained.update({one.run: one for one in found})

    def outcome(f: int) -> ProbeOutcome:
        mine = [trained[Run(fold=f, seed=seed)] for seed in range(config.seeds)]
        return _judge(data, statistics[f], f, mine, config, want_scores)

    return tuple(map_threads(outcome, range(len(data.folds))))


def make_chunks(data: ClipData, config: ProbeConfig) -> list[list[Run]]:
    """Return the runs that train in the same products; never depends on the number of threads."""
    runs = [Run(fold=f, seed=s) for f in range(len(data.folds)) for s in range(config.seeds)]
    if data.device == "cpu":
        return [[run] for run in runs]
    width = max(data.width, config.hidden_size if config.hidden_layers else 0)
    outputs = data.num_classes + (config.hidden_size if config.hidden_layers else 0)
    bytes_per_run = 5 * 4 * width * outputs * len(config.learning_rates)
    most = max(1, MAX_STACKED_BYTES // bytes_per_run)
    alike: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        alike[steps_per_epoch(len(data.folds[run.fold].train), config)].append(run)
    return [group[i : i + most] for group in alike.values() for i in range(0, len(group), most)]


def steps_per_epoch(num_clips: int, config: ProbeConfig) -> int:
    """Return the steps between two looks at the validation part."""
    return max(MIN_STEPS_PER_EPOCH, -(-num_clips // config.batch_size))


class _Chunk:
    """Runs that train together."""

    def __init__(
        self, data: ClipData, statistics: Sequence[tuple[Tensor, Tensor]], runs: Sequence[Run], config: ProbeConfig
    ) -> None:
        self._data, self._runs, self._config = data, runs, config
        folds = [run.fold for run in runs]
        self._means = torch.stack([statistics[f][0] for f in folds])
        self._scales = torch.stack([statistics[f][1] for f in folds])
        self._known = data.known[torch.tensor(folds, device=data.device)]
        self._shuffles = [Shuffle(data.folds[run.fold].train, run.seed) for run in runs]
        seeds = [run.seed for run in runs]
        self._stack = EarlyStack(seeds, data.width, data.num_classes, config=config, device=data.device)

    def fit(self) -> list[_Trained]:
        """Train until every model has stopped."""
        steps = steps_per_epoch(len(self._data.folds[self._runs[0].fold].train), self._config)
        for _ in range(self._config.max_epochs):
            active, place = (tensor.to(self._data.device) for tensor in self._stack.runs())
            if not len(active):
                break
            for _ in range(steps):
                self._step(active, place)
            losses = torch.empty(len(self._stack.models), dtype=torch.float64)
            for a in active.tolist():
                mine, parameters = self._stack.of_run(a)
                losses[mine] = self._valid_losses(a, parameters)
            self._stack.look(losses)
        return [self._finish(a) for a in range(len(self._runs))]

    def _step(self, active: Tensor, place: Tensor) -> None:
        """Take one step of every model that still trains; `place` says which of the `active` runs it belongs to."""
        data = self._data
        rows = data.index(np.stack([self._shuffles[a].take(self._config.batch_size) for a in active.tolist()]))
        x_ABD = data.features[rows]
        x_ABD.sub_(self._means[active][:, None]).div_(self._scales[active][:, None])
        known_P1C = self._known[active][place][:, None]
        targets = data.targets[rows][place]

        def residuals(logits_PBC: Tensor) -> Tensor:
            if data.multilabel:
                found = bce_residuals(logits_PBC, targets).mul_(known_P1C)
            else:
                found = cross_entropy_residuals(logits_PBC.masked_fill(~known_P1C, -torch.inf), targets)
            return found.div_(rows.shape[1])

        self._stack.step(x_ABD, place, residuals)

    def _valid_losses(self, a: int, parameters: Sequence[Tensor]) -> Tensor:
        """Return the validation loss, float64 [P], of some models of one run."""
        data, fold = self._data, self._runs[a].fold
        valid = data.folds[fold].valid
        total, count = torch.zeros(len(parameters[-1]), dtype=torch.float64), 0
        for rows, found in _in_blocks(data, (self._means[a], self._scales[a]), valid, parameters):
            losses, usable = _losses(data, found, rows, data.known[fold])
            total += losses.sum(dim=1, dtype=torch.float64).cpu()
            count += usable
        return total / max(1, count)

    def _finish(self, a: int) -> _Trained:
        run = self._runs[a]
        best, losses = self._stack.best_of_run(a)
        scores = _valid_scores(self._data, (self._means[a], self._scales[a]), run.fold, best)
        return _Trained(run=run, parameters=best, losses=losses, scores=scores)


def _in_blocks(
    data: ClipData, statistics: tuple[Tensor, Tensor], rows: np.ndarray, parameters: Sequence[Tensor]
) -> Iterator[tuple[np.ndarray, Tensor]]:
    """Yield some of the rows and the models' logits [P, B, C] for them."""
    num_models = len(parameters[-1])
    widest = max(data.width, num_models * max(parameter.shape[1] for parameter in parameters))
    place = torch.zeros(num_models, dtype=torch.int64, device=data.device)
    for block in blocks(rows, widest):
        x_1BD = data.features[data.index(block)].sub_(statistics[0]).div_(statistics[1])[None]
        yield block, forward(parameters, x_1BD, place)[0]


def _losses(data: ClipData, logits_PBC: Tensor, rows: np.ndarray, known_C: Tensor) -> tuple[Tensor, int]:
    """Return the loss of every model and clip [P, B], and how many of the clips count.

    A class that the fold never trains on takes no part, so test-only labels cannot change the training.
    """
    targets = data.targets[data.index(rows)][None].expand(len(logits_PBC), *([-1] * data.targets.ndim))
    if data.multilabel:
        losses = functional.binary_cross_entropy_with_logits(logits_PBC, targets, reduction="none")
        return (losses * known_C).sum(dim=-1), len(rows)
    log_p = torch.log_softmax(logits_PBC.masked_fill(~known_C, -torch.inf), dim=-1)
    usable = known_C[targets[0]]
    picked = log_p.gather(-1, targets[..., None]).squeeze(-1).masked_fill(~usable, 0.0)
    return -picked, int(usable.sum())


def _valid_scores(
    data: ClipData, statistics: tuple[Tensor, Tensor], fold: int, parameters: Sequence[Tensor]
) -> list[float]:
    """Return every model's score on the fold's validation part."""
    valid = data.folds[fold].valid
    guesses, _ = _predict(data, statistics, fold, valid, parameters, want_scores=False)
    metric = mean_average_precision if data.multilabel else accuracy
    return [metric(data.truth[valid], guess) for guess in guesses]


def _predict(
    data: ClipData,
    statistics: tuple[Tensor, Tensor],
    fold: int,
    rows: np.ndarray,
    parameters: Sequence[Tensor],
    *,
    want_scores: bool,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return every model's class indices [P, T]; multi-label: logits [P, T, C]; and log-probabilities if wanted."""
    predictions, scores = [], []
    for _, found in _in_blocks(data, statistics, rows, parameters):
        if data.multilabel:
            predictions.append(found.cpu().numpy())
            continue
        masked = found.masked_fill(~data.known[fold], -torch.inf)
        predictions.append(masked.cpu().numpy().argmax(axis=-1))
        if want_scores:
            scores.append(torch.log_softmax(masked, dim=-1).clamp(min=NEVER).cpu().numpy())
    return np.concatenate(predictions, axis=1), np.concatenate(scores, axis=1) if scores else None


def _judge(
    data: ClipData,
    statistics: tuple[Tensor, Tensor],
    fold: int,
    trained: Sequence[_Trained],
    config: ProbeConfig,
    want_scores: bool,
) -> ProbeOutcome:
    """Choose the fold's learning rate on its validation part, then predict its test part with it."""
    scores = np.mean([one.scores for one in trained], axis=0).tolist()
    losses = np.mean([one.losses for one in trained], axis=0).tolist()
    rates = config.learning_rates
    chosen = min(range(len(rates)), key=lambda i: (-round(scores[i], 12), losses[i], rates[i]))
    found = [
        _predict(
            data,
            statistics,
            fold,
            data.folds[fold].test,
            [parameter[chosen : chosen + 1] for parameter in one.parameters],
            want_scores=want_scores,
        )
        for one in trained
    ]
    return ProbeOutcome(
        predictions=np.concatenate([guess for guess, _ in found]),
        scores=np.concatenate([log_p for _, log_p in found if log_p is not None]) if found[0][1] is not None else None,
        learning_rate=rates[chosen],
        valid_scores=tuple(scores),
    )
