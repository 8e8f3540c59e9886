"""What a run costs, before anything is fetched: operations, memory, and hours on hardware that need not be here.

Reads sizes and lengths; writes nothing. Operations are exact up to the lengths of texts. Hours assume a share of the
peak rate, which is stated beside them: on a CPU it was measured (benchmarks/bench_estimate.py), on GPUs it is a goal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from uniwhisper.batches import BatchOrder
from uniwhisper.model.dims import EncoderDims
from uniwhisper.model.flops import LmDims, StepFlops, adapter_positions, encoder_flops
from uniwhisper.model.sizes import find_encoder_dims, find_lm_dims
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.memory import Memory, Parameters, count_parameters, step_memory
from uniwhisper.train.workload import Lengths, Workload, run_workload

__all__ = ["CPU_SHARE", "GPU_SHARE", "Estimate", "estimate"]

GPU_SHARE = 0.5
"""Share of the datasheet's rate that hours on GPUs assume. A goal and no measurement; the paper's run reached 0.31,
padding counted as work (30,000 steps of 256 windows in 24 h on eight A800)."""

CPU_SHARE = 0.52
"""Share of the measured rate of large matrix products that a training step reaches on a CPU.
Source: benchmarks/bench_estimate.py."""

_LIBRARIES_BYTES = 0.3e9
"""What a process of `uniwhisper train` occupies before its first network. Source: benchmarks/bench_estimate.py."""

_LOADING_BYTES = {"bf16": 8.6, "fp32": 6.6}
"""What loading takes for each weight of the LM: float32, its bfloat16 copy, and the joined matrices of the fast path.
The C library keeps what is freed (`allocator.py`) apart from what the threads that compute batches ask for.
Source: resident memory after loading SmolLM2-135M."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The costs of one run."""

    config: TrainConfig
    encoder: EncoderDims
    lm: LmDims
    workload: Workload

    @property
    def flops(self) -> StepFlops:
        """Return the counter of operations; the chat template's opening is among the text tokens."""
        return StepFlops(self.encoder, self.config.adapter, self.lm, frozen_layers=self.config.optim.frozen_layers)

    @property
    def parameters(self) -> Parameters:
        """Return the numbers of weights."""
        return count_parameters(
            self.encoder, self.config.adapter, self.lm, frozen_layers=self.config.optim.frozen_layers
        )

    @property
    def positions_per_step(self) -> float:
        """Return the mean number of decoder positions of a step, audio and text."""
        sums = [
            sum(adapter_positions(count, self.config.adapter) for count in batch.frames) + sum(batch.text_tokens)
            for batch in self.workload.batches
        ]
        return float(np.mean(sums)) * self.workload.batches_per_step

    @cached_property
    def step_flops(self) -> float:
        """Return the operations of a step in which the encoder learns."""
        return self._mean(lambda batch: batch)

    @cached_property
    def alignment_step_flops(self) -> float:
        """Return the operations of a step in which only the adapter learns."""
        return self._mean(lambda batch: batch, audio_frozen=True)

    @cached_property
    def padded_step_flops(self) -> float:
        """Return what a step would cost with every clip padded to the encoder's window."""
        return self._mean(lambda batch: batch.padded(self.encoder.n_audio_ctx))

    @property
    def run_flops(self) -> float:
        """Return the operations of the whole run, closed-form start and finish included."""
        aligned = min(self.config.optim.align_steps, self.config.optim.steps)
        return (
            aligned * self.alignment_step_flops
            + (self.config.optim.steps - aligned) * self.step_flops
            + self._closed_forms
        )

    @property
    def padded_run_flops(self) -> float:
        """Return what the steps would cost with every clip padded to the encoder's window, all of them trained."""
        return self.config.optim.steps * self.padded_step_flops

    @property
    def _closed_forms(self) -> float:
        config = self.config
        clips = config.start.clips + (config.finish.clips if config.finish.calibration != "none" else 0)
        frames = [count for batch in self.workload.batches for count in batch.frames]
        return clips * encoder_flops(self.encoder, frames, frozen=True) / len(frames)

    def _mean(self, change: Callable[[Lengths], Lengths], *, audio_frozen: bool = False) -> float:
        counts = []
        for batch in map(change, self.workload.batches):
            counts.append(
                self.flops.of_lengths(
                    batch.frames, batch.text_tokens, batch.num_answer_tokens, audio_frozen=audio_frozen
                )
            )
        return float(np.mean(counts)) * self.workload.batches_per_step

    def memory(self, device: str) -> Memory:
        """Return the memory of a step on one `cpu` or `cuda` device, for the largest batch of the sample."""
        found = [
            step_memory(self.config, self.encoder, self.lm, batch, device=device) for batch in self.workload.batches
        ]
        return max(found, key=Memory.peak)

    @property
    def process_bytes(self) -> float:
        """Return the largest resident memory of the run's process on a CPU, without stored audio."""
        memory = self.memory("cpu")
        loading = self.parameters.decoder * _LOADING_BYTES[self.config.precision]
        return _LIBRARIES_BYTES + memory.peak() - memory.decoder + loading

    def step_s(self, rate: float, *, share: float, devices: int = 1) -> float:
        """Return the seconds of a step on `devices` devices of `rate` FLOP/s each that reach `share` of it."""
        return self.step_flops / (rate * share * devices)

    def hours(self, rate: float, *, share: float, devices: int = 1) -> float:
        """Return the hours of the run on `devices` devices of `rate` FLOP/s each that reach `share` of it."""
        return self.run_flops / (rate * share * devices) / 3600


def estimate(
    config: TrainConfig, durations: Mapping[str, Sequence[float] | np.ndarray], *, order: BatchOrder | None = None
) -> Estimate:
    """Return what training `config` on clips of these durations costs; nothing is fetched.

    Args:
        config: The configuration.
        durations: Seconds of every clip of every source: `training_data(...).durations`, or `published_durations`.
        order: The order of the run's batches, where the caller has built it already.

    Raises:
        WeightsError: The sizes of the encoder or the LM are not known here.
        ConfigError: The mixture is impossible.
    """
    return Estimate(
        config=config,
        encoder=find_encoder_dims(config.encoder),
        lm=find_lm_dims(config.decoder),
        workload=run_workload(config, durations, order=order),
    )
