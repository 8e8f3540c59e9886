"""Whisper tiny into a universal encoder on two CPU cores, in minutes: the recipe to try things with."""

from __future__ import annotations

from dataclasses import replace

from uniwhisper.recipes.quickstart import quickstart
from uniwhisper.train.config import TrainConfig

__all__ = ["uniwhisper_tiny"]


def uniwhisper_tiny() -> TrainConfig:
    """Return the quickstart's configuration for whisper-tiny, with 300 steps: about 3,800 examples.

    Command: `uniwhisper train uniwhisper_tiny --data train.csv --out runs/tiny`.
    Hardware and time: two CPU cores with bfloat16 instructions, about five minutes at the 13 examples/s that were
    measured while nothing else ran; 11 minutes in all on cores shared with other work.
    Expected: on eight held-out tasks a mean kNN of 55.4 against whisper-tiny's 43.2 (+12.2 [+8.6, +16.3]) and a mean
    probe of 64.7 against 62.9 (+1.8 [-2.4, +4.5]); one run, seed 0, one probe seed, the data and tasks of
    `uniwhisper_base`, before a repair of the subsampler's gradients (dev/LOG.md).
    """
    short = quickstart()
    return replace(
        short,
        encoder="whisper-tiny",
        batches=replace(short.batches, temperature=0.7),
        optim=replace(short.optim, steps=300, align_steps=30),
        start=replace(short.start, clips=1000),
        checkpoint_every=100,
    )
