"""Decoding with a cache against recomputing everything, and against transformers' own generation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from uniwhisper.evaluate.asr.adapter import SwigluAdapter
from uniwhisper.evaluate.asr.cached import cached_attention, open_cache
from uniwhisper.evaluate.asr.config import AsrConfig
from uniwhisper.evaluate.asr.decode import decode_groups, greedy, transcripts
from uniwhisper.evaluate.asr.decoders import FrozenLM, open_decoder
from uniwhisper.evaluate.asr.examples import pack, utterances
from uniwhisper.model.decoder import Turn

from .conftest import KINDS, Corpus

LIMIT = 80
LENGTHS = (9, 3, 14, 3, 1)


@pytest.fixture(params=KINDS)
def pair(request: pytest.FixtureRequest, lm_folders: dict[str, Path], config: AsrConfig) -> tuple[FrozenLM, Any]:
    """Our LM and an untouched copy of the same weights."""
    folder = lm_folders[request.param]
    stock = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    return open_decoder(replace(config, decoder=str(folder))), stock


def prompts(lm: FrozenLM, lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, lm.decoder.width, generator=generator) * 0.5 for n in lengths]


@torch.no_grad()
def recomputed(lm: FrozenLM, rows: Tensor, limit: int) -> list[int]:
    """Greedy decoding that reads the whole sequence again for every token."""
    model, tokens = lm.decoder.lm, []
    for _ in range(limit):
        states = lm.decoder.states(rows, [len(rows)])
        token = int(model.get_output_embeddings()(states[-1]).argmax())  # type: ignore[operator]
        if token == lm.end:
            break
        tokens.append(token)
        rows = torch.cat([rows, lm.decoder.embedding[token][None]])
    return tokens


def generated(stock: Any, lm: FrozenLM, rows: Tensor, **settings: Any) -> list[int]:
    """Return what transformers writes after the same inputs, up to the token that ends it."""
    found = stock.generate(
        inputs_embeds=rows[None],
        attention_mask=torch.ones(1, len(rows), dtype=torch.long),
        do_sample=False,
        max_new_tokens=LIMIT,
        eos_token_id=lm.end,
        pad_token_id=lm.end,
        **settings,
    )[0].tolist()
    return found[: found.index(lm.end)] if lm.end in found else found


def make_ends_likely(lm: FrozenLM, stock: Any, bias: float = 0.6) -> None:
    """Turn the end token's embedding so that random LMs end at different lengths; both copies alike."""
    for model in (lm.decoder.lm, stock):
        with torch.no_grad():
            model.get_output_embeddings().weight[lm.end].mul_(bias / 0.2)


def test_cache_equals_recomputing_and_transformers(pair: tuple[FrozenLM, Any]) -> None:
    lm, stock = pair
    make_ends_likely(lm, stock)
    rows = prompts(lm)
    with cached_attention(lm.decoder):
        answers = greedy(lm, rows, limit=LIMIT)
    for answer, clip in zip(answers, rows, strict=True):
        assert list(answer.tokens) == recomputed(lm, clip, LIMIT) == generated(stock, lm, clip)
        assert answer.truncated == (len(answer.tokens) == LIMIT)
    assert len({answer.tokens[:3] for answer in answers}) > 1  # inputs decide, or any mix-up would pass


@pytest.mark.parametrize("seed", [1, 2])
def test_sequences_that_end_leave_the_batch(lm_folders: dict[str, Path], config: AsrConfig, seed: int) -> None:
    lm = open_decoder(replace(config, decoder=str(lm_folders["qwen2"])))
    stock = AutoModelForCausalLM.from_pretrained(lm_folders["qwen2"], dtype=torch.float32).eval()
    make_ends_likely(lm, stock, bias=1.0)
    rows = prompts(lm, tuple(range(1, 11)), seed=seed)
    answers = greedy(lm, rows, limit=30)
    assert len({len(answer.tokens) for answer in answers}) > 2
    assert [list(answer.tokens) for answer in answers] == [recomputed(lm, clip, 30) for clip in rows]


@pytest.mark.filterwarnings("ignore:Passing `repetition_penalty`:UserWarning")
def test_repetition_penalty_is_transformers(pair: tuple[FrozenLM, Any]) -> None:
    lm, stock = pair
    rows = prompts(lm, seed=3)
    with cached_attention(lm.decoder):
        answers = greedy(lm, rows, limit=LIMIT, repetition_penalty=1.3)
        plain = greedy(lm, rows, limit=LIMIT)
    assert [list(a.tokens) for a in answers] == [generated(stock, lm, clip, repetition_penalty=1.3) for clip in rows]
    assert answers != plain


