"""From stored frames to transcripts of every test clip: an adapter a fold and seed, trained through the frozen LM.

Reads the frame store and the task's transcripts. Writes nothing. Guarantees: the LM's parameters are the same bits
before and after; the test part and its words reach nothing but the final transcripts; equal inputs give equal
transcripts, whatever the number of threads; an answer that was cut off is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.asr.config import AsrConfig
from uniwhisper.evaluate.asr.decode import transcripts
from uniwhisper.evaluate.asr.decoders import FrozenLM, open_decoder
from uniwhisper.evaluate.asr.examples import Utterance, longest_answer, utterances
from uniwhisper.evaluate.asr.fit import Epoch, fit
from uniwhisper.evaluate.bootstrap import resampling_units
from uniwhisper.evaluate.predictions import TextPredictions
from uniwhisper.evaluate.splits import Fold, Plan
from uniwhisper.evaluate.task import Task
from uniwhisper.threads import one_thread_each

if TYPE_CHECKING:
    from uniwhisper.evaluate.frames import FrameStore

__all__ = ["AsrOutcome", "AsrRun", "Watch", "transcribe"]

Watch = Callable[[str, int, int], object]
"""Called with what is being done, the parts done and the parts in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AsrRun:
    """What came of one fold and seed."""

    fold: str
    seed: int
    epochs: tuple[Epoch, ...]
    """One each, in order; training may have stopped before the last."""
    chosen: int
    """Number of the epoch whose adapter wrote the transcripts."""
    longest_answer: int
    """Most tokens that a transcript could have."""
    num_truncated: int
    """Test transcripts that reached it; they count as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AsrOutcome:
    """What came of all folds and seeds."""

    decoder: str
    """Name of the frozen LM."""
    decoder_sha256: str
    """Of its weights."""
    runs: tuple[AsrRun, ...]
    """By fold, then seed."""
    notes: tuple[str, ...]
    """What a reader of the score should know."""


def transcribe(
    frames: FrameStore,
    task: Task,
    plan: Plan,
    *,
    config: AsrConfig,
    device: str = "cpu",
    progress: Watch = lambda what, done, total: None,
) -> tuple[TextPredictions, AsrOutcome]:
    """Return the transcripts of all seeds for every test clip, and how they came about.

    Args:
        frames: Of the task's clips, in their order.
        task: Of kind `asr`.
        plan: Its folds.
        config: The LM, the adapter, its training and the decoding.
        device: Torch device of LM and adapter.
        progress: Called after every epoch and fold.

    Raises:
        TaskError: The task is of another kind, or a clip has no transcript or no frames or is too long for the LM.
        WeightsError: The LM cannot be had.
        TrainingError: An adapter's loss is not a number any more.
    """
    if task.kind != "asr":
        raise TaskError(f"{task.where}: expected a task of kind 'asr', found {task.kind!r}")
    with one_thread_each():
        lm = open_decoder(config, device=device)
        every = utterances(task, frames, lm, config)
        watch = _Steps(progress, folds=len(plan.folds), config=config)
        texts = np.full((len(config.seeds), len(every)), "", dtype=object)
        runs = []
        for fold in plan.folds:
            for number, seed in enumerate(config.seeds):
                run, found = _run(lm, frames, every, fold, config, seed, device, watch)
                texts[number, fold.test] = found
                runs.append(run)
    notes = _notes(lm, task, runs, config, num_test=sum(len(fold.test) for fold in plan.folds))
    outcome = AsrOutcome(decoder=lm.name, decoder_sha256=lm.sha256, runs=tuple(runs), notes=notes)
    return _predictions(task, plan, texts, config), outcome


def _run(
    lm: FrozenLM,
    frames: FrameStore,
    every: Sequence[Utterance],
    fold: Fold,
    config: AsrConfig,
    seed: int,
    device: str,
    watch: _Steps,
) -> tuple[AsrRun, list[str]]:
    """Return one adapter's history and its transcripts of the fold's test part."""
    train, valid, test = ([every[i] for i in rows] for rows in (fold.train, fold.valid, fold.test))
    watch.begin(f"ASR {fold.name}, seed {seed}")
    fitted = fit(lm, frames, train, valid, config, seed=seed, device=device, on_epoch=watch.epoch)
    limit = longest_answer(train, config)
    found, num_truncated = transcripts(fitted.adapter, lm, frames, test, config, limit=limit)
    watch.end()
    run = AsrRun(
        fold=fold.name,
        seed=seed,
        epochs=fitted.epochs,
        chosen=fitted.chosen,
        longest_answer=limit,
        num_truncated=num_truncated,
    )
    return run, found


def _predictions(task: Task, plan: Plan, texts: np.ndarray, config: AsrConfig) -> TextPredictions:
    """Return the stored form, by row; references are the transcripts as the corpus has them."""
    test = np.concatenate([fold.test for fold in plan.folds])
    order = np.argsort(test, kind="stable")
    rows = test[order]
    fold = np.repeat(np.arange(len(plan.folds)), [len(part.test) for part in plan.folds])[order]
    return TextPredictions(
        ids=np.array([task.ids[i] for i in rows]),
        fold=fold,
        unit=resampling_units(None if task.groups is None else [task.groups[i] for i in rows], fold)[0],
        reference=np.array([task.clips[i].annotation.transcript for i in rows]),
        probe=np.array(texts[:, rows].tolist()),
        normaliser=config.normaliser,
    )


def _notes(lm: FrozenLM, task: Task, runs: Sequence[AsrRun], config: AsrConfig, *, num_test: int) -> tuple[str, ...]:
    notes = [f"transcripts: {lm.name} (weights {lm.sha256[:12]}), frozen, {config.reduction} frame(s) a token, greedy"]
    truncated, total = sum(run.num_truncated for run in runs), num_test * len(config.seeds)
    if truncated:
        limits = sorted({run.longest_answer for run in runs})
        most = " to ".join(str(limit) for limit in dict.fromkeys((limits[0], limits[-1])))
        notes.append(f"{truncated} of {total} transcripts reached the limit of {most} tokens and count as they are")
    if config.repetition_penalty != 1:
        notes.append(f"decoded with a repetition penalty of {config.repetition_penalty}, which costs words")
    return tuple(notes)


class _Steps:
    """Progress over folds, seeds and epochs; the decoding of a test part counts as one epoch."""

    def __init__(self, progress: Watch, *, folds: int, config: AsrConfig) -> None:
        self._progress = progress
        self._each = config.epochs + 1
        self._total = folds * len(config.seeds) * self._each
        self._before = -self._each
        self._what = ""

    def begin(self, what: str) -> None:
        """Start a fold and seed."""
        self._what = what
        self._before += self._each
        self._progress(what, self._before, self._total)

    def epoch(self, done: int) -> None:
        """Note that `done` epochs of it are over."""
        self._progress(self._what, self._before + done, self._total)

    def end(self) -> None:
        """Finish it, however early its training stopped."""
        self._progress(self._what, self._before + self._each, self._total)
