"""The order of all batches of a run, and which of them belong to which process.

Reads only durations, which may be memory-mapped arrays of any length: they are summed once, block by block, and from
then on only those of the window at hand are looked at. Guarantees: batch k needs no earlier batch; every source is
shuffled anew each epoch and gives each of its clips once an epoch; shares are met as `mixture.Quotas` says; batches
hold close to the same number of tokens; the order depends neither on processes nor on the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from jaxtyping import Float64, Int64

from uniwhisper.batches.mixture import BatchConfig, Quotas, mixture_weights
from uniwhisper.batches.shuffling import hashed, make_key, permuted, uniform
from uniwhisper.errors import ConfigError

__all__ = ["BatchOrder", "Draw", "for_rank", "rank_numbers"]

_BLOCK = 1 << 20  # durations looked at together while they are summed: 8 MB


@dataclass(frozen=True, kw_only=True, slots=True)
class Draw:
    """One clip of one batch."""

    source: str
    index: int
    """Number of the clip within its source."""
    epoch: int
    """How often the source had been read through before this draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Window:
    """The draws of one window in their order; batch i holds those from `edges[i]` to `edges[i + 1]`."""

    source: Int64[np.ndarray, " draws"]
    index: Int64[np.ndarray, " draws"]
    epoch: Int64[np.ndarray, " draws"]
    edges: Int64[np.ndarray, " batches+1"]


