"""What is computed in closed form before an adapter's first step: the frames' spread, and a linear start.

The linear start is ours, not X-ARES's. It maps stacked frames to the LM's own word embeddings: transcripts are first
laid evenly over their clips, then a ridge regression and the best monotonic alignment under it take turns. Reads the
training part alone.

Shape letters: `P` stacked frames of a clip, `N` tokens of its transcript, `D` width of stacked frames, `Q` decoder
width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from uniwhisper.errors import ConfigError
from uniwhisper.evaluate.asr.adapter import SwigluAdapter
from uniwhisper.evaluate.asr.decoders import FrozenLM
from uniwhisper.evaluate.asr.examples import Utterance, pack

if TYPE_CHECKING:
    from uniwhisper.evaluate.frames import FrameStore

__all__ = ["LinearMap", "Moments", "align", "frame_statistics", "warm_start"]

_ROUNDS = 4
_MOST_CLIPS = 1000
_RIDGE = 10.0
"""Relative to features of unit variance; as in the training's own warm start."""


def frame_statistics(frames: FrameStore, train: Sequence[Utterance]) -> tuple[Float[Tensor, " D"], Float[Tensor, " D"]]:
    """Return mean and standard deviation of every feature over the training frames."""
    total, squares, count = np.zeros(frames.dim), np.zeros(frames.dim), 0
    for utterance in train:
        rows = frames[utterance.row].astype(np.float64)
        total, squares, count = total + rows.sum(axis=0), squares + np.square(rows).sum(axis=0), count + len(rows)
    mean = total / count
    deviation = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    return torch.from_numpy(mean).float(), torch.from_numpy(deviation).float()


@torch.no_grad()
def warm_start(
    adapter: SwigluAdapter, lm: FrozenLM, frames: FrameStore, train: Sequence[Utterance], *, rounds: int = _ROUNDS
) -> float:
    """Set the adapter's linear part from the training clips; returns the share of the embeddings that it explains.

    Args:
        adapter: Standardised, on the CPU.
        lm: Whose embeddings are the targets.
        frames: The stored frames.
        train: Clips that are learnt from; of more than a thousand a thousand are read, evenly spread.
        rounds: Regressions; the first reads transcripts laid evenly over their clips.
    """
    chosen = [train[i] for i in np.unique(np.linspace(0, len(train) - 1, min(len(train), _MOST_CLIPS)).astype(int))]
    table = lm.decoder.embedding.detach().float().cpu()
    centre = torch.cat([table[list(_words(utterance))] for utterance in chosen]).mean(dim=0)
    map_: LinearMap | None = None
    for _ in range(rounds):
        moments = Moments(frames.dim * adapter.reduction, lm.decoder.width)
        for utterance in chosen:
            x = adapter.stack(pack(frames, [utterance], "cpu")).values
            y = table[list(_words(utterance))] - centre
            places = _evenly(len(x), len(y)) if map_ is None else align(map_(x), y)
            moments.add(x, y[places])
        map_ = moments.solve()
    if map_ is None:
        raise ConfigError(f"warm start: expected at least one round, found {rounds}")
    scale = float(table.square().mean().sqrt()) / map_.root_mean_square(centre)
    _set_linear(adapter, map_.weight * scale, (map_.offset + centre) * scale)
    return map_.explained


@dataclass(frozen=True, kw_only=True, slots=True)
class LinearMap:
    """`weight @ x + offset`, and how well it fits."""

    weight: Float[Tensor, "Q D"]
    offset: Float[Tensor, " Q"]
    explained: float
    """Share of the targets' variance."""
    mean: Float[Tensor, " Q"]
    variance: float
    """Mean and variance of its outputs on what it was fitted to; the variance is the outputs' average."""

    def __call__(self, x: Float[Tensor, "P D"]) -> Float[Tensor, "P Q"]:
        """Return the map's outputs."""
        return x @ self.weight.T + self.offset

    def root_mean_square(self, centre: Float[Tensor, " Q"]) -> float:
        """Return the size of the outputs when `centre` is added to them."""
        return float(((self.mean + centre).square().mean() + self.variance).sqrt())


