"""What the steps of a run consist of, before any audio is read: clips, their lengths and their tokens.

Reads durations, or the sizes that publishers state where there is no data yet; writes nothing. A workload is a sample
of the run's own batches, so whatever the batch order does with lengths and shares is in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from uniwhisper.audio import WINDOW_S
from uniwhisper.batches import BatchOrder
from uniwhisper.batches.mixture import BatchConfig
from uniwhisper.errors import ConfigError
from uniwhisper.sources import get_source, list_sources
from uniwhisper.train.config import TrainConfig

__all__ = ["Lengths", "Workload", "published_durations", "run_workload"]

_FRAMES_PER_S = 50
_ANSWER_SHARE = 0.5
"""Share of an example's text tokens that is answer, template included. Transcripts and captions come near it; of labels
it is too much (0.22 in the starter mixture), which makes a step look 3 % dearer and logits twice as large."""
_SAMPLED_BATCHES = 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Lengths:
    """The lengths of one batch."""

    frames: tuple[int, ...]
    """20 ms frames of each clip."""
    text_tokens: tuple[int, ...]
    """Tokens of prompt and answer of each clip, chat template included."""
    num_answer_tokens: int

    def padded(self, window_frames: int) -> Lengths:
        """Return the same batch with every clip padded to `window_frames`."""
        return Lengths(
            frames=(window_frames,) * len(self.frames),
            text_tokens=self.text_tokens,
            num_answer_tokens=self.num_answer_tokens,
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Workload:
    """Batches like those of a run, and how many of them make a step."""

    batches: tuple[Lengths, ...]
    batches_per_step: int

    @property
    def clips_per_step(self) -> float:
        """Return the mean number of clips of a step."""
        return self._per_step(len(batch.frames) for batch in self.batches)

    @property
    def audio_s_per_step(self) -> float:
        """Return the mean seconds of audio of a step."""
        return self.frames_per_step / _FRAMES_PER_S

    @property
    def frames_per_step(self) -> float:
        """Return the mean number of 20 ms encoder frames of a step."""
        return self._per_step(sum(batch.frames) for batch in self.batches)

    @property
    def answer_tokens_per_step(self) -> float:
        """Return the mean number of answer tokens of a step."""
        return self._per_step(batch.num_answer_tokens for batch in self.batches)

    @property
    def text_tokens_per_step(self) -> float:
        """Return the mean number of tokens of prompts and answers of a step."""
        return self._per_step(sum(batch.text_tokens) for batch in self.batches)

    def _per_step(self, values: object) -> float:
        return float(np.mean(list(values))) * self.batches_per_step  # type: ignore[call-overload]


def run_workload(
    config: TrainConfig, durations: Mapping[str, Sequence[float] | np.ndarray], *, order: BatchOrder | None = None
) -> Workload:
    """Return batches spread evenly over the run that `config` makes of clips of these durations.

    Args:
        config: The configuration.
        durations: Seconds of every clip of every source.
        order: The order of the run, where the caller has built it already.

    Raises:
        ConfigError: The mixture is impossible.
    """
    order = order or BatchOrder(durations, config=config.batches, seed=config.seed)
    total = config.optim.steps * config.accumulation
    numbers = sorted({i * total // _SAMPLED_BATCHES for i in range(_SAMPLED_BATCHES)})
    return Workload(
        batches=tuple(_lengths(order, number, durations, config.batches) for number in numbers),
        batches_per_step=config.accumulation,
    )


def _lengths(
    order: BatchOrder, number: int, durations: Mapping[str, Sequence[float] | np.ndarray], config: BatchConfig
) -> Lengths:
    draws = order.batch(number)
    seconds = [min(float(durations[draw.source][draw.index]), WINDOW_S) for draw in draws]
    text = config.text_tokens
    return Lengths(
        frames=tuple(max(1, math.ceil(s * _FRAMES_PER_S)) for s in seconds),
        text_tokens=(max(text, 2),) * len(draws),
        num_answer_tokens=max(1, round(_ANSWER_SHARE * text)) * len(draws),
    )


def published_durations(config: TrainConfig) -> dict[str, np.ndarray]:
    """Return durations of corpora that are not here, from the clips and hours that their publishers state.

    The corpora are those that the mixture names (`batches.weights`), and otherwise the 23 of the paper's table 1. Every
    clip of a corpus gets the corpus's mean, cut into equal pieces where that is more than an encoder sees at once; the
    arrays hold one number each, whatever their length.

    Raises:
        ConfigError: A corpus that the mixture names is unknown here, or states no size.
    """
    named = [name for name, weight in config.batches.weights.items() if weight > 0]
    names = named or [name for name in list_sources() if "training" in get_source(name).SPEC.uses]
    found: dict[str, np.ndarray] = {}
    for name in sorted(names):
        spec = get_source(name).SPEC if name in list_sources() else None
        if spec is None or not (spec.num_clips and spec.hours):
            raise ConfigError(
                f"batches.weights names {name!r}, of which no published size is known: give --data to count its clips"
            )
        mean_s = spec.hours * 3600 / spec.num_clips
        pieces = math.ceil(mean_s / WINDOW_S)
        found[name] = np.broadcast_to(np.float32(mean_s / pieces), (spec.num_clips * pieces,))
    return found
