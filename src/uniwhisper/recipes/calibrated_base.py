"""Whisper base with the closed-form calibration and no training: the row that says what calibration alone gives."""

from __future__ import annotations

from dataclasses import replace

from uniwhisper.recipes.uniwhisper_base import uniwhisper_base
from uniwhisper.train.config import TrainConfig

__all__ = ["calibrated_base", "without_training"]


def calibrated_base() -> TrainConfig:
    """Return `uniwhisper_base` without its training; only the output is whitened, on unlabelled training clips.

    Command: `uniwhisper train calibrated_base --data train.csv --out runs/calibrated`.
    Hardware and time: two CPU cores, about a minute.
    Expected: the column for the calibration alone of the table in README.md; dev/LOG.md has data and seeds.
    """
    return without_training(uniwhisper_base())


def without_training(config: TrainConfig) -> TrainConfig:
    """Return `config` with an encoder that never learns: all that is left of the run is the final calibration."""
    return replace(
        config,
        optim=replace(config.optim, steps=1, align_steps=0, encoder_lr=0.0),
        start=replace(config.start, clips=0, calibration="none"),
        original_share=0.0,
        ema_decay=0.0,
    )
