"""A run in progress: its parts, the tensors that a checkpoint holds, and what it can say of its making."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniwhisper import __version__
from uniwhisper.batches import BatchOrder
from uniwhisper.checkpoint import CheckpointWriter, load_tensors, read_state
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.flops import StepFlops
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.data import TrainingData
from uniwhisper.train.feed import Feed
from uniwhisper.train.health import EmbeddingWatch
from uniwhisper.train.optim import UpdateWatch, optimizer_tensors, restore_optimizer
from uniwhisper.train.parallel import Network, full_tensors
from uniwhisper.train.world import World

__all__ = ["Run", "provenance", "resume", "run_tensors", "save", "trained_audio"]


@dataclass(kw_only=True)
class Run:
    """The parts of a run in progress."""

    config: TrainConfig
    data: TrainingData
    out: Path
    key: str
    """Hash of the configuration and the data."""
    world: World
    model: UniWhisper
    network: Network
    """The model as it is computed: itself, or spread over processes."""
    feed: Feed
    order: BatchOrder
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    """Running average of the audio model; empty where `ema_decay` is 0."""
    original: dict[str, Tensor]
    """The audio model before the first step; empty where `original_share` is 0."""
    updates: UpdateWatch
    flops: StepFlops
    peak_flops: float | None
    """Operations a second that the device can do at best, where known."""
    embeddings: EmbeddingWatch = field(default_factory=EmbeddingWatch)
    pieces: int = 1
    """Pieces that each batch is computed in; doubled once where memory runs out."""
    step: int = 0
    """Steps done."""


def run_tensors(run: Run) -> dict[str, Tensor]:
    """Return every tensor that decides how the run goes on, by flat names; a checkpoint is loaded into them."""
    parts: dict[str, Mapping[str, Tensor]] = {
        "model": run.model.trainable_state(),
        "optim": optimizer_tensors(run.optimizer, run.model),
        "average": run.average,
        "original": run.original,
    }
    return {f"{part}.{name}": value for part, tensors in parts.items() for name, value in tensors.items()}


def provenance(run: Run) -> dict[str, Any]:
    """Return what made the weights: versions, configuration, data and the mixture that was really drawn."""
    return {
        "version": __version__,
        "torch": torch.__version__,
        "config": run.config.to_json(),
        "steps": run.step,
        "ranks": run.world.size,
        "data": run.data.key,
        "corpora": run.data.corpora(),
        "clips_drawn": run.order.drawn(run.step * run.config.accumulation),
        "mixture": run.order.weights,
        "leakage": list(run.data.searches),
    }


def save(run: Run, writer: CheckpointWriter) -> Path:
    """Hand the run's state to the writer, which writes it in the background; returns the checkpoint's folder."""
    return writer.save(run.step, run_tensors(run), {"step": run.step, "provenance": provenance(run)})


def resume(run: Run, folder: Path) -> None:
    """Go back to the state in `folder`, which any number of processes may have written.

    Raises:
        CheckpointError: It is another run's, or damaged.
    """
    state = read_state(folder, key=run.key)
    tensors = run_tensors(run)
    load_tensors(folder, tensors)
    optim = {name.removeprefix("optim."): value for name, value in tensors.items() if name.startswith("optim.")}
    restore_optimizer(run.optimizer, run.model, optim)
    run.step = state["step"]


def trained_audio(run: Run) -> AudioModel:
    """Return the audio model as it would be handed out now, whole and apart from the run (call it on every rank).

    It holds the average or the last weights, mixed with the original where the configuration asks.
    """
    final = full_tensors(run.average or run.model.audio.state_dict())
    final = {name: value.detach().float().clone() for name, value in final.items()}
    if run.config.original_share:
        for name, value in full_tensors(run.original).items():
            final[name].lerp_(value, run.config.original_share)
    with torch.device("meta"):  # no random weights that would be overwritten
        audio = AudioModel(AudioEncoder(run.model.audio.encoder.dims))
    audio.load_state_dict(final, assign=True)
    return audio.eval()
