"""Optimiser and learning rates: one AdamW, a group a part of the network, each with its own rate and schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from uniwhisper.errors import ConfigError
from uniwhisper.model.uniwhisper import UniWhisper

__all__ = ["OptimConfig", "build_optimizer", "clip_gradients", "learning_rate", "set_learning_rates", "trainable"]


@dataclass(frozen=True, kw_only=True, slots=True)
class OptimConfig:
    """Learning rates, schedule and clipping."""

    steps: int = 2000
    """Optimiser steps in all."""
    align_steps: int = 100
    """First steps, in which only the adapter learns. Source: the paper, section 3.2 (1,500 of 30,000)."""
    warmup_steps: int = 50
    """Steps over which a part's rate rises from 0 once that part starts to learn."""
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
    """Where the cosine ends, as a share of the peak rate."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.align_steps < 0 or self.warmup_steps < 0:
            raise ConfigError("optim: expected steps >= 1, align_steps >= 0 and warmup_steps >= 0")
        if not 0 < self.layer_decay <= 1 or not 0 <= self.min_share <= 1 or self.clip_norm <= 0:
            raise ConfigError("optim: expected 0 < layer_decay <= 1, 0 <= min_share <= 1 and clip_norm > 0")


def learning_rate(peak: float, step: int, start: int, config: OptimConfig) -> float:
    """Return the rate at `step` of a part that learns from step `start`: linear warm-up, then cosine to the end."""
    if step < start:
        return 0.0
    warm = min(1.0, (step - start + 1) / (config.warmup_steps + 1))
    progress = (step - start) / max(1, config.steps - start)
    cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return peak * warm * (config.min_share + (1 - config.min_share) * cosine)


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


def build_optimizer(model: UniWhisper, config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW over encoder and adapter; vectors (biases, norms) are not decayed, the decoder is not in it."""
    num_layers = model.audio.encoder.dims.n_audio_layer
    groups: dict[tuple[str, float, bool], list[nn.Parameter]] = {}
    for part, module in (("encoder", model.audio), ("adapter", model.adapter)):
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad:
                continue
            depth = _layer_of(name, num_layers) if part == "encoder" else num_layers
            peak = config.adapter_lr if part == "adapter" else config.encoder_lr
            peak *= config.layer_decay ** (num_layers - depth) if part == "encoder" else 1.0
            groups.setdefault((part, peak, parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": p, "part": part, "peak": peak, "lr": 0.0, "weight_decay": config.weight_decay if decay else 0.0}
            for (part, peak, decay), p in groups.items()
        ],
        betas=(config.beta1, config.beta2),
        fused=True,
    )


def set_learning_rates(optimizer: torch.optim.Optimizer, step: int, config: OptimConfig) -> dict[str, float]:
    """Set every group's rate for `step` and return the highest rate of each part."""
    rates: dict[str, float] = {}
    for group in optimizer.param_groups:
        start = config.align_steps if group["part"] == "encoder" else 0
        group["lr"] = learning_rate(group["peak"], step, start, config)
        rates[group["part"]] = max(rates.get(group["part"], 0.0), group["lr"])
    return rates


def clip_gradients(optimizer: torch.optim.Optimizer, clip_norm: float) -> dict[str, float]:
    """Clip the gradients of encoder and adapter separately and return the norms found."""
    parts: dict[str, list[Tensor]] = {}
    for group in optimizer.param_groups:
        parts.setdefault(group["part"], []).extend(p for p in group["params"] if p.grad is not None)
    return {part: _clip(parameters, clip_norm) for part, parameters in parts.items()}


def _clip(parameters: Iterable[Tensor], clip_norm: float) -> float:
    parameters = list(parameters)
    return float(nn.utils.clip_grad_norm_(parameters, clip_norm)) if parameters else 0.0
