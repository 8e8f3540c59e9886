"""The closed-form start: the alignment against trying everything, and the linear map that the gated units carry."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch
from torch.nn import functional

from uniwhisper.evaluate.asr.adapter import SwigluAdapter
from uniwhisper.evaluate.asr.config import AsrConfig
from uniwhisper.evaluate.asr.decoders import FrozenLM
from uniwhisper.evaluate.asr.examples import pack, utterances
from uniwhisper.evaluate.asr.warm_start import _set_linear, align, frame_statistics, warm_start
from uniwhisper.model.packing import Packed

from .conftest import Corpus


def test_alignment_is_the_best_of_all() -> None:
    generator = torch.Generator().manual_seed(0)
    for rows, tokens in ((7, 3), (6, 6), (5, 1)):
        fitted = torch.randn(rows, 4, generator=generator)
        targets = torch.randn(tokens, 4, generator=generator)
        gain = functional.normalize(fitted, dim=1) @ functional.normalize(targets, dim=1).T
        best = max(
            (
                torch.bucketize(torch.arange(rows), torch.tensor(cuts, dtype=torch.long), right=True)
                for cuts in combinations(range(1, rows), tokens - 1)
            ),
            key=lambda places: float(gain[torch.arange(rows), places].sum()),
        )
        assert torch.equal(align(fitted, targets), best)


def test_alignment_with_too_few_rows_is_even() -> None:
    assert align(torch.randn(2, 3), torch.randn(4, 3)).tolist() == [0, 2]


@pytest.mark.parametrize(("width", "hidden", "decoder_width"), [(6, 20, 4), (4, 20, 9), (5, 7, 7)])
def test_gated_units_carry_a_linear_map(width: int, hidden: int, decoder_width: int) -> None:
    torch.manual_seed(0)
    adapter = SwigluAdapter(width, hidden=hidden, decoder_width=decoder_width)
    weight, offset = torch.randn(decoder_width, width), torch.randn(decoder_width)
    with torch.no_grad():
        _set_linear(adapter, weight, offset)
    x = torch.randn(11, width)
    found = adapter(Packed(values=x, lengths=(11,))).values
    torch.testing.assert_close(found, x @ weight.T + offset, atol=1e-5, rtol=1e-4)


def test_statistics_are_of_the_training_frames(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    train = utterances(corpus.task, corpus.frames, lm, config)[:5]
    values = pack(corpus.frames, train, "cpu").values
    mean, deviation = frame_statistics(corpus.frames, train)
    torch.testing.assert_close(mean, values.mean(dim=0))
    torch.testing.assert_close(deviation, values.std(dim=0, correction=0))


def test_explains_the_words_and_has_their_size(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    train = utterances(corpus.task, corpus.frames, lm, config)
    torch.manual_seed(0)
    adapter = SwigluAdapter(corpus.frames.dim, hidden=64, decoder_width=lm.decoder.width, reduction=1)
    adapter.standardise(*frame_statistics(corpus.frames, train))
    before = adapter(pack(corpus.frames, train, "cpu")).values
    once = warm_start(adapter, lm, corpus.frames, train, rounds=1)
    explained = warm_start(adapter, lm, corpus.frames, train)
    assert 0 < once < explained < 1
    values = adapter(pack(corpus.frames, train, "cpu")).values
    assert not torch.allclose(before, values)
    torch.testing.assert_close(
        values.square().mean().sqrt(), lm.decoder.embedding.square().mean().sqrt(), atol=1e-4, rtol=1e-3
    )
