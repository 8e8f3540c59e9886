"""Whisper base into a universal encoder on two CPU cores, in about an hour."""

from __future__ import annotations

from dataclasses import replace

from uniwhisper.recipes.quickstart import quickstart
from uniwhisper.train.config import TrainConfig

__all__ = ["uniwhisper_base"]


def uniwhisper_base() -> TrainConfig:
    """Return the configuration of the longer CPU run."""
    short = quickstart()
    return replace(
        short,
        batches=replace(short.batches, temperature=0.7),
        optim=replace(short.optim, steps=1800, align_steps=80, warmup_steps=50),
        start=replace(short.start, clips=1500),
        finish=replace(short.finish, clips=1500),
        checkpoint_every=200,
        cache_mb=2000,
    )
