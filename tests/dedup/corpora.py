"""Small corpora for the tests of dedup: sounds that can be told apart, in files, and the clips that name them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.types import Annotation, Clip


def sound(seed: int, duration_s: float = 2.5) -> np.ndarray:
    """Return noise whose loudness and colour change all the time; no two seeds share any of it."""
    rng = np.random.default_rng(seed)
    count = round(duration_s * SAMPLE_RATE)
    knots = np.arange(0, count + 1600, 1600)
    wave = np.zeros(count)
    for _ in range(6):
        loudness = np.interp(np.arange(count), knots, rng.uniform(0, 1, len(knots)) ** 2)
        pitch = np.interp(np.arange(count), knots, rng.uniform(250, 3400, len(knots)))
        wave += loudness * np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)
    wave += 0.1 * rng.standard_normal(count)
    return (0.4 * wave / np.abs(wave).max()).astype(np.float32)


def clip(source: str, name: str, path: Path, **fields: Any) -> Clip:
    """Return a clip of a label; without `duration_s` the file is measured."""
    values: dict[str, Any] = {"split": "train", "domain": "sound", "annotation": Annotation(labels=("bell",)), **fields}
    if "duration_s" not in values:
        values["duration_s"] = soundfile.info(path).duration
    return Clip(id=name, source=source, path=str(path), **values)


def write(path: Path, wave: np.ndarray, **options: Any) -> Path:
    """Write a wave in the format of the path's suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, SAMPLE_RATE, **options)
    return path


def corpus(folder: Path, source: str, seeds: list[int], **fields: Any) -> list[Clip]:
    """Write a sound for every seed and return their clips, named by their seeds."""
    return [clip(source, f"{seed}", write(folder / source / f"{seed}.wav", sound(seed)), **fields) for seed in seeds]


def named(found: Clip, *upstream_ids: str) -> Clip:
    """Return the clip with upstream identifiers."""
    return replace(found, upstream_ids=upstream_ids)
