"""kNN scores while a run trains: is the encoder getting better, at the price of seconds.

Reads tasks (corpora or tables) once, before the run starts, so that a mistake in them costs nothing; keeps the decoded
audio of a few clips of each in memory. Writes nothing, and no cache of embeddings: the weights change from call to
call. Guarantees: the same clips, folds and neighbours every time, so that scores of two steps differ by the weights
alone; the model that is judged is not touched. The scores are for this run's curve and not to be compared with those
of `uniwhisper evaluate`, which judges on all clips and their whole length.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from uniwhisper.clips import length_s, read_clip
from uniwhisper.embed import AudioEmbedder
from uniwhisper.errors import ConfigError, TaskError
from uniwhisper.evaluate.embeddings import batch_s, runs_side_by_side
from uniwhisper.evaluate.knn import KnnConfig, knn_votes
from uniwhisper.evaluate.metrics import accuracy, mean_average_precision
from uniwhisper.evaluate.splits import make_plan
from uniwhisper.evaluate.task import ProtocolName, Task
from uniwhisper.evaluate.wanted import Wanted, as_wanted
from uniwhisper.model.uniwhisper import AudioModel
from uniwhisper.passes import Audio, mean_vectors
from uniwhisper.threads import map_threads, one_thread_each
from uniwhisper.train.evaluation import MEAN, Evaluate
from uniwhisper.types import Clip

__all__ = ["CLIPS", "CLIP_S", "knn_monitor"]

CLIPS = 200
"""Clips of a task: an accuracy near one half has a standard error of 0.05 where half of them are tested. With clips of
5 s that is 1,000 s of audio, for which whisper-base takes 25 s of one CPU core in fp32, and 8 s in bf16 with AMX."""

CLIP_S = 10.0
"""Seconds of a clip that are heard."""

_AUDIO_MB = 2000.0
_SPLIT_SEED = 0


def knn_monitor(
    tasks: Sequence[Wanted | Task | Path],
    *,
    protocol: ProtocolName = "strict",
    limit: int = CLIPS,
    clip_s: float = CLIP_S,
    precision: str = "fp32",
    audio_mb: float = _AUDIO_MB,
) -> Evaluate:
    """Return a callback for `train(..., evaluate=...)`: the kNN score of every task and their `mean`.

    Args:
        tasks: What wanted.py makes of corpora and tables, tasks, or paths of tables; each has a label a clip.
        protocol: Whose folds and whose kNN.
        limit: At most about so many clips a task, as many of each of its parts and spread over its labels.
        clip_s: Seconds heard of each clip, from its start.
        precision: Of the encoder: `fp32` or `bf16`.
        audio_mb: Memory for decoded audio (64 kB a second); what does not fit is read again each time.

    Raises:
        ConfigError: There is no task, two have the same name, or a number is out of range.
        TaskError: A task cannot be read, has no labels, or cannot be split.
    """
    if limit < 2 or clip_s <= 0 or audio_mb < 0:
        raise ConfigError(f"expected limit >= 2, clip_s > 0 and audio_mb >= 0, found {limit}, {clip_s} and {audio_mb}")
    if precision not in ("fp32", "bf16"):
        raise ConfigError(f"precision: expected fp32 or bf16, found {precision!r}")
    wanted = [as_wanted(task) for task in tasks]
    names = [one.name for one in wanted]
    if not names or len(set(names)) < len(names) or MEAN in names:
        raise ConfigError(
            f"expected tasks of different names, none called {MEAN!r}; found {', '.join(names) or 'none'}"
        )
    memory = _Memory(audio_mb)
    monitored = [_prepare(one.load()[0], protocol, limit, clip_s, memory) for one in wanted]
    config = KnnConfig(scaling="clip" if protocol == "strict" else "dimension")

    def evaluate(model: AudioModel, step: int) -> dict[str, float]:
        encoder = _encoder(model, step, precision)
        with one_thread_each():
            scores = {one.task.name: one.score(encoder, config) for one in monitored}
        return scores | {MEAN: float(np.mean(list(scores.values())))}

    return evaluate


class _Memory:
    """Decoded audio, up to a size; what is beyond is decoded again."""

    def __init__(self, size_mb: float) -> None:
        self._left_bytes = size_mb * 1e6
        self._waves: dict[tuple[str, int, float, float], np.ndarray] = {}

    def read(self, clip: Clip, clip_s: float, sample_rate: int) -> np.ndarray:
        """Return the start of the clip."""
        key = (clip.path, clip.offset_bytes, clip.start_s, clip.duration_s)
        if key not in self._waves:
            wave = read_clip(clip, sample_rate=sample_rate)[: round(clip_s * sample_rate)].copy()
            if wave.nbytes > self._left_bytes:
                return wave
            self._left_bytes -= wave.nbytes  # threads may pass together: a clip more than asked for, never a crash
            self._waves[key] = wave
        return self._waves[key]


@dataclass(frozen=True, kw_only=True)
class _Monitored:
    """A task cut down to what its kNN score needs."""

    task: Task
    folds: tuple[tuple[np.ndarray, np.ndarray], ...]
    """Gallery and test rows of every fold."""
    memory: _Memory
    clip_s: float

    def score(self, encoder: AudioEmbedder, config: KnnConfig) -> float:
        """Return the task's metric in every fold, averaged over folds."""
        vectors, targets = self._vectors(encoder), self.task.targets()
        scores = []
        for gallery, test in self.folds:
            votes = knn_votes(
                vectors[gallery], targets[gallery], vectors[test], num_classes=len(self.task.classes), config=config
            )
            scores.append(_score(self.task, targets[test], votes))
        return float(np.mean(scores))

    def _vectors(self, encoder: AudioEmbedder) -> np.ndarray:
        """Return one vector a clip, [N, D]; rows that no fold uses stay zero."""
        used = sorted({row for fold in self.folds for part in fold for row in part.tolist()})
        audios = [
            Audio(
                name=f"clip {clip.id!r} of {clip.source!r}",
                duration_s=min(length_s(clip), self.clip_s),
                read=partial(self.memory.read, clip, self.clip_s, encoder.sample_rate),
                key=lambda: "",
            )
            for clip in (self.task.clips[row] for row in used)
        ]
        vectors = np.zeros((len(self.task.clips), encoder.dim), dtype=np.float32)
        vectors[used] = mean_vectors(
            encoder.frames,
            audios,
            encoder=encoder.name,
            dim=encoder.dim,
            cache=None,
            budget_s=batch_s(encoder),
            spread=map_threads,
            one_at_a_time=not runs_side_by_side(encoder),
        )
        return vectors


