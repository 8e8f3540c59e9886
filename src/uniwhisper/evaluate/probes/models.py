"""Models that train side by side: their products, their losses' gradients and their Adam steps, without autograd.

The gradients are written out because every model here is one or two linear layers: half of the work of a training step
would otherwise be bookkeeping. Tests hold them equal to autograd's.

Shape letters: P models, A rows of batches that they learn from, B examples, D embedding width, H hidden, C classes,
K outputs of a layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby

import torch
from torch import Tensor
from torch.optim.adam import adam

from uniwhisper.evaluate.probes.config import ProbeConfig

__all__ = ["EarlyStack", "StackedAdam", "bce_residuals", "cross_entropy_residuals", "forward", "gradients", "start"]

BETAS = (0.9, 0.999)
EPSILON = 1e-8
"""Source: torch.optim.Adam's defaults, which X-ARES keeps."""


def start(
    seeds: Sequence[int], width: int, num_classes: int, *, hidden_size: int = 0, device: str = "cpu"
) -> list[Tensor]:
    """Return first parameters of one model a seed: weights [P, K, D] and biases [P, K] of every layer.

    The output layer starts at zero, so without a hidden layer the start depends on nothing; hidden weights are drawn
    with variance 2 / D (arXiv 1502.01852, for ReLU).
    """
    parameters = []
    if hidden_size:
        scale = (2.0 / width) ** 0.5
        drawn = [torch.randn(hidden_size, width, generator=torch.Generator().manual_seed(s)) * scale for s in seeds]
        parameters += [torch.stack(drawn).to(device), torch.zeros(len(seeds), hidden_size, device=device)]
        width = hidden_size
    weights = torch.zeros(len(seeds), num_classes, width, device=device)
    return [*parameters, weights, torch.zeros(len(seeds), num_classes, device=device)]


