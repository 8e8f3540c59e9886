"""Train probes on frozen embeddings: all folds and seeds in one batched product a step, all learning rates in step.

Reads: embeddings, targets and a split plan's folds. Returns: test predictions of every seed, made once.
Guarantees: standardisation uses the training part; early stopping and the learning rate use the validation part; the
test part and its labels reach nothing but the final predictions. A model's training does not depend on which other
models are trained beside it.

Shape letters: R runs (fold x seed), A runs still training, B batch, D embedding width, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate.metrics import accuracy, mean_average_precision
from uniwhisper.evaluate.splits import Fold

__all__ = ["ProbeConfig", "ProbeOutcome", "train_probes"]

_BETAS = (0.9, 0.999)
_EPSILON = 1e-8
_ROWS = 4096
_MIN_STEPS_PER_EPOCH = 10
"""Small training parts are seen several times between two looks at the validation part."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig:
    """How a probe is built, trained and chosen."""

    hidden_layers: int = 0
    """0: one linear layer; 1: a ReLU layer before it."""
    hidden_size: int = 512
    """Width of the hidden layer; unused without one."""
    seeds: int = 3
    """Independent trainings: batch order and, with a hidden layer, initial weights."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Tried for every fold and seed; each fold keeps the one with the best mean validation score."""
    batch_size: int = 128
    max_epochs: int = 100
    patience_epochs: int = 5
    """A model stops after this many epochs without a better validation loss; its best epoch is kept."""
    min_improvement: float = 1e-3
    """A validation loss (in nats) is better when it is lower than the best by this much."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay; 0 is Adam."""

    def __post_init__(self) -> None:
        if self.hidden_layers not in (0, 1):
            raise ConfigError(f"expected hidden_layers 0 or 1, found {self.hidden_layers}")
        positive = (self.hidden_size, self.seeds, self.batch_size, self.max_epochs, self.patience_epochs)
        if (
            min(positive) < 1
            or not self.learning_rates
            or min(self.learning_rates) <= 0
            or min(self.weight_decay, self.min_improvement) < 0
        ):
            raise ConfigError(f"expected positive sizes, counts and learning rates, found {self}")


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeOutcome:
    """What came of one fold."""

    predictions: np.ndarray
    """Class indices of the test clips, int64 [S, T]; multi-label: logits, float32 [S, T, C]."""
    learning_rate: float
    """The one chosen on the validation part."""
    valid_scores: tuple[float, ...]
    """Mean validation score over seeds, by learning rate."""


def train_probes(
    features: np.ndarray,
    targets: np.ndarray,
    folds: Sequence[Fold],
    *,
    num_classes: int,
    config: ProbeConfig,
    device: str = "cpu",
) -> tuple[ProbeOutcome, ...]:
    """Train every fold, seed and learning rate together and return one outcome a fold.

    Args:
        features: Embeddings [N, D].
        targets: Class indices [N], or a 0/1 matrix [N, C].
        folds: Row indices of every train, valid and test part.
        num_classes: C.
        config: How to train.
        device: Torch device that trains.
    """
    data = _Data(features, targets, folds, num_classes, device)
    groups = [_Group(data, config, rate) for rate in config.learning_rates]
    _fit(groups, data, config)
    return tuple(_judge(groups, data, f, config) for f in range(len(folds)))


class _Data:
    """Embeddings, targets and standardisation on the device."""

    def __init__(
        self, features: np.ndarray, targets: np.ndarray, folds: Sequence[Fold], num_classes: int, device: str
    ) -> None:
        self.folds = folds
        self.truth = targets
        self.multilabel = targets.ndim == 2
        self.num_classes = num_classes
        self.device = device
        self.features = torch.as_tensor(features, dtype=torch.float32, device=device)
        dtype = torch.float32 if self.multilabel else torch.int64
        self.targets = torch.as_tensor(targets, dtype=dtype, device=device)
        statistics = [_statistics(features[fold.train]) for fold in folds]
        self.means = torch.as_tensor(np.stack([mean for mean, _ in statistics]), device=device)
        self.scales = torch.as_tensor(np.stack([scale for _, scale in statistics]), device=device)
        known = np.stack([_known_classes(targets[fold.train], num_classes) for fold in folds])
        self.known = torch.as_tensor(known, device=device)

    def rows(self, fold: int, indices: np.ndarray) -> Tensor:
        """Return the fold's standardised embeddings [1, len(indices), D]."""
        picked = self.features[torch.as_tensor(indices, device=self.device)]
        return ((picked - self.means[fold]) / self.scales[fold])[None]

    def losses(self, logits_RBC: Tensor, targets: Tensor, known_RC: Tensor) -> Tensor:
        """Return every run's loss [R]: the mean over the clips whose classes its fold trains on.

        A class that the fold never trains on takes no part, so test-only labels cannot change the training.
        """
        known_R1C = known_RC[:, None, :]
        if self.multilabel:
            loss = functional.binary_cross_entropy_with_logits(logits_RBC, targets, reduction="none")
            return (loss * known_R1C).sum(dim=-1).mean(dim=-1)
        log_p = torch.log_softmax(logits_RBC.masked_fill(~known_R1C, -torch.inf), dim=-1)
        usable = torch.gather(known_RC, 1, targets)
        picked = log_p.gather(-1, targets[..., None]).squeeze(-1).masked_fill(~usable, 0.0)
        return -picked.sum(dim=-1) / usable.sum(dim=-1).clamp(min=1)


