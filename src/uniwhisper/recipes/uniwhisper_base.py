"""Whisper base into a universal encoder on two CPU cores, in about an hour."""

from __future__ import annotations

from dataclasses import replace

from uniwhisper.recipes.quickstart import quickstart
from uniwhisper.train.config import TrainConfig

__all__ = ["uniwhisper_base"]


def uniwhisper_base() -> TrainConfig:
    """Return the quickstart's configuration with 1,800 steps: about 23,000 examples.

    Command: `uniwhisper train uniwhisper_base --data train.csv --out runs/base`.
    Hardware and time: two CPU cores with bfloat16 instructions, about 40 minutes; 6 GB of memory.
    Expected: the table in README.md, measured on eight held-out tasks; dev/LOG.md has data, seeds and commit.
    """
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
