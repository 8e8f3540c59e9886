"""Timed training steps of random networks on random clips: what they took, by the device's own clock.

Reads and writes nothing. What does not run here (a kernel, an optimiser, a size that does not fit) is an answer and no
error, so that a table goes on.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from random_run import RandomFeed, Shape, random_run
from timing import peak_memory_mb
from uniwhisper.batches import BatchConfig
from uniwhisper.errors import ConfigError, UniWhisperError
from uniwhisper.train.batch import Batch
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.gradients import is_out_of_memory
from uniwhisper.train.hardware import find_gpu
from uniwhisper.train.run import Run
from uniwhisper.train.step import train_step
from uniwhisper.train.world import World

__all__ = ["Bench", "Load", "Measured"]

Load = Callable[[Run, RandomFeed, Sequence[int]], Iterator[Batch]]


@dataclass(kw_only=True)
class Measured:
    """What some steps took."""

    seconds: list[float] = field(default_factory=list)
    """Of every timed step."""
    waited_s: float = 0.0
    examples: int = 0
    audio_s: float = 0.0
    flops: float = 0.0
    peak_gb: float = 0.0
    graphs: int = 0
    """Graphs that the compiler built before the first timed step, and during them."""
    late_graphs: int = 0
    pieces: int = 1
    """Pieces that each batch was computed in at the end."""

    @property
    def total_s(self) -> float:
        """Return the seconds of all timed steps."""
        return sum(self.seconds)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """What all measurements share."""

    shape: Shape
    config: TrainConfig
    world: World
    prompt_tokens: int
    answer_tokens: int
    micro_batches: int
    """Batches of a step."""
    warm_up: int
    """Steps before the clock starts."""
    steps: int
    """Steps that count."""
    matmul: float
    """Measured rate of a large matrix product in bfloat16, FLOP/s."""

    def sized(self, config: TrainConfig, mean_s: float, clips: int) -> TrainConfig:
        """Return `config` with micro-batches of `clips` clips of `mean_s` seconds on average."""
        text = self.prompt_tokens + self.answer_tokens
        tokens = round(clips * (mean_s * 25 / config.adapter.reduction + text))
        batches = BatchConfig(tokens=tokens, tokens_per_s=25 / config.adapter.reduction, text_tokens=text)
        return replace(config, batches=batches)

    def measure(self, config: TrainConfig, lengths_s: np.ndarray, load: Load | None = None) -> Measured | str:
        """Return what steps of `config` take, or why they cannot be done here."""
        try:
            return self._measure(config, lengths_s, load or _random_batches)
        except ConfigError as e:
            return (
                "not here: " + str(e).partition(". ")[0].rpartition(": ")[2]
            )  # expected, found: the reason. The advice
        except UniWhisperError as e:
            return "out of memory" if "out of memory" in str(e) else str(e)
        except RuntimeError as e:
            if not is_out_of_memory(e):
                raise
            return "out of memory"
        finally:
            gc.collect()
            if config.execution.compile:
                torch._dynamo.reset()
            if self.world.device.type == "cuda":
                torch.cuda.empty_cache()

    def _measure(self, config: TrainConfig, lengths_s: np.ndarray, load: Load) -> Measured:
        found = Measured()
        torch._dynamo.utils.counters.clear()
        tokens = {"prompt_tokens": self.prompt_tokens, "answer_tokens": self.answer_tokens}
        run, feed = random_run(self.shape, config, lengths_s, self.world, **tokens)
        clock = _Clock(self.world.device)
        steps, size = self.warm_up + self.steps, self.micro_batches
        with closing(load(run, feed, range(steps * size))) as batches:  # type: ignore[type-var]
            for number in range(steps):
                if number == self.warm_up:
                    found.graphs = _graphs()
                    clock.start()
                began = time.perf_counter()
                group = [next(batches) for _ in range(size)]
                waited_s = time.perf_counter() - began
                train_step(run, group, waited_s=waited_s)
                run.step += 1
                if number >= self.warm_up:
                    clock.mark()
                    found.waited_s += waited_s
                    found.examples += sum(len(batch.turns) for batch in group)
                    found.audio_s += sum(batch.audio_s for batch in group)
                    found.flops += sum(run.flops.of([m.shape[1] for m in b.mels], b.turns) for b in group)
        found.seconds, found.peak_gb = clock.seconds(), clock.peak_gb()
        found.late_graphs, found.pieces = _graphs() - found.graphs, run.pieces
        return found

    def shares(self, found: Measured) -> list[str]:
        """Return TFLOP/s and its shares of the measured product and of the data sheet."""
        rate, known = found.flops / found.total_s, self.known_rate
        return [f"{rate / 1e12:.3g}", f"{rate / self.matmul:.0%}", f"{rate / known:.0%}" if known else "-"]

    @property
    def known_rate(self) -> float | None:
        """Return the data sheet's rate, where the GPU is known."""
        if self.world.device.type != "cuda":
            return None
        known = find_gpu(torch.cuda.get_device_name(self.world.device))
        return known.bf16_flops if known else None


class _Clock:
    """Seconds of each step and the peak of memory since `start`, by the device's own clock."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._marks: list[Any] = []

    def start(self) -> None:
        """Begin: everything before is done, and forgotten."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        self.mark()

    def mark(self) -> None:
        """Note the moment at which the device has come this far; the host does not wait for it."""
        if self._device.type == "cuda":
            event = torch.cuda.Event(enable_timing=True)
            event.record(torch.cuda.current_stream(self._device))
            self._marks.append(event)
        else:
            self._marks.append(time.perf_counter())

    def seconds(self) -> list[float]:
        """Return the time between each mark and the next."""
        pairs = list(zip(self._marks, self._marks[1:], strict=False))
        if self._device.type != "cuda":
            return [after - before for before, after in pairs]
        torch.cuda.synchronize(self._device)
        return [before.elapsed_time(after) / 1000 for before, after in pairs]

    def peak_gb(self) -> float:
        """Return the most memory that tensors took up (on a CPU: the process, ever)."""
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 1e9
        return peak_memory_mb() / 1000


def _graphs() -> int:
    """Return how many graphs torch.compile has built in this process since it was last reset."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


def _random_batches(run: Run, feed: RandomFeed, numbers: Sequence[int]) -> Iterator[Batch]:
    return feed.load(numbers, run.config, run.world.device)