def forward(parameters: Sequence[Tensor], x_ABD: Tensor, place: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return logits [P, B, C] and the hidden layer's values [P, B, H], if any; model p reads row `place[p]`."""
    *hidden, weights, biases = parameters
    if not hidden:
        return _product(x_ABD, weights, place) + biases[:, None], None
    h_PBH = torch.relu(_product(x_ABD, hidden[0], place) + hidden[1][:, None])
    return torch.baddbmm(biases[:, None], h_PBH, weights.transpose(1, 2)), h_PBH


def gradients(
    parameters: Sequence[Tensor], x_ABD: Tensor, place: Tensor, residuals_PBC: Tensor, h_PBH: Tensor | None
) -> list[Tensor]:
    """Return the loss's gradient for every parameter, given its gradient for the logits.

    Args:
        parameters: As `start` returns them.
        x_ABD: Batches.
        place: Which batch each model reads.
        residuals_PBC: Gradient of the loss for the logits.
        h_PBH: The hidden layer's values, as `forward` returned them.
    """
    if h_PBH is None:
        return [_outer(residuals_PBC, x_ABD, place), residuals_PBC.sum(dim=1)]
    back_PBH = torch.bmm(residuals_PBC, parameters[-2]).mul_(h_PBH > 0)
    return [
        _outer(back_PBH, x_ABD, place),
        back_PBH.sum(dim=1),
        torch.bmm(residuals_PBC.transpose(1, 2), h_PBH),
        residuals_PBC.sum(dim=1),
    ]


def _product(x_ABD: Tensor, weights_PKD: Tensor, place: Tensor) -> Tensor:
    """Return x W^T [P, B, K]; models that read the same batch share one product."""
    if len(x_ABD) == 1:
        flat = x_ABD[0] @ weights_PKD.flatten(0, 1).T
        return flat.view(len(flat), *weights_PKD.shape[:2]).transpose(0, 1)
    return torch.bmm(x_ABD[place], weights_PKD.transpose(1, 2))


def _outer(residuals_PBK: Tensor, x_ABD: Tensor, place: Tensor) -> Tensor:
    """Return r^T x [P, K, D]."""
    if len(x_ABD) == 1:
        flat = residuals_PBK.transpose(1, 2).flatten(0, 1) @ x_ABD[0]
        return flat.view(len(residuals_PBK), residuals_PBK.shape[2], -1)
    return torch.bmm(residuals_PBK.transpose(1, 2), x_ABD[place])


def cross_entropy_residuals(logits_PBC: Tensor, targets_PB: Tensor) -> Tensor:
    """Return the gradient of every example's cross-entropy for its logits: softmax minus the target."""
    residuals = torch.softmax(logits_PBC, dim=-1)
    return residuals.scatter_add_(-1, targets_PB[..., None], -torch.ones_like(residuals[..., :1]))


def bce_residuals(logits_PBC: Tensor, targets_PBC: Tensor) -> Tensor:
    """Return the gradient of every binary cross-entropy for its logit: sigmoid minus the target."""
    return torch.sigmoid(logits_PBC).sub_(targets_PBC)


class StackedAdam:
    """Adam with decoupled decay (arXiv 1412.6980, 1711.05101) for stacked models: elementwise, so none touches another.

    Models of one learning rate stand next to each other; `rates` may be changed between steps.
    """

    def __init__(self, parameters: Sequence[Tensor], rates: Sequence[float], *, weight_decay: float = 0.0) -> None:
        self.rates = list(rates)
        self._decay = weight_decay
        self._count = 0
        self._means = [torch.zeros_like(parameter) for parameter in parameters]
        self._squares = [torch.zeros_like(parameter) for parameter in parameters]

    def step(self, parameters: Sequence[Tensor], gradients: Sequence[Tensor]) -> None:
        """Update `parameters` in place."""
        first = 0
        for rate, group in groupby(self.rates):
            part = slice(first, first := first + len(list(group)))
            # the kernel counts the step itself, on the device
            counts = [torch.tensor(float(self._count), device=parameter.device) for parameter in parameters]
            adam(
                [parameter[part] for parameter in parameters],
                [gradient[part].contiguous() for gradient in gradients],
                [mean[part] for mean in self._means],
                [square[part] for square in self._squares],
                [],
                counts,
                fused=True,
                decoupled_weight_decay=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=rate,
                weight_decay=self._decay,
                eps=EPSILON,
                maximize=False,
            )
        self._count += 1

    def keep(self, going: Tensor) -> None:
        """Forget the models that stopped; `going` is a mask [P]."""
        self._means = [mean[going] for mean in self._means]
        self._squares = [square[going] for square in self._squares]
        self.rates = [rate for rate, on in zip(self.rates, going.tolist(), strict=True) if on]


class EarlyStack:
    """Models of several runs at several learning rates that train until each stops, and their best epochs so far.

    Model `i * runs + r` is run r at learning rate i.
    """

    def __init__(self, seeds: Sequence[int], width: int, num_classes: int, *, config: ProbeConfig, device: str) -> None:
        """Start one model for every run (given by its seed) and learning rate."""
        self.num_runs, num_rates = len(seeds), len(config.learning_rates)
        self._patience, self._min_improvement = config.patience_epochs, config.min_improvement
        hidden_size = config.hidden_size if config.hidden_layers else 0
        everyone = [*seeds] * num_rates
        self.parameters = start(everyone, width, num_classes, hidden_size=hidden_size, device=device)
        """Of the models that still train."""
        self.models = torch.arange(len(everyone))
        """Those that still train, ascending."""
        rates = [rate for rate in config.learning_rates for _ in seeds]
        self._adam = StackedAdam(self.parameters, rates, weight_decay=config.weight_decay)
        self._best = [parameter.clone() for parameter in self.parameters]
        self._best_losses = torch.full((len(everyone),), torch.inf, dtype=torch.float64)
        self._stale = torch.zeros(len(everyone), dtype=torch.int64)

    def runs(self) -> tuple[Tensor, Tensor]:
        """Return the runs with a model that still trains, and the place of every such model's run among them."""
        return (self.models % self.num_runs).unique(return_inverse=True)

    def step(self, x_ABD: Tensor, place: Tensor, residuals_of: Callable[[Tensor], Tensor]) -> None:
        """Take one step of every model that still trains.

        Args:
            x_ABD: A batch for every run that still trains.
            place: Which of them each model reads.
            residuals_of: Returns the loss's gradient for the logits [P, B, C].
        """
        found, hidden = forward(self.parameters, x_ABD, place)
        self._adam.step(self.parameters, gradients(self.parameters, x_ABD, place, residuals_of(found), hidden))

    def of_run(self, run: int) -> tuple[Tensor, list[Tensor]]:
        """Return a mask of the run's models among those that still train, and their parameters."""
        mine = self.models % self.num_runs == run
        return mine, [parameter[mine] for parameter in self.parameters]

    def look(self, losses: Tensor) -> None:
        """Compare validation losses, float64 [P], with the best; models without a better one for too long stop."""
        better = losses < self._best_losses[self.models] - self._min_improvement
        improved = self.models[better]
        self._best_losses[improved] = losses[better]
        for best, parameter in zip(self._best, self.parameters, strict=True):
            best[improved] = parameter[better]
        self._stale[self.models] += 1
        self._stale[improved] = 0
        going = self._stale[self.models] < self._patience
        if not bool(going.all()):
            self.models = self.models[going]
            self.parameters = [parameter[going] for parameter in self.parameters]
            self._adam.keep(going)

    def best_of_run(self, run: int) -> tuple[list[Tensor], list[float]]:
        """Return the run's parameters [R, ...] at their best epochs and the losses there, by learning rate."""
        return [best[run :: self.num_runs] for best in self._best], self._best_losses[run :: self.num_runs].tolist()
