"""A network small enough for a step in milliseconds, with matrices large enough for moments in 8 bits, and a task for
it: targets drawn at random, which a step of gradient descent comes nearer to."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import torch
from torch import Tensor, nn

from uniwhisper.model.dims import AdapterConfig, EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper
from uniwhisper.train.optim import (
    OptimConfig,
    build_optimizer,
    clip_gradients,
    in_their_types,
    set_learning_rates,
    trainable,
)

KINDS = ("adamw", "adamw8bit", "adamw8bit_ao")
DIMS = EncoderDims(n_mels=8, n_audio_ctx=20, n_audio_state=64, n_audio_head=2, n_audio_layer=2)


class Decoder(nn.Module):
    """Stands where the frozen decoder is; nothing here runs it."""

    def __init__(self) -> None:
        super().__init__()
        self.width = 64
        self.head = nn.Linear(64, 64, bias=False).requires_grad_(False)


def network(config: OptimConfig, *, precision: torch.dtype | None = None) -> UniWhisper:
    """Return the same network each time."""
    torch.manual_seed(0)
    model = UniWhisper(
        audio=AudioModel(AudioEncoder(DIMS)),
        decoder=cast(Any, Decoder()),
        adapter=AdapterConfig(hidden=64),
        precision=precision,
    )
    with torch.no_grad():  # biases and norms too
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    trainable(model, config)
    in_their_types(model, config)
    return model


def loss_of(model: UniWhisper, number: int = 0) -> Tensor:
    """Return the distance from the targets of batch `number`."""
    generator = torch.Generator().manual_seed(number % 4)
    mels = [torch.randn(8, frames, generator=generator) for frames in (20, 31)]
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=model.precision is not None):
        values = model.adapter(model.audio(mels, [0.0, 0.0])).values.float()
    return (values - torch.randn(values.shape, generator=generator)).square().mean()


def train(
    model: UniWhisper, optimizer: torch.optim.Optimizer, config: OptimConfig, first: int, last: int
) -> list[float]:
    """Do the steps from `first` up to `last` and return their losses."""
    losses = []
    for step in range(first, last):
        set_learning_rates(optimizer, step, config)
        loss = loss_of(model, step)
        loss.backward()
        clip_gradients(optimizer, config.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    return losses


def optim_config(kind: str = "adamw", **changes: Any) -> OptimConfig:
    """Return a configuration in which every part learns from the first step."""
    small = {"steps": 60, "align_steps": 0, "warmup_steps": 5, "encoder_lr": 2e-3, "adapter_lr": 4e-3}
    return OptimConfig(kind=kind, **(small | changes))


def weights_of(model: UniWhisper) -> dict[str, Tensor]:
    """Return a copy of the weights."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def built(kind: str, **changes: Any) -> SimpleNamespace:
    """Return a network, its optimiser and the configuration of both."""
    config = optim_config(kind, **changes)
    model = network(config, precision=torch.bfloat16 if config.weights == "bf16" else None)
    return SimpleNamespace(config=config, model=model, optimizer=build_optimizer(model, config))
