"""The clips that benchmarks run on: real ones, from a table or a manifest."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from uniwhisper import audio
from uniwhisper.manifest import read_manifest
from uniwhisper.sources.table import read_table
from uniwhisper.types import Clip

__all__ = ["read_clips", "read_waves"]

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = REPOSITORY.parent / "shared" / "data" / "train.csv"


def read_clips(path: Path | None) -> list[Clip]:
    """Return the clips of a CSV table, a `manifest.jsonl` or a folder that holds one.

    Raises:
        SystemExit: Nothing was named and the default is not there.
    """
    if path is None:
        if not DEFAULT.is_file():
            raise SystemExit(
                "--data: expected a table (CSV with columns path and text, label or transcript) or a manifest.jsonl. "
                "Make one with `uniwhisper convert`, or pass your own table"
            )
        path = DEFAULT
    if path.is_dir():
        path = path / "manifest.jsonl"
    if not path.is_file():
        raise SystemExit(f"--data: expected a file at {path}, found none")
    return read_table(path) if path.suffix == ".csv" else read_manifest(path)


def read_waves(clips: Sequence[Clip], count: int, *, seed: int = 0) -> list[np.ndarray]:
    """Return the waves of `count` clips drawn at random, each cut at 30 s."""
    paths = sorted({clip.path for clip in clips})
    chosen = np.random.default_rng(seed).permutation(len(paths))[:count]
    return [audio.read(paths[i])[: audio.WINDOW_SAMPLES] for i in chosen]
