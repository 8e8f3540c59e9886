"""What the LM reads, and which clips make up a step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from uniwhisper.errors import TaskError
from uniwhisper.evaluate.asr.config import AsrConfig
from uniwhisper.evaluate.asr.decoders import FrozenLM
from uniwhisper.evaluate.asr.examples import epoch_steps, in_order, longest_answer, pack, utterances

from .conftest import Corpus, MemoryFrames


def test_text_is_lower_case_or_as_stored(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    lower = utterances(corpus.task, corpus.frames, lm, config)
    stored = utterances(corpus.task, corpus.frames, lm, replace(config, lower_case=False))
    assert (lower[0].text, stored[0].text) == ("the dog", "THE DOG")
    assert lower[0].turn.answer == (*lm.decoder.encode("the dog"), lm.end)


def test_separator_is_read_or_also_predicted(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    read = utterances(corpus.task, corpus.frames, lm, config)[1]
    predicted = utterances(corpus.task, corpus.frames, lm, replace(config, predict_separator=True))[1]
    assert read.turn.prompt == (lm.separator,)
    assert predicted.turn.prompt == ()
    assert predicted.turn.answer == (lm.separator, *read.turn.answer)
    assert read.positions == predicted.positions


def test_every_clip_comes_once_an_epoch_in_an_order_of_its_own(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    every = utterances(corpus.task, corpus.frames, lm, config)
    settings = replace(config, batch_clips=0, batch_positions=60)
    orders = []
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        steps = epoch_steps(every, settings, seed=seed, epoch=epoch)
        rows = [u.row for step in steps for piece in step for u in piece]
        assert sorted(rows) == list(range(len(every)))
        assert all(1 <= len(step) <= settings.parallel for step in steps)
        assert all(sum(u.positions for piece in step for u in piece) <= 60 for step in steps)
        assert steps == epoch_steps(every, settings, seed=seed, epoch=epoch)
        orders.append(rows)
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_steps_of_a_fixed_number_of_clips(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    every = utterances(corpus.task, corpus.frames, lm, config)[:11]
    steps = epoch_steps(every, replace(config, batch_clips=4), seed=0, epoch=0)
    assert [sum(map(len, step)) for step in steps] == [4, 4, 3]


def test_a_clip_longer_than_the_budget_is_alone(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    every = utterances(corpus.task, corpus.frames, lm, config)
    assert [len(batch) for batch in in_order(every, replace(config, batch_positions=1))] == [1] * len(every)


def test_longest_answer_is_twice_the_longest_transcript(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    every = utterances(corpus.task, corpus.frames, lm, config)
    assert longest_answer(every, replace(config, max_new_tokens=0)) == 2 * (len("the end of it all") + 1)
    assert longest_answer(every, replace(config, max_new_tokens=7)) == 7


def test_pack_lays_frames_end_to_end(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    every = utterances(corpus.task, corpus.frames, lm, config)
    packed = pack(corpus.frames, [every[3], every[1]], "cpu")
    assert packed.lengths == (len(corpus.frames[3]), len(corpus.frames[1]))
    np.testing.assert_array_equal(packed.values.numpy(), np.concatenate([corpus.frames[3], corpus.frames[1]]))


def test_clips_that_cannot_be_learnt_are_named(
    make_corpus: Callable[..., Corpus], lm: FrozenLM, config: AsrConfig
) -> None:
    silent = make_corpus(4, texts=("a", "b", " ", "d"))
    with pytest.raises(TaskError, match=r"no words of clip-2"):
        utterances(silent.task, silent.frames, lm, config)
    corpus = make_corpus(4)
    empty = MemoryFrames([corpus.frames[0], corpus.frames[1], corpus.frames[2], np.zeros((0, corpus.frames.dim))])
    with pytest.raises(TaskError, match=r"no frames of clip-3"):
        utterances(corpus.task, empty, lm, config)
    with pytest.raises(TaskError, match="expected frames of 4 clips, found those of 1"):
        utterances(corpus.task, MemoryFrames([corpus.frames[0]]), lm, config)
    endless = MemoryFrames([np.zeros((9, 2))] * 3 + [np.zeros((5000, 2))])
    with pytest.raises(TaskError, match=r"within the 4096 positions of tiny, found 50\d\d for clip-3"):
        utterances(corpus.task, endless, lm, replace(config, reduction=1))
