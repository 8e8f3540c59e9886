"""Frames in memory, a transcription task over them, and frozen LMs of several kinds, all random and offline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tiny import tiny_lm
from uniwhisper.evaluate.asr.config import TINY, AsrConfig
from uniwhisper.evaluate.asr.decoders import FrozenLM, open_decoder
from uniwhisper.evaluate.splits import Fold, Plan
from uniwhisper.evaluate.task import Task
from uniwhisper.types import Annotation, Clip

KINDS = ("llama", "qwen2", "qwen3", "gpt2")
WORDS = ("THE DOG", "OH NO", "GO ON", "THE END OF IT ALL")


class MemoryFrames:
    """Frames of clips as a frame store gives them."""

    def __init__(self, clips: Sequence[np.ndarray]) -> None:
        self._clips = [np.asarray(clip, dtype=np.float32) for clip in clips]
        self.lengths = np.array([len(clip) for clip in clips], dtype=np.int64)
        self.dim = self._clips[0].shape[1]
        self.hop_ms = 40.0

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, row: int) -> np.ndarray:
        return self._clips[row]

    def rows(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        return np.concatenate([self._clips[i] for i in indices]), self.lengths[list(indices)]


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """A task, its folds and its frames."""

    task: Task
    plan: Plan
    frames: MemoryFrames


@pytest.fixture(scope="session")
def make_corpus() -> Callable[..., Corpus]:
    """Return a function that makes clips whose frames say which of four texts they carry."""

    def make(num_clips: int = 16, *, dim: int = 12, seed: int = 0, texts: Sequence[str] = WORDS) -> Corpus:
        rng = np.random.default_rng(seed)
        patterns = rng.normal(size=(len(texts), 5, dim)) * 2
        clips, frames = [], []
        for i in range(num_clips):
            kind = i % len(texts)
            beats = np.repeat(patterns[kind], rng.integers(2, 5, size=5), axis=0)
            frames.append(beats + 0.1 * rng.normal(size=beats.shape) + 3.0)
            note = Annotation(transcript=texts[kind])
            fields = {"source": "toy", "split": "train", "duration_s": 0.6, "domain": "speech", "annotation": note}
            clips.append(Clip(id=f"clip-{i}", path=f"clip-{i}.wav", **fields))
        task = Task(
            name="toy_asr",
            title="Toy",
            domain="speech",
            kind="asr",
            metric="iwer",
            clips=tuple(clips),
            splits=("train",) * num_clips,
            where="toy",
        )
        rows = np.random.default_rng(seed).permutation(num_clips)
        train, valid, test = np.split(rows, [num_clips // 2, 3 * num_clips // 4])
        fold = Fold(name="test", train=np.sort(train), valid=np.sort(valid), test=np.sort(test))
        plan = Plan(scheme="train/valid/test", folds=(fold,), notes=())
        return Corpus(task=task, plan=plan, frames=MemoryFrames(frames))

    return make


@pytest.fixture
def corpus(make_corpus: Callable[..., Corpus]) -> Corpus:
    return make_corpus()


@pytest.fixture(scope="session")
def lm_folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A random LM of each kind, in the hub's layout."""
    root = tmp_path_factory.mktemp("lm")
    return {kind: tiny_lm(root / kind, kind=kind, scale=0.2) for kind in KINDS}


@pytest.fixture(scope="session")
def config() -> AsrConfig:
    return TINY


@pytest.fixture
def lm(config: AsrConfig) -> FrozenLM:
    return open_decoder(config)
