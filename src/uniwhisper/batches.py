"""Which clips make up which batch: a pure function of (configuration, seed, batch number).

Reads only the sizes and durations of the sources. Guarantees: mixture weights are met by quota (never off by more than
one clip a source), every source is shuffled anew each epoch, every batch holds close to the same number of tokens,
and batch k can be asked for directly, so a resumed run continues exactly where it stopped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int

from uniwhisper.errors import ConfigError

__all__ = ["BatchConfig", "BatchOrder", "Draw", "mixture_weights"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchConfig:
    """How clips are drawn and cut into batches."""

    tokens: int = 1200
    """Decoder positions in a batch, text and audio together; the number of clips follows from it."""
    tokens_per_s: float = 25.0
    """Decoder positions of one second of audio: 25 at 40 ms a frame."""
    text_tokens: int = 40
    """Decoder positions of prompt and answer, typically; only used to fill batches evenly."""
    window: int = 1024
    """Draws that are shuffled and cut together; weights are met exactly within each window."""
    buckets: int = 1
    """Length buckets in a window. Packed batches waste nothing on mixed lengths, so 1 keeps batches diverse."""
    temperature: float = 1.0
    """Sources are weighted by (number of clips) ** temperature where `weights` does not name them."""
    weights: dict[str, float] = field(default_factory=dict)
    """Factor on a source's weight; 0 leaves the source out."""

    def __post_init__(self) -> None:
        if min(self.tokens, self.window, self.buckets) < 1 or self.tokens_per_s <= 0 or self.text_tokens < 0:
            raise ConfigError("batches: expected tokens, window, buckets >= 1 and tokens_per_s > 0")
        if any(weight < 0 for weight in self.weights.values()):
            raise ConfigError(f"batches.weights: expected factors >= 0, found {self.weights}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One clip of one batch."""

    source: str
    index: int
    """Number of the clip within its source."""
    epoch: int
    """How often the source had been read through before this draw."""


def mixture_weights(sizes: Mapping[str, int], config: BatchConfig) -> dict[str, float]:
    """Return the share of every source, summing to 1, sources in name order.

    Raises:
        ConfigError: A weight names an unknown source, or nothing is left to draw from.
    """
    unknown = sorted(config.weights.keys() - sizes.keys())
    if unknown:
        raise ConfigError(f"batches.weights names {unknown}; the sources are {sorted(sizes)}")
    raw = {name: sizes[name] ** config.temperature * config.weights.get(name, 1.0) for name in sorted(sizes)}
    total = sum(raw.values())
    if total <= 0:
        raise ConfigError("the mixture is empty: no source has clips and a weight above 0")
    return {name: value / total for name, value in raw.items() if value > 0}


class BatchOrder:
    """The order of all batches of a run; `batch(k)` needs no state and no earlier batch."""

    def __init__(self, durations: Mapping[str, Sequence[float]], *, config: BatchConfig, seed: int) -> None:
        """Prepare the order.

        Args:
            durations: For every source the duration of each clip, in seconds.
            config: Mixture and batch size.
            seed: Fixes every shuffle.

        Raises:
            ConfigError: A source's share is below two clips a window, so no quota could be met.
        """
        self.config = config
        self.seed = seed
        self.costs: dict[str, Float[np.ndarray, " n"]] = {
            name: np.asarray(values, dtype=np.float64) * config.tokens_per_s + config.text_tokens
            for name, values in durations.items()
            if len(values)
        }
        self.weights = mixture_weights({name: len(costs) for name, costs in self.costs.items()}, config)
        self._names = list(self.weights)
        self._bounds = np.cumsum([0.0, *self.weights.values()])
        small = [name for name, weight in self.weights.items() if weight * config.window < 2]
        if small:
            raise ConfigError(
                f"sources {small} are drawn less than twice in a window of {config.window}: "
                "raise batches.window or their weight"
            )
        mean_cost = sum(self.weights[name] * float(self.costs[name].mean()) for name in self._names)
        # Never more batches than draws: a clip that costs more than `tokens` makes a batch of its own.
        self.batches_per_window = min(config.window, max(1, round(config.window * mean_cost / config.tokens)))
        self._window = lru_cache(maxsize=2)(self._make_window)
        self._permutations: dict[tuple[str, int], np.ndarray] = {}

    def batch(self, number: int) -> list[Draw]:
        """Return the clips of batch `number` (from 0)."""
        window, offset = divmod(number, self.batches_per_window)
        return self._window(window)[offset]

    def drawn(self, num_batches: int) -> dict[str, int]:
        """Return how many clips of each source the first `num_batches` batches hold."""
        full, rest = divmod(num_batches, self.batches_per_window)
        counts = dict(zip(self._names, self._counts_before(full).tolist(), strict=True))
        for number in range(full * self.batches_per_window, full * self.batches_per_window + rest):
            for draw in self.batch(number):
                counts[draw.source] += 1
        return counts

    def _counts_before(self, window: int) -> Int[np.ndarray, " sources"]:
        """Return the draws of each source before `window`: rounded cumulative shares, so errors never add up."""
        edges = np.floor(window * self.config.window * self._bounds + 0.5).astype(np.int64)
        return np.diff(edges)

    def _make_window(self, window: int) -> list[list[Draw]]:
        before, after = self._counts_before(window), self._counts_before(window + 1)
        draws: list[Draw] = []
        for name, first, last in zip(self._names, before.tolist(), after.tolist(), strict=True):
            size = len(self.costs[name])
            for number in range(first, last):
                epoch, position = divmod(number, size)
                draws.append(Draw(source=name, index=int(self._permutation(name, epoch)[position]), epoch=epoch))
        rng = self._rng("window", window)
        order = rng.permutation(len(draws))
        costs = np.array([self.costs[draw.source][draw.index] for draw in draws])
        if self.config.buckets > 1:
            order = self._bucketed(order, costs)
        cuts = self._cuts(costs[order])
        batches = [[draws[i] for i in part] for part in np.split(order, cuts)]
        return [batches[i] for i in rng.permutation(len(batches))]

    def _bucketed(self, order: np.ndarray, costs: np.ndarray) -> np.ndarray:
        """Return `order` with clips of similar cost side by side, still shuffled within each bucket."""
        rank = np.empty(len(order), dtype=np.int64)
        rank[np.argsort(costs[order], kind="stable")] = np.arange(len(order))
        bucket = rank * self.config.buckets // len(order)
        return order[np.argsort(bucket, kind="stable")]

    def _cuts(self, costs: np.ndarray) -> np.ndarray:
        """Return where to cut the ordered window into equally costly batches, none of them empty."""
        parts = self.batches_per_window
        ends = np.cumsum(costs)
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, parts) / parts)
        low = np.arange(1, parts)
        cuts = np.maximum.accumulate(np.maximum(cuts - low, 0)) + low  # strictly increasing even past a huge clip
        return np.minimum(cuts, len(costs) - parts + low)

    def _permutation(self, name: str, epoch: int) -> np.ndarray:
        key = (name, epoch)
        permutation = self._permutations.get(key)
        if permutation is None:
            if len(self._permutations) > 4 * len(self._names):
                self._permutations.clear()
            permutation = self._rng("epoch", self._names.index(name), epoch).permutation(len(self.costs[name]))
            self._permutations[key] = permutation
        return permutation

    def _rng(self, purpose: str, *numbers: int) -> np.random.Generator:
        """Return the generator for one purpose; purposes and numbers never share a stream."""
        return np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, ord(purpose[0]), *numbers])))