def test_states_are_those_of_the_whole_sequence(pair: tuple[FrozenLM, Any]) -> None:
    lm, _ = pair
    rows = prompts(lm)
    extra = torch.randn(70, len(rows), lm.decoder.width, generator=torch.Generator().manual_seed(5)) * 0.5
    kept = [0, 2, 3, 4]
    with torch.no_grad(), cached_attention(lm.decoder):
        cache, states = open_cache(lm.decoder, rows)
        for number, inputs in enumerate(extra):
            if number == 3:
                cache.keep(torch.tensor(kept))
            states = cache.step(inputs if number < 3 else inputs[kept])
    with torch.no_grad():
        for row, i in enumerate(kept):
            whole = torch.cat([rows[i], extra[:, i]])
            torch.testing.assert_close(states[row], lm.decoder.states(whole, [len(whole)])[-1], atol=1e-4, rtol=1e-4)


def test_attention_is_given_back(lm_folders: dict[str, Path], config: AsrConfig) -> None:
    lm = open_decoder(replace(config, decoder=str(lm_folders["gpt2"])))
    rows = prompts(lm)
    before = lm.decoder.states(torch.cat(rows), LENGTHS)
    with cached_attention(lm.decoder):
        greedy(lm, rows, limit=3)
    assert torch.equal(before, lm.decoder.states(torch.cat(rows), LENGTHS))


def test_limit_cuts_and_says_so(lm: FrozenLM) -> None:
    rows = prompts(lm)
    long, short = greedy(lm, rows, limit=LIMIT), greedy(lm, rows, limit=4)
    assert any(answer.truncated for answer in short)
    for whole, cut in zip(long, short, strict=True):
        assert cut.tokens == whole.tokens[:4]
        assert cut.truncated == (len(whole.tokens) >= 4)


def test_groups_hold_every_clip_once_within_the_budget(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    every = utterances(corpus.task, corpus.frames, lm, config)
    groups = decode_groups(every, replace(config, decode_positions=120), limit=24)
    assert sorted(i for group in groups for i in group) == list(range(len(every)))
    assert len(groups) > 2
    for group in groups:
        assert len(group) * (max(every[i].inputs for i in group) + 1 + 24) <= 120
    assert decode_groups(every, replace(config, decode_positions=1), limit=24) == [
        [i] for group in groups for i in group
    ]


@pytest.fixture
def whole_line(corpus: Corpus, lm: FrozenLM) -> tuple[SwigluAdapter, Corpus, FrozenLM]:
    torch.manual_seed(0)
    return SwigluAdapter(corpus.frames.dim, hidden=16, decoder_width=lm.decoder.width, reduction=4), corpus, lm


def test_transcripts_do_not_depend_on_grouping(
    whole_line: tuple[SwigluAdapter, Corpus, FrozenLM], config: AsrConfig
) -> None:
    adapter, corpus, lm = whole_line
    every = utterances(corpus.task, corpus.frames, lm, config)
    together, cut = transcripts(adapter, lm, corpus.frames, every, config, limit=24)
    alone, cut_alone = transcripts(adapter, lm, corpus.frames, every, replace(config, decode_positions=1), limit=24)
    assert together == alone
    assert cut == cut_alone > 0
    assert transcripts(adapter, lm, corpus.frames, every[::-1], config, limit=24)[0] == together[::-1]


def test_audio_and_separator_are_what_training_shows(
    whole_line: tuple[SwigluAdapter, Corpus, FrozenLM], config: AsrConfig
) -> None:
    """Feed the whole answer of decoding to the training's forward: it must predict that answer, token by token."""
    adapter, corpus, lm = whole_line
    every = utterances(corpus.task, corpus.frames, lm, config)[:3]
    found, _ = transcripts(adapter, lm, corpus.frames, every, config, limit=24)
    with torch.no_grad():
        audio = adapter(pack(corpus.frames, every, "cpu"))
        rows = [torch.cat([part, lm.decoder.embedding[[lm.separator]]]) for part in audio.split()]
        answers = [answer.tokens for answer in greedy(lm, rows, limit=24)]
        turns = [Turn(prompt=(lm.separator,), answer=(*tokens, 0)) for tokens in answers]
        states, _ = lm.decoder.hidden(audio, turns)
        best = lm.decoder.lm.get_output_embeddings()(states).argmax(dim=-1)  # type: ignore[operator]
    for guess, tokens, text in zip(best.split([len(t) + 1 for t in answers]), answers, found, strict=True):
        assert tuple(guess.tolist()[:-1]) == tokens
        assert lm.decoder.tokenizer.decode(tokens, skip_special_tokens=True).strip() == text