class BatchOrder:
    """The order of all batches of a run; `batch(k)` needs no state and no earlier batch.

    At the border of two windows every source has been drawn its share, give or take one clip (`mixture.Quotas`). Inside
    a window sources are spread evenly: after any draw a source is off by less than 2 clips and its share of twice the
    number of sources. Length buckets (`config.buckets` above 1) give up the second promise and keep the first.
    """

    def __init__(
        self, durations: Mapping[str, Sequence[float] | np.ndarray], *, config: BatchConfig, seed: int
    ) -> None:
        """Prepare the order.

        Args:
            durations: For every source the duration of each clip, in seconds. Arrays are used as they are and never
                copied; sources without clips are left out.
            config: Mixture and batch size.
            seed: Fixes every shuffle.

        Raises:
            ConfigError: A duration is negative or not finite, or the mixture is impossible (see `mixture_weights` and
                `Quotas`).
        """
        self.config = config
        self.seed = seed
        found = {name: np.asarray(values) for name, values in durations.items() if len(values)}
        seconds = {name: _total_s(name, values) for name, values in found.items()}
        by_hours = config.weigh_by == "hours"
        sizes = {name: seconds[name] / 3600 if by_hours else len(values) for name, values in found.items()}
        self.weights = mixture_weights(sizes | {name: 0 for name in durations if name not in found}, config)
        """The share of every source, sources in name order."""
        self._names = list(self.weights)
        self._durations = [found[name] for name in self._names]
        self._sizes = np.array([len(values) for values in self._durations], dtype=np.int64)
        self._keys = np.array([make_key(seed, "source", name) for name in self._names], dtype=np.uint64)
        self._window_key = make_key(seed, "window")
        self._quotas = Quotas(self.weights, config.window)
        mean_s = sum(share * seconds[name] / len(found[name]) for name, share in self.weights.items())
        mean_cost = mean_s * config.tokens_per_s + config.text_tokens
        # Never more batches than draws: a clip that costs more than `tokens` makes a batch of its own.
        self.batches_per_window = min(
            self._quotas.least_draws, max(1, round(config.window * mean_cost / config.tokens))
        )
        self._recent: tuple[tuple[int, _Window], ...] = ()

    def batch(self, number: int) -> list[Draw]:
        """Return the clips of batch `number` (from 0).

        Raises:
            ConfigError: The number is negative.
        """
        if number < 0:
            raise ConfigError(f"expected the number of a batch, 0 or above, found {number}")
        at, offset = divmod(number, self.batches_per_window)
        window = self._window(at)
        part = slice(window.edges[offset], window.edges[offset + 1])
        columns = (window.source[part].tolist(), window.index[part].tolist(), window.epoch[part].tolist())
        return [
            Draw(source=self._names[source], index=index, epoch=epoch)
            for source, index, epoch in zip(*columns, strict=True)
        ]

    def drawn(self, num_batches: int) -> dict[str, int]:
        """Return how many clips of each source the first `num_batches` batches hold, at the price of one batch."""
        full, rest = divmod(num_batches, self.batches_per_window)
        counts = np.array(self._quotas.before(full), dtype=np.int64)
        if rest:
            window = self._window(full)
            counts += np.bincount(window.source[: window.edges[rest]], minlength=len(counts))
        return dict(zip(self._names, counts.tolist(), strict=True))

    def epochs(self, num_batches: int) -> dict[str, float]:
        """Return how often the first `num_batches` batches read each source through; 0.5 is half of its clips."""
        sizes = self._sizes.tolist()
        return {name: count / size for (name, count), size in zip(self.drawn(num_batches).items(), sizes, strict=True)}

    def costs(self, source: str, index: Sequence[int] | np.ndarray) -> Float64[np.ndarray, " clips"]:
        """Return the decoder positions that clips of a source take up, audio and text."""
        return self._costs(self._names.index(source), np.asarray(index, dtype=np.int64))

    def _costs(self, source: int, index: Int64[np.ndarray, " clips"]) -> Float64[np.ndarray, " clips"]:
        seconds = np.asarray(self._durations[source][index], dtype=np.float64)
        return seconds * self.config.tokens_per_s + self.config.text_tokens

    def _window(self, number: int) -> _Window:
        """Return a window; the two asked for last are kept, so that reading on costs nothing."""
        for known, window in self._recent:
            if known == number:
                return window
        window = self._make_window(number)
        self._recent = ((number, window), *self._recent[:1])  # one assignment: threads may share an order
        return window

    def _make_window(self, number: int) -> _Window:
        first, last = (np.array(self._quotas.before(at), dtype=np.int64) for at in (number, number + 1))
        counts = last - first
        ends = np.cumsum(counts)
        source = np.repeat(np.arange(len(counts)), counts)
        rank = np.arange(len(source)) - (ends - counts)[source]
        epoch, position = np.divmod(first[source] + rank, self._sizes[source])
        keys = self._keys[source]
        index = permuted(position, self._sizes[source], hashed(keys, 2 * epoch))
        # Each source is spread evenly over the window, with a jitter of one gap between its draws.
        time = (rank + uniform(hashed(keys, 2 * epoch + 1), position)) / counts[source]
        order = np.argsort(time, kind="stable")
        parts = np.split(index, ends[:-1])
        costs = np.concatenate([self._costs(at, part) for at, part in enumerate(parts)])
        if self.config.buckets > 1:
            order = self._bucketed(order, costs)
        edges = self._edges(costs[order])
        if self.config.buckets > 1:
            order, edges = self._shuffled_batches(order, edges, number)
        return _Window(source=source[order], index=index[order], epoch=epoch[order], edges=edges)

    def _bucketed(
        self, order: Int64[np.ndarray, " draws"], costs: Float64[np.ndarray, " draws"]
    ) -> Int64[np.ndarray, " draws"]:
        """Return `order` with clips of similar cost side by side, still mixed within each bucket."""
        rank = np.empty(len(order), dtype=np.int64)
        rank[np.argsort(costs[order], kind="stable")] = np.arange(len(order))
        bucket = rank * self.config.buckets // len(order)
        return order[np.argsort(bucket, kind="stable")]

    def _edges(self, costs: Float64[np.ndarray, " draws"]) -> Int64[np.ndarray, " batches+1"]:
        """Return where the ordered window is cut into equally costly batches, none of them empty."""
        parts = self.batches_per_window
        ends = np.cumsum(costs)
        cuts = np.searchsorted(ends, ends[-1] * np.arange(1, parts) / parts)
        low = np.arange(1, parts)
        cuts = np.maximum.accumulate(np.maximum(cuts - low, 0)) + low  # strictly increasing even past a huge clip
        return np.concatenate([[0], np.minimum(cuts, len(costs) - parts + low), [len(costs)]])

    def _shuffled_batches(
        self, order: Int64[np.ndarray, " draws"], edges: Int64[np.ndarray, " batches+1"], number: int
    ) -> tuple[Int64[np.ndarray, " draws"], Int64[np.ndarray, " batches+1"]]:
        """Return the window with its batches in random order, which buckets leave sorted by length."""
        key = hashed(self._window_key, number)
        batches = np.argsort(hashed(key, np.arange(len(edges) - 1)), kind="stable")
        lengths = np.diff(edges)[batches]
        parts = [order[edges[i] : edges[i + 1]] for i in batches]
        return np.concatenate(parts), np.concatenate([[0], np.cumsum(lengths)])


