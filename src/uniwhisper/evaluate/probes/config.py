"""What a probe is told and what it answers: the two protocols' settings, and the outcome of one fold.

Everything that a probe score depends on, besides the embeddings and the split plan, is a field here (or in a task's
`XaresSettings`), so that `dataclasses.asdict` of it can be stored beside the score.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from uniwhisper.errors import ConfigError

__all__ = ["FrameOutcome", "ProbeConfig", "ProbeOutcome", "XaresProbeConfig"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeConfig:
    """Protocol `strict`: how a probe is built, trained and chosen."""

    hidden_layers: int = 0
    """0: one linear layer; 1: a ReLU layer before it."""
    hidden_size: int = 512
    """Width of the hidden layer; unused without one."""
    seeds: int = 3
    """Independent trainings: batch order and, with a hidden layer, initial weights."""
    learning_rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """Tried for every fold and seed; each fold keeps the one with the best mean validation score."""
    batch_size: int = 128
    """Clips a step; frame tasks use `frame_batch_clips`."""
    frame_batch_clips: int = 16
    """Clips a step in a frame task: every frame of them is an example."""
    max_epochs: int = 100
    patience_epochs: int = 5
    """A model stops after this many epochs without a better validation loss; its best epoch is kept."""
    min_improvement: float = 1e-3
    """A validation loss (in nats a clip, or a frame) is better when it is lower than the best by this much."""
    weight_decay: float = 0.0
    """AdamW's decoupled decay; 0 is Adam."""

    def __post_init__(self) -> None:
        if self.hidden_layers not in (0, 1):
            raise ConfigError(f"expected hidden_layers 0 or 1, found {self.hidden_layers}")
        positive = (
            *(self.hidden_size, self.seeds, self.batch_size),
            *(self.frame_batch_clips, self.max_epochs, self.patience_epochs),
        )
        if (
            min(positive) < 1
            or not self.learning_rates
            or min(self.learning_rates) <= 0
            or min(self.weight_decay, self.min_improvement) < 0
        ):
            raise ConfigError(f"expected positive sizes, counts and learning rates, found {self}")


@dataclass(frozen=True, kw_only=True, slots=True)
class XaresProbeConfig:
    """Protocol `xares`: LayerNorm and one linear layer; batch size and epochs are the task's `XaresSettings`.

    Source: https://github.com/jimbozhang/xares (v0.1.3, src/xares/task.py and src/xares/trainer.py: Adam,
    `learning_rate` 1e-3, `decay_fraction` 0.1).
    """

    seeds: int = 3
    """X-ARES trains once; several trainings show how far chance carries."""
    learning_rate: float = 1e-3
    """Of the first epoch."""
    final_learning_rate: float = 1e-4
    """Where the cosine ends, one epoch after the last."""

    def __post_init__(self) -> None:
        if self.seeds < 1 or not 0 < self.final_learning_rate <= self.learning_rate:
            raise ConfigError(f"expected a seed and learning rates above 0 that do not rise, found {self}")


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ProbeOutcome:
    """What came of one fold of a task with a label, or labels, a clip: S seeds, T test clips, C classes."""

    predictions: np.ndarray
    """Class indices of the test clips, int64 [S, T]; multi-label: logits, float32 [S, T, C]."""
    scores: np.ndarray | None
    """Log-probabilities, float32 [S, T, C], of a single-label task where they were asked for."""
    learning_rate: float
    """`strict`: the one chosen on the validation part; `xares`: the first epoch's."""
    valid_scores: tuple[float, ...]
    """Mean validation score over seeds, by learning rate; `xares`: one value, of the epochs that were kept."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class FrameOutcome:
    """What came of one fold of a frame task: S seeds, M segments of all test clips in turn, C classes."""

    probabilities: np.ndarray
    """Of every segment and class, float32 [S, M, C]; above 0.5 means heard."""
    truth: np.ndarray
    """0/1, uint8 [M, C]."""
    segments_per_clip: np.ndarray
    """int64 [T] in the order of the fold's test part; sums to M."""
    learning_rate: float
    """`strict`: the one chosen on the validation part; `xares`: the first epoch's."""
    valid_scores: tuple[float, ...]
    """Mean validation segment F1 over seeds, by learning rate; `xares`: one value, of the epochs that were kept."""