def _statistics(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    mean = rows.mean(axis=0, dtype=np.float64)
    scale = rows.std(axis=0, dtype=np.float64)
    scale[scale < 1e-8] = 1.0  # a constant feature carries nothing; dividing by its rounding noise would
    return mean.astype(np.float32), scale.astype(np.float32)


def _known_classes(targets: np.ndarray, num_classes: int) -> np.ndarray:
    if targets.ndim == 2:
        return targets.max(axis=0) > 0
    return np.bincount(targets, minlength=num_classes) > 0


class _Group:
    """All runs of one learning rate: parameters stacked over the runs that still train, and every run's best epoch.

    The output layer starts at zero, so its start depends on nothing.
    """

    def __init__(self, data: _Data, config: ProbeConfig, rate: float) -> None:
        self.num_seeds, self.rate = config.seeds, rate
        num_folds, width = len(data.folds), data.features.shape[1]
        num_runs = num_folds * config.seeds
        self._parameters: list[Tensor] = []
        if config.hidden_layers:
            start = torch.stack([_hidden_start(seed, width, config.hidden_size) for seed in range(config.seeds)])
            width = config.hidden_size
            self._parameters += [start.to(data.device).repeat(num_folds, 1, 1)]
            self._parameters += [torch.zeros(num_runs, 1, width, device=data.device)]
        self._parameters += [torch.zeros(num_runs, rows, data.num_classes, device=data.device) for rows in (width, 1)]
        self._best = [parameter.clone() for parameter in self._parameters]
        self._adam = _Adam(self._parameters, rate, config.weight_decay)
        self.runs = torch.arange(num_runs, device=data.device)
        """The runs that still train, ascending."""
        self.best_losses = torch.full((num_runs,), torch.inf, device=data.device)
        self._stale = torch.zeros(num_runs, dtype=torch.int64, device=data.device)

    def step(self, data: _Data, x_ABD: Tensor, targets: Tensor, known_AC: Tensor) -> None:
        """Take one optimiser step; the arguments hold a batch for each of `runs`."""
        parameters = [parameter.requires_grad_() for parameter in self._parameters]
        loss = data.losses(_logits(x_ABD, parameters), targets, known_AC).sum()
        self._adam.step(parameters, torch.autograd.grad(loss, parameters))

    @torch.no_grad()
    def look(self, data: _Data, config: ProbeConfig) -> None:
        """Compare every run's validation loss with its best; runs without a better one for too long stop."""
        losses = self._valid_losses(data)
        better = losses < self.best_losses[self.runs] - config.min_improvement
        improved = self.runs[better]
        self.best_losses[improved] = losses[better]
        for best, parameter in zip(self._best, self._parameters, strict=True):
            best[improved] = parameter[better]
        self._stale[self.runs] += 1
        self._stale[improved] = 0
        going = self._stale[self.runs] < config.patience_epochs
        if not bool(going.all()):
            self.runs = self.runs[going]
            self._parameters = [parameter.detach()[going] for parameter in self._parameters]
            self._adam.keep(going)

    def _valid_losses(self, data: _Data) -> Tensor:
        """Return the loss of each of `runs` on its fold's validation part."""
        losses = []
        folds = self.runs // self.num_seeds
        for f in folds.unique().tolist():
            mine = folds == f
            rows = data.folds[f].valid
            targets = data.targets[torch.as_tensor(rows, device=data.device)]
            repeated = targets[None].expand(int(mine.sum()), *targets.shape)
            logits = _fold_logits(data, f, rows, [parameter[mine] for parameter in self._parameters])
            losses.append(data.losses(logits, repeated, data.known[f][None].expand(len(repeated), -1)))
        return torch.cat(losses)

    @torch.no_grad()
    def predict(self, data: _Data, fold: int, rows: np.ndarray) -> np.ndarray:
        """Return each seed's class indices [S, len(rows)] at its best epoch; multi-label: logits [S, len(rows), C]."""
        runs = slice(fold * self.num_seeds, (fold + 1) * self.num_seeds)
        logits = _fold_logits(data, fold, rows, [best[runs] for best in self._best])
        if data.multilabel:
            return logits.cpu().numpy()
        return logits.masked_fill(~data.known[fold], -torch.inf).cpu().numpy().argmax(axis=-1)


def _hidden_start(seed: int, width: int, size: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(width, size, generator=generator) * (2.0 / width) ** 0.5


def _logits(x_ABD: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """Return [A, B, C]; one row of `x_ABD` may serve all runs."""
    *hidden, weight, bias = parameters
    if hidden:
        x_ABD = torch.relu(torch.matmul(x_ABD, hidden[0]) + hidden[1])
    return torch.matmul(x_ABD, weight) + bias


def _fold_logits(data: _Data, fold: int, rows: np.ndarray, parameters: Sequence[Tensor]) -> Tensor:
    """Return logits [S, len(rows), C] of some runs of one fold."""
    parts = [_logits(data.rows(fold, rows[i : i + _ROWS]), parameters) for i in range(0, len(rows), _ROWS)]
    return torch.cat(parts, dim=1)


class _Adam:
    """Adam with decoupled decay (arXiv 1412.6980, 1711.05101), elementwise, so stacked runs do not touch each other."""

    def __init__(self, parameters: Sequence[Tensor], rate: float, weight_decay: float) -> None:
        self._rate, self._decay = rate, weight_decay
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]
        self._count = 0

    @torch.no_grad()
    def step(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Update `parameters` in place."""
        self._count += 1
        bias1, bias2 = (1 - beta**self._count for beta in _BETAS)
        for parameter, mean, square, gradient in zip(parameters, self._means, self._squares, gradients, strict=True):
            parameter.mul_(1 - self._rate * self._decay)
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            parameter.addcdiv_(mean, (square / bias2).sqrt_().add_(_EPSILON), value=-self._rate / bias1)

    def keep(self, going: Tensor) -> None:
        """Forget the state of the runs that stopped."""
        self._means = [mean[going] for mean in self._means]
        self._squares = [square[going] for square in self._squares]


class _Batches:
    """Endless shuffles of every run's training part, cut into batches of one size."""

    def __init__(self, data: _Data, config: ProbeConfig) -> None:
        runs = list(product(data.folds, range(config.seeds)))
        self._trains = [fold.train for fold, _ in runs]
        # keyed by the seed alone: a run's order is the same whichever folds are trained beside it
        self._shuffles = [np.random.default_rng(seed) for _, seed in runs]
        self._queues = [np.array([], dtype=np.int64) for _ in runs]
        self._size = config.batch_size
        largest = max(len(fold.train) for fold in data.folds)
        self.steps_per_epoch = max(_MIN_STEPS_PER_EPOCH, -(-largest // config.batch_size))

    def next_rows(self, runs: Sequence[int]) -> np.ndarray:
        """Return row indices [len(runs), B]; a run sees every clip once before any clip again."""
        for r in runs:
            while len(self._queues[r]) < self._size:
                self._queues[r] = np.concatenate([self._queues[r], self._shuffles[r].permutation(self._trains[r])])
        rows = np.stack([self._queues[r][: self._size] for r in runs])
        for r in runs:
            self._queues[r] = self._queues[r][self._size :]
        return rows


def _fit(groups: Sequence[_Group], data: _Data, config: ProbeConfig) -> None:
    """Train until every run of every learning rate has stopped."""
    batches = _Batches(data, config)
    for _ in range(config.max_epochs):
        training = [group for group in groups if len(group.runs)]
        if not training:
            return
        runs = torch.cat([group.runs for group in training]).unique()
        places = [torch.searchsorted(runs, group.runs) for group in training]
        folds = runs // config.seeds
        for _ in range(batches.steps_per_epoch):
            rows = torch.as_tensor(batches.next_rows(runs.tolist()), device=data.device)
            x_ABD = (data.features[rows] - data.means[folds][:, None]) / data.scales[folds][:, None]
            targets, known_AC = data.targets[rows], data.known[folds]
            for group, place in zip(training, places, strict=True):
                group.step(data, x_ABD[place], targets[place], known_AC[place])
        for group in training:
            group.look(data, config)


def _judge(groups: Sequence[_Group], data: _Data, fold: int, config: ProbeConfig) -> ProbeOutcome:
    """Choose the fold's learning rate on its validation part, then predict its test part with it."""
    parts = data.folds[fold]
    score = mean_average_precision if data.multilabel else accuracy
    truth = data.truth[parts.valid]
    scores = [
        float(np.mean([score(truth, guess) for guess in group.predict(data, fold, parts.valid)])) for group in groups
    ]
    losses = [float(group.best_losses.view(-1, config.seeds)[fold].mean()) for group in groups]
    chosen = min(range(len(groups)), key=lambda i: (-round(scores[i], 12), losses[i], groups[i].rate))
    return ProbeOutcome(
        predictions=groups[chosen].predict(data, fold, parts.test),
        learning_rate=groups[chosen].rate,
        valid_scores=tuple(scores),
    )
