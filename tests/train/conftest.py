"""One tiny Whisper, one tiny LM and ten short clips, and the configuration that trains them in milliseconds a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tiny import tiny_clips, tiny_lm, tiny_whisper
from uniwhisper.batches import BatchConfig
from uniwhisper.model.dims import AdapterConfig
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.optim import OptimConfig
from uniwhisper.train.warm_start import FinishConfig, StartConfig
from uniwhisper.types import Clip


@dataclass(frozen=True)
class World:
    """What a run needs."""

    whisper: Path
    lm: Path
    clips: list[Clip]

    def config(self, **changes: Any) -> TrainConfig:
        """Return the tiny configuration; `optim`, `batches`, `start` and `finish` take dictionaries of changes."""
        optim = {"steps": 20, "align_steps": 4, "warmup_steps": 2, "encoder_lr": 1e-3, "adapter_lr": 1e-2}
        batches = {"tokens": 120, "text_tokens": 20, "window": 16}
        return TrainConfig(
            **(
                {
                    "encoder": str(self.whisper),
                    "decoder": str(self.lm),
                    "precision": "fp32",
                    "adapter": AdapterConfig(hidden=16),
                    "checkpoint_every": 5,
                    "cache_mb": 1.0,
                }
                | changes
                | {
                    "optim": OptimConfig(**(optim | changes.get("optim", {}))),
                    "batches": BatchConfig(**(batches | changes.get("batches", {}))),
                    "start": StartConfig(**({"clips": 8} | changes.get("start", {}))),
                    "finish": FinishConfig(**({"clips": 8} | changes.get("finish", {}))),
                }
            )
        )


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    root = tmp_path_factory.mktemp("world")
    return World(
        whisper=tiny_whisper(root / "whisper", width=32, heads=2, n_audio_ctx=100),
        lm=tiny_lm(root / "lm", chat=True, scale=0.3),
        clips=tiny_clips(root / "clips"),
    )


@pytest.fixture
def config(world: World) -> Callable[..., TrainConfig]:
    return world.config
