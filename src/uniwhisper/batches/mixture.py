"""How often each source is drawn: shares from sizes, and quotas that meet them exactly.

Reads only the sizes of the sources. Guarantees: after any number of windows every source was drawn its share of the
draws, rounded up or down: luck has no part in it, and a source that comes once in a thousand windows is no exception.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from uniwhisper.errors import ConfigError

__all__ = ["BatchConfig", "Quotas", "WeighBy", "mixture_weights"]

WeighBy = Literal["clips", "hours"]

_GRID_BITS = 36
_GRID = 1 << _GRID_BITS
"""Shares are multiples of 1 / _GRID, 1.5e-11: quotas are then whole-number arithmetic, the same on every machine, and
in a billion draws the rounding moves no source by more than a hundredth of a clip."""


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
    """Draws that are shuffled and cut together; shares are met at every border between windows."""
    buckets: int = 1
    """Length buckets in a window. Packed batches waste nothing on mixed lengths, so 1 keeps batches diverse."""
    temperature: float = 1.0
    """Sources are weighted by size ** temperature: 1 draws every clip equally often, 0 every source."""
    weigh_by: WeighBy = "clips"
    """What the size of a source is: its clips or its hours."""
    weights: dict[str, float] = field(default_factory=dict)
    """Factor on a source's weight, 1 where not named; 0 leaves the source out."""

    def __post_init__(self) -> None:
        if min(self.tokens, self.window, self.buckets) < 1 or self.tokens_per_s <= 0 or self.text_tokens < 0:
            raise ConfigError("batches: expected tokens, window, buckets >= 1 and tokens_per_s > 0")
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"batches.temperature: expected a finite number >= 0, found {self.temperature}")
        if self.weigh_by not in get_args(WeighBy):
            raise ConfigError(f"batches.weigh_by: expected one of {get_args(WeighBy)}, found {self.weigh_by!r}")
        if not all(0 <= weight < math.inf for weight in self.weights.values()):
            raise ConfigError(f"batches.weights: expected finite factors >= 0, found {self.weights}")


def mixture_weights(sizes: Mapping[str, float], config: BatchConfig) -> dict[str, float]:
    """Return the share of every source that is drawn, summing to 1, sources in name order.

    Args:
        sizes: Clips or hours of every source, as `config.weigh_by` says.
        config: Temperature and factors.

    Raises:
        ConfigError: A weight names an unknown source, a share is too small to ever count, or nothing is left to draw
            from.
    """
    unknown = sorted(config.weights.keys() - sizes.keys())
    if unknown:
        raise ConfigError(f"batches.weights names {unknown}; the sources are {sorted(sizes)}")
    largest = max(sizes.values(), default=0)
    raw = {
        name: (sizes[name] / largest) ** config.temperature * config.weights.get(name, 1.0)
        for name in sorted(sizes)
        if sizes[name] > 0 and config.weights.get(name, 1.0) > 0
    }
    total = sum(raw.values())
    if total <= 0:
        raise ConfigError("the mixture is empty: no source has clips and a weight above 0")
    units = {name: round(value / total * _GRID) for name, value in raw.items()}
    lost = [name for name, count in units.items() if count == 0]
    if lost:
        raise ConfigError(f"sources {lost} have a share below {1 / _GRID:.1e}: raise their weights, or set them to 0")
    units[max(units, key=units.__getitem__)] += _GRID - sum(units.values())
    return {name: count / _GRID for name, count in units.items()}


class Quotas:
    """How many clips of each source come before window k, in closed form.

    By then a source is due `k * window * share` times. One that is due at least once a window is rounded up or down,
    whichever makes k windows hold `k * window` draws; a rarer one is rounded by a fixed threshold, so that its count
    never goes back. No source is ever off by more than one clip. With at most one rare source every window holds
    exactly `window` draws; with more, what their rounding adds up to may be more than the others can make up for, and
    then k windows hold up to `num_rare - 1` draws more or fewer than `k * window`.
    """

    def __init__(self, weights: Mapping[str, float], window: int) -> None:
        """Prepare the quotas of a mixture.

        Args:
            weights: Shares, as `mixture_weights` returns them.
            window: Draws in a window.

        Raises:
            ConfigError: The window is too short for so many sources.
        """
        self._window = window
        self._units = [round(share * _GRID) for share in weights.values()]
        rare = [i for i, units in enumerate(self._units) if units * window < _GRID]
        self._often = [i for i in range(len(self._units)) if i not in rare]
        # Evenly spread thresholds: rare sources of equal share take turns instead of coming all in one window.
        ranks = {i: rank for rank, i in enumerate(sorted(rare, key=lambda i: self._units[i]))}
        self._thresholds = [
            (2 * ranks[i] + 1) * _GRID // (2 * len(rare)) if i in ranks else 0 for i in range(len(self._units))
        ]
        self.num_rare = len(rare)
        """Sources that are due less than once a window."""
        self.least_draws = window - 2 * max(0, self.num_rare - 1)
        """Draws that every window holds at least."""
        if self.least_draws < 1:
            raise ConfigError(
                f"batches.window: expected more than {window - self.least_draws}, found {window}, in which "
                f"{self.num_rare} of the {len(weights)} sources are due less than once: raise it, or leave sources out"
            )

    def before(self, window: int) -> list[int]:
        """Return the draws of each source before `window`, in the order of the weights."""
        due = [window * self._window * units for units in self._units]
        counts = [(value + threshold) >> _GRID_BITS for value, threshold in zip(due, self._thresholds, strict=True)]
        missing = window * self._window - sum(counts)
        by_remainder = sorted(self._often, key=lambda i: (-(due[i] % _GRID), i))
        for i in by_remainder[: max(0, missing)]:
            counts[i] += 1
        return counts