def _prepare(task: Task, protocol: ProtocolName, limit: int, clip_s: float, memory: _Memory) -> _Monitored:
    if task.kind not in ("clip", "multilabel"):
        raise TaskError(f"{task.where}: expected a task with a label a clip for kNN, found one of kind {task.kind!r}")
    part = max(1, limit // len(set(task.splits)))
    task = task.limited(part)
    plan = make_plan(task, protocol=protocol, seed=_SPLIT_SEED)
    folds = tuple((np.sort(fold.train), fold.test) for fold in plan.folds)
    return _Monitored(task=task, folds=folds, memory=memory, clip_s=clip_s)


def _score(task: Task, truth: np.ndarray, votes: np.ndarray) -> float:
    if task.metric == "map":
        positives = truth if task.multilabel else np.eye(len(task.classes), dtype=np.uint8)[truth]
        return mean_average_precision(positives, votes.astype(np.float32))  # as predictions are stored
    return accuracy(truth, votes.argmax(axis=1))


def _encoder(model: AudioModel, step: int, precision: str) -> AudioEmbedder:
    """Return the model as an encoder of its own: same weights in the same memory, none of its modules.

    An `AudioEmbedder` takes what it is given for its own (evaluation mode, no gradients), and a layer may keep tensors
    from one call to the next that must not be those of an evaluation.
    """
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    memo: dict[int, Any] = {
        id(t): nn.Parameter(t.detach(), requires_grad=False) if isinstance(t, nn.Parameter) else t.detach()
        for t in tensors
    }
    return AudioEmbedder(
        copy.deepcopy(model, memo),
        name=f"encoder after {step} steps",
        weights_hash=secrets.token_hex(),  # no one can find a vector of these weights under those of another step
        precision=precision,
        device=str(tensors[0].device),
        frames="subsampled",
    )
