"""Optimiser and learning rates: one AdamW, a group a part of the network, each with its own rate and schedule.

Three kinds of AdamW: torch's, and two that keep their moments in 8 bits. The trained weights are float32 (what every
step adds to a weight is far below the resolution of bfloat16, see `OptimConfig.weights`). The decoder is in none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniwhisper.errors import ConfigError
from uniwhisper.model.uniwhisper import UniWhisper
from uniwhisper.train.eight_bit import bitsandbytes_adamw, torchao_adamw
from uniwhisper.train.norms import UpdateWatch, clip_gradients, parts_of
from uniwhisper.train.optim_state import init_optimizer_state, optimizer_tensors, restore_optimizer
from uniwhisper.train.sharded import as_sharded

__all__ = [
    "KINDS",
    "SCHEDULES",
    "OptimConfig",
    "UpdateWatch",
    "build_optimizer",
    "clip_gradients",
    "in_their_types",
    "init_optimizer_state",
    "learning_rate",
    "optimizer_tensors",
    "restore_optimizer",
    "set_learning_rates",
    "trainable",
]

KINDS = ("adamw", "adamw8bit", "adamw8bit_ao")
SCHEDULES = ("cosine", "constant", "wsd")


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Kind of AdamW, learning rates, schedule and clipping."""

    kind: str = "adamw"
    """`adamw` (torch's, fused); with moments in 8 bits: `adamw8bit` (bitsandbytes) or `adamw8bit_ao` (torchao, also
    for weights sharded by FSDP2)."""
    weights: str = "fp32"
    """Type of the trained matrices (vectors, a thousandth of the weights, stay float32). `bf16` needs `adamw8bit_ao`,
    which rounds at random: at a rate of 2e-5 a step moves most weights by less than half the distance to the next
    bfloat16 number, and rounding to the nearest undoes it."""
    steps: int = 2000
    """Optimiser steps in all."""
    align_steps: int = 100
    """First steps, in which only the adapter learns. Source: the paper, section 3.2 (1,500 of 30,000)."""
    warmup_steps: int = 50
    """Steps over which a part's rate rises from 0 once that part starts to learn."""
    schedule: str = "cosine"
    """What follows the warm-up: `cosine` down to the end, `constant`, or `wsd`: constant, then linear decay."""
    decay_share: float = 0.1
    """Share of all steps over which `wsd` decays, at the end. Source: MiniCPM, arXiv 2404.06395, section 4.2 (10 %
    of the tokens are enough, 2.5 % are not)."""
    encoder_lr: float = 1e-4
    """Peak rate of the top encoder layer and the subsampler."""
    layer_decay: float = 1.0
    """Factor on the rate from one encoder layer to the one below it; below 1 the lower layers move less."""
    frozen_layers: int = 0
    """Encoder layers, from the input up, that never change (the convolutions go with the first)."""
    adapter_lr: float = 3e-4
    weight_decay: float = 0.01
    """Decoupled, on matrices only. Source: the paper, section 3.2."""
    beta1: float = 0.9
    beta2: float = 0.98
    clip_norm: float = 1.0
    """Largest gradient norm, encoder and adapter each; a noisy adapter then never scales the encoder's step down."""
    min_share: float = 0.0
    """Where cosine and decay end, as a share of the peak rate."""

    def __post_init__(self) -> None:
        for name, choices in (("kind", KINDS), ("weights", ("fp32", "bf16")), ("schedule", SCHEDULES)):
            if getattr(self, name) not in choices:
                raise ConfigError(f"optim.{name}: expected one of {choices}, found {getattr(self, name)!r}")
        if self.weights == "bf16" and self.kind != "adamw8bit_ao":
            raise ConfigError(
                f"optim.weights: bf16 with {self.kind} would lose most updates, because each is smaller than the "
                "distance between two bfloat16 numbers. Use weights=fp32 (matrix products stay in bf16 with "
                "precision=bf16), or kind=adamw8bit_ao, which rounds at random"
            )
        if self.steps < 1 or self.align_steps < 0 or self.warmup_steps < 0:
            raise ConfigError("optim: expected steps >= 1, align_steps >= 0 and warmup_steps >= 0")
        if not 0 < self.layer_decay <= 1 or not 0 <= self.min_share <= 1 or self.clip_norm <= 0:
            raise ConfigError("optim: expected 0 < layer_decay <= 1, 0 <= min_share <= 1 and clip_norm > 0")
        if not 0 < self.decay_share <= 1:
            raise ConfigError(f"optim: expected 0 < decay_share <= 1, found {self.decay_share}")


