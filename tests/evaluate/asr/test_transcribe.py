"""The whole probe: frames in, stored predictions and their history out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.asr import AsrConfig, transcribe
from uniwhisper.evaluate.splits import Fold, Plan

from .conftest import Corpus


def test_predictions_are_by_row_with_references_as_stored(corpus: Corpus, config: AsrConfig) -> None:
    seen: list[tuple[str, int, int]] = []
    config = replace(config, normaliser="raw-lower")  # not the default: a score must use the one that was asked for
    predictions, outcome = transcribe(
        corpus.frames, corpus.task, corpus.plan, config=config, progress=lambda *step: seen.append(step)
    )
    test = corpus.plan.folds[0].test
    assert predictions.ids.tolist() == [f"clip-{i}" for i in test]
    assert predictions.reference.tolist() == [corpus.task.clips[i].annotation.transcript for i in test]
    assert predictions.probe.shape == (len(config.seeds), len(test))
    assert predictions.fold.tolist() == [0] * len(test)
    assert [(run.fold, run.seed) for run in outcome.runs] == [("test", 0), ("test", 1)]
    assert all(1 <= run.chosen <= len(run.epochs) <= config.epochs for run in outcome.runs)
    assert outcome.decoder == "tiny"
    assert predictions.normaliser == config.normaliser == "raw-lower"
    assert len(outcome.decoder_sha256) == 64
    assert seen[0] == ("ASR test, seed 0", 0, 6)
    assert seen[-1] == ("ASR test, seed 1", 6, 6)
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)


def test_same_command_twice_and_on_two_threads_is_the_same(
    corpus: Corpus, config: AsrConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(config, decode_positions=100)
    results = []
    for threads in ("1", "1", "2"):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        predictions, outcome = transcribe(corpus.frames, corpus.task, corpus.plan, config=settings)
        results.append((predictions.digest(), outcome))
    assert results[0] == results[1] == results[2]


def test_seeds_are_independent_of_each_other(corpus: Corpus, config: AsrConfig) -> None:
    both, _ = transcribe(corpus.frames, corpus.task, corpus.plan, config=config)
    second, _ = transcribe(corpus.frames, corpus.task, corpus.plan, config=replace(config, seeds=(1,)))
    assert both.probe[1].tolist() == second.probe[0].tolist()
    assert both.probe[0].tolist() != both.probe[1].tolist()


def test_words_of_the_test_part_reach_nothing(
    make_corpus: Callable[..., Corpus], corpus: Corpus, config: AsrConfig
) -> None:
    test = set(corpus.plan.folds[0].test.tolist())
    clips = [
        replace(clip, annotation=replace(clip.annotation, transcript="SOMETHING ELSE")) if i in test else clip
        for i, clip in enumerate(corpus.task.clips)
    ]
    told, _ = transcribe(corpus.frames, corpus.task, corpus.plan, config=config)
    untold, _ = transcribe(corpus.frames, replace(corpus.task, clips=tuple(clips)), corpus.plan, config=config)
    assert told.probe.tolist() == untold.probe.tolist()
    assert set(untold.reference.tolist()) == {"SOMETHING ELSE"}


def test_answers_at_the_limit_are_counted_and_told(corpus: Corpus, config: AsrConfig) -> None:
    _, outcome = transcribe(corpus.frames, corpus.task, corpus.plan, config=replace(config, max_new_tokens=1))
    cut = sum(run.num_truncated for run in outcome.runs)
    assert cut > 0
    assert f"{cut} of 8 transcripts reached the limit of 1 tokens and count as they are" in outcome.notes


def test_folds_are_trained_apart(corpus: Corpus, config: AsrConfig) -> None:
    rows = np.arange(len(corpus.task.clips))
    halves = [
        Fold(name=f"fold{i + 1}", train=rows[8 * i :][:8], valid=rows[:2], test=rows[8 - 8 * i :][:8]) for i in (0, 1)
    ]
    plan = Plan(scheme="2-fold", folds=tuple(halves), notes=())
    predictions, outcome = transcribe(corpus.frames, corpus.task, plan, config=replace(config, seeds=(0,)))
    assert predictions.ids.tolist() == list(corpus.task.ids)
    assert predictions.fold.tolist() == [1] * 8 + [0] * 8
    assert [run.fold for run in outcome.runs] == ["fold1", "fold2"]
    alone, _ = transcribe(
        corpus.frames, corpus.task, replace(plan, folds=plan.folds[1:]), config=replace(config, seeds=(0,))
    )
    assert alone.probe.tolist() == predictions.probe[:, :8].tolist()


def test_other_tasks_are_refused(corpus: Corpus, config: AsrConfig) -> None:
    with pytest.raises(TaskError, match="expected a task of kind 'asr', found 'clip'"):
        transcribe(corpus.frames, replace(corpus.task, kind="clip"), corpus.plan, config=config)