class Moments:
    """Sums from which a ridge regression is solved, so that no more than one clip is in memory."""

    def __init__(self, width: int, decoder_width: int) -> None:
        self._count = 0
        self._x, self._y = torch.zeros(width).double(), torch.zeros(decoder_width).double()
        self._xx, self._xy = torch.zeros(width, width).double(), torch.zeros(width, decoder_width).double()
        self._yy = 0.0

    def add(self, x: Float[Tensor, "P D"], y: Float[Tensor, "P Q"]) -> None:
        """Add rows and their targets."""
        x, y = x.double(), y.double()
        self._count += len(x)
        self._x += x.sum(dim=0)
        self._y += y.sum(dim=0)
        self._xx += x.T @ x
        self._xy += x.T @ y
        self._yy += float(y.square().sum())

    def solve(self) -> LinearMap:
        """Return the ridge solution; the penalty is relative to the features' mean variance."""
        mean_x, mean_y = self._x / self._count, self._y / self._count
        xx = self._xx - self._count * mean_x.outer(mean_x)
        xy = self._xy - self._count * mean_x.outer(mean_y)
        spread = self._yy - self._count * float(mean_y.square().sum())
        penalty = _RIDGE * xx.diagonal().mean() / self._count
        solution = torch.linalg.solve(xx + penalty * torch.eye(len(xx)).double(), xy)
        fitted = float((solution * (xx @ solution)).sum())
        residual = spread - 2 * float((solution * xy).sum()) + fitted
        return LinearMap(
            weight=solution.T.float(),
            offset=(mean_y - solution.T @ mean_x).float(),
            explained=1 - residual / spread if spread > 0 else 0.0,
            mean=mean_y.float(),
            variance=fitted / self._count / len(mean_y),
        )


def align(fitted: Float[Tensor, "P Q"], targets: Float[Tensor, "N Q"]) -> Tensor:
    """Return for every row the token it stands for: every token in order, none left out where there is room.

    The path has the largest sum of cosine similarities. With more tokens than rows some tokens must be left out, and
    the even layout is kept.
    """
    rows, tokens = len(fitted), len(targets)
    if rows < tokens:
        return _evenly(rows, tokens)
    gain = (functional.normalize(fitted, dim=1) @ functional.normalize(targets, dim=1).T).numpy()
    best = np.full((rows, tokens), -np.inf)
    best[0, 0] = gain[0, 0]
    moved = np.zeros((rows, tokens), dtype=bool)
    for row in range(1, rows):
        stay, move = best[row - 1], np.concatenate([[-np.inf], best[row - 1, :-1]])
        moved[row] = move > stay
        best[row] = np.maximum(stay, move) + gain[row]
    places, token = np.zeros(rows, dtype=np.int64), tokens - 1
    for row in range(rows - 1, -1, -1):
        places[row] = token
        token -= int(moved[row, token])
    return torch.from_numpy(places)


def _evenly(rows: int, tokens: int) -> Tensor:
    return torch.arange(rows) * tokens // rows


def _words(utterance: Utterance) -> tuple[int, ...]:
    """Return the transcript's tokens, without separator and end."""
    answer = utterance.turn.answer[:-1]
    return answer if utterance.turn.prompt else answer[1:]


def _set_linear(adapter: SwigluAdapter, weight: Float[Tensor, "Q D"], offset: Float[Tensor, " Q"]) -> None:
    """Let some hidden units pass `weight @ x` on unchanged and silence the others, which keep random inputs.

    A gate whose inputs have no weight is constant, so its unit is linear; the other units learn from zero.
    """
    left, sizes, right = torch.linalg.svd(weight, full_matrices=False)
    rank = min(len(sizes), adapter.proj.in_features)
    root = sizes[:rank].sqrt()
    adapter.fc1.weight[:rank] = 0.0
    adapter.fc1.bias[:rank] = 1.0
    adapter.fc2.weight[:rank] = root[:, None] * right[:rank]
    adapter.fc2.bias[:rank] = 0.0
    adapter.proj.weight.zero_()
    adapter.proj.weight[:, :rank] = left[:, :rank] * root / functional.silu(torch.ones(()))
    adapter.proj.bias.copy_(offset)