def for_rank(step: int, *, rank: int, world_size: int, accumulation: int) -> range:
    """Return the numbers of the batches that one of several processes computes in a step.

    A step consumes `accumulation` batches in all, however many processes share them, so a run sees the same batches in
    the same steps on any number of processes. Where `accumulation` is no multiple of `world_size`, the first ranks
    compute one batch more.

    Args:
        step: Optimiser steps done before.
        rank: Which process this is, from 0.
        world_size: How many there are.
        accumulation: Batches of a step, over all processes.

    Raises:
        ConfigError: A process would get no batch, or there is no such rank.
    """
    if not 0 <= rank < world_size:
        raise ConfigError(f"expected a rank from 0 to {world_size - 1} among {world_size} processes, found {rank}")
    if accumulation < world_size:
        raise ConfigError(
            f"accumulation: expected at least one batch a step for each of {world_size} processes, "
            f"found {accumulation}: raise it, or start fewer processes"
        )
    return range(step * accumulation + rank, (step + 1) * accumulation, world_size)


class _RankNumbers(Sequence[int]):
    """Numbers of one rank's batches over many steps, each computed when it is asked for."""

    def __init__(self, first: range, accumulation: int, places: range) -> None:
        self._first = first
        self._accumulation = accumulation
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, index: int) -> int: ...
    @overload
    def __getitem__(self, index: slice) -> _RankNumbers: ...
    def __getitem__(self, index: int | slice) -> int | _RankNumbers:
        """Return a number, or for a slice a sequence of its numbers."""
        if isinstance(index, slice):
            return _RankNumbers(self._first, self._accumulation, self._places[index])
        step, place = divmod(self._places[index], len(self._first))
        return step * self._accumulation + self._first[place]


def rank_numbers(start_step: int, stop_step: int, *, rank: int, size: int, accumulation: int) -> Sequence[int]:
    """Return the numbers of the batches that one of several processes computes in many steps.

    They are those of `for_rank`, step after step, in a sequence that holds none of them.

    Args:
        start_step: Optimiser steps done before.
        stop_step: Steps done after the last of them.
        rank: Which process this is, from 0.
        size: How many there are.
        accumulation: Batches of a step, over all processes.

    Raises:
        ConfigError: As in `for_rank`.
    """
    first = for_rank(0, rank=rank, world_size=size, accumulation=accumulation)
    return _RankNumbers(first, accumulation, range(start_step * len(first), max(start_step, stop_step) * len(first)))


def _total_s(name: str, durations: np.ndarray) -> float:
    """Return the sum of a source's durations in seconds, rounded to milliseconds so that its order does not matter.

    Raises:
        ConfigError: A duration is negative or not finite.
    """
    total_ms = 0
    for start in range(0, len(durations), _BLOCK):
        block = np.asarray(durations[start : start + _BLOCK], dtype=np.float64)
        good = (block >= 0) & (block < np.inf)
        if not good.all():
            bad = int(np.argmin(good))
            raise ConfigError(
                f"durations of source {name}: expected finite seconds >= 0, found {block[bad]} for clip {start + bad}"
            )
        total_ms += int(np.rint(block * 1000).astype(np.int64).sum())
    return total_ms / 1000
