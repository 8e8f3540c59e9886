"""Protocol `xares` as X-ARES runs it, one model at a time with torch's own layers, losses, Adam and autograd."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["Plain", "train_plain"]


class Plain(nn.Module):
    """LayerNorm and one linear layer."""

    def __init__(self, width: int, num_classes: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))


@dataclass(frozen=True)
class Trained:
    """The model at its best epoch, and its score there."""

    model: Plain
    score: float


def train_plain(
    width: int,
    num_classes: int,
    batches: Callable[[], Iterator[tuple[Tensor, Tensor]]],
    score: Callable[[Plain], float],
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    seed: int,
    epochs: int,
    dtype: torch.dtype = torch.float32,
) -> Trained:
    """Train with `batches()` every epoch; keep the first epoch with the best `score`."""
    torch.manual_seed(seed)
    model = Plain(width, num_classes).to(dtype)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    best, kept = -math.inf, {}
    for epoch in range(epochs):
        for group in optimiser.param_groups:
            group["lr"] = 1e-3 + (1e-4 - 1e-3) / 2 * (1 - math.cos(math.pi * epoch / epochs))
        for x, y in batches():
            optimiser.zero_grad()
            loss(model(x), y).backward()
            optimiser.step()
        with torch.inference_mode():
            found = score(model)
        if found > best:
            best, kept = found, {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)
    return Trained(model=model, score=best)


def in_batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield rows in batches, the last one as large as it comes."""
    for i in range(0, len(order), size):
        yield order[i : i + size]