def learning_rate(peak: float, step: int, start: int, config: OptimConfig) -> float:
    """Return the rate at `step` of a part that learns from step `start`: linear warm-up, then the schedule.

    `cosine` falls from the part's start to the last step. `wsd` decays every part over the same last steps, on a
    straight line to `min_share`.

    Source: warm-up, stable phase and decay after MiniCPM, arXiv 2404.06395, section 4.2, which leaves the form of the
    decay open (any falling function) and takes an exponential; a line reaches the end that is asked for.
    """
    if step < start:
        return 0.0
    warm = min(1.0, (step - start + 1) / (config.warmup_steps + 1))
    return peak * warm * (config.min_share + (1 - config.min_share) * _height(step, start, config))


def _height(step: int, start: int, config: OptimConfig) -> float:
    """Return how much of the way from the end's rate up to the peak the schedule is at, without warm-up."""
    if config.schedule == "constant":
        return 1.0
    if config.schedule == "wsd":
        decay_steps = max(1, round(config.decay_share * config.steps))
        return min(1.0, max(0.0, (config.steps - step) / decay_steps))
    progress = (step - start) / max(1, config.steps - start)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _layer_of(name: str, num_layers: int) -> int:
    """Return the depth of an encoder parameter: 0 for the convolutions, i + 1 for layer i, the top for what follows."""
    if name.startswith("encoder.layers."):
        return int(name.split(".")[2]) + 1
    return 0 if name.startswith("encoder.conv") else num_layers


def trainable(model: UniWhisper, config: OptimConfig) -> None:
    """Freeze the encoder layers that the configuration keeps."""
    num_layers = model.audio.encoder.dims.n_audio_layer
    for name, parameter in model.audio.named_parameters():
        frozen = config.frozen_layers and _layer_of(name, num_layers) <= config.frozen_layers
        if frozen and not name.startswith(("subsampler", "encoder.layer_norm")):
            parameter.requires_grad_(False)


def in_their_types(model: UniWhisper, config: OptimConfig) -> None:
    """Put the trained weights into the type that they are kept in, after closed forms have set them in float32."""
    if config.weights == "bf16":
        for named in parts_of(model).values():
            for _, parameter in named:
                if parameter.ndim > 1:
                    parameter.data = parameter.data.bfloat16()


def build_optimizer(model: UniWhisper, config: OptimConfig) -> torch.optim.Optimizer:
    """Return AdamW over encoder and adapter; vectors (biases, norms) are not decayed, the decoder is not in it.

    The network may be sharded (FSDP2) before, never after: the optimiser holds the parameters that it finds.

    Raises:
        ConfigError: The package of this kind is missing, or it cannot work on the parameters as they are.
    """
    groups = _groups(model, config)
    if config.weights == "bf16" and any(as_sharded(p) is not None for p in model.parameters()):
        raise ConfigError(
            "optim.weights: bf16 cannot be sharded, because FSDP2 wants all weights in one type and vectors stay "
            "float32. Use optim.weights=fp32, or machine.sharding=ddp"
        )
    betas = (config.beta1, config.beta2)
    if config.kind == "adamw8bit":
        return bitsandbytes_adamw(groups, betas)
    if config.kind == "adamw8bit_ao":
        return torchao_adamw(groups, betas, random_rounding=config.weights == "bf16")
    return torch.optim.AdamW(groups, betas=betas, fused=True)


def _groups(model: UniWhisper, config: OptimConfig) -> list[dict[str, object]]:
    num_layers = model.audio.encoder.dims.n_audio_layer
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for part, named in parts_of(model).items():
        for name, parameter in named:
            peak = config.adapter_lr
            if part == "encoder":
                peak = config.encoder_lr * config.layer_decay ** (
                    num_layers - _layer_of(name.removeprefix("audio."), num_layers)
                )
            groups.setdefault((part, peak, parameter.ndim > 1), []).append(parameter)
    return [
        {"params": p, "part": part, "peak": peak, "lr": 0.0, "weight_decay": config.weight_decay if decay else 0.0}
        for (part, peak, decay), p in groups.items()
    ]


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, config: OptimConfig) -> dict[str, float]:
    """Set every group's rate for `step` and return the highest rate of each part."""
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        start = config.align_steps if group["part"] == "encoder" else 0
        rate = learning_rate(group["peak"], step, start, config)
        if isinstance(group["lr"], Tensor):  # torchao's: its compiled step reads the rate from this tensor
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
        rates[group["part"]] = max(rates.get(group["part"], 0.0), rate)
    return rates
