"""Training: packed equals padded, pieces equal the whole, the LM never changes, the validation part alone chooses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoModelForCausalLM

from uniwhisper.errors import TrainingError
from uniwhisper.evaluate.asr import fit as fit_module
from uniwhisper.evaluate.asr.adapter import SwigluAdapter
from uniwhisper.evaluate.asr.config import STRICT, XARES, AsrConfig
from uniwhisper.evaluate.asr.decoders import FrozenLM, open_decoder
from uniwhisper.evaluate.asr.examples import Utterance, pack, utterances
from uniwhisper.evaluate.asr.fit import fit, learning_rate, piece_losses, train_step

from .conftest import Corpus


def parts(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> tuple[list[Utterance], list[Utterance]]:
    every = utterances(corpus.task, corpus.frames, lm, config)
    fold = corpus.plan.folds[0]
    return [every[i] for i in fold.train], [every[i] for i in fold.valid]


def padded_losses(stock: Any, adapter: SwigluAdapter, corpus: Corpus, chosen: list[Utterance]) -> Tensor:
    """Return the loss of every answer token from transformers' model on a batch padded on the right."""
    table = stock.get_input_embeddings().weight
    embeds, labels = [], []
    for utterance in chosen:
        audio = adapter(pack(corpus.frames, [utterance], "cpu")).values
        text = torch.tensor(utterance.turn.prompt + utterance.turn.answer)
        embeds.append(torch.cat([audio, table[text]]))
        row = torch.full((len(embeds[-1]),), -100)
        row[-len(utterance.turn.answer) :] = torch.tensor(utterance.turn.answer)
        labels.append(row)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in labels], batch_first=True)
    inputs = pad_sequence(embeds, batch_first=True)
    positions = torch.arange(inputs.shape[1]).expand(len(inputs), -1)
    logits = stock(inputs_embeds=inputs, attention_mask=mask, position_ids=positions, use_cache=False).logits
    wanted = pad_sequence(labels, batch_first=True, padding_value=-100)[:, 1:]
    losses = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), wanted.flatten(), reduction="none")
    return losses[wanted.flatten() != -100]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2"])
@pytest.mark.parametrize("predict_separator", [False, True])
def test_packed_loss_is_the_padded_loss(
    lm_folders: dict[str, Path], corpus: Corpus, config: AsrConfig, kind: str, predict_separator: bool
) -> None:
    settings = replace(config, decoder=str(lm_folders[kind]), predict_separator=predict_separator)
    lm = open_decoder(settings)
    stock = AutoModelForCausalLM.from_pretrained(lm_folders[kind], dtype=torch.float32).eval()
    torch.manual_seed(0)
    adapter = SwigluAdapter(corpus.frames.dim, hidden=16, decoder_width=lm.decoder.width, reduction=2)
    train, _ = parts(corpus, lm, settings)
    ours, theirs = (
        piece_losses(adapter, lm, corpus.frames, train, settings),
        padded_losses(stock, adapter, corpus, train),
    )
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    parameters = list(adapter.parameters())
    gradients = [torch.autograd.grad(loss.mean(), parameters) for loss in (ours, theirs)]
    for mine, other in zip(*gradients, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-6, rtol=1e-3)


def test_pieces_of_a_step_add_up_to_the_whole(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    train, _ = parts(corpus, lm, config)
    results = []
    for pieces in ([train], [train[:3], train[3:]]):
        torch.manual_seed(0)
        adapter = SwigluAdapter(corpus.frames.dim, hidden=16, decoder_width=lm.decoder.width, reduction=4)
        optimizer = torch.optim.SGD(adapter.parameters(), lr=0.1)
        loss, count = train_step(adapter, optimizer, lm, corpus.frames, pieces, config, rate=0.1)
        results.append((loss, adapter.proj.weight.detach().clone()))
        assert count == sum(len(utterance.turn.answer) for utterance in train)
    assert results[0][0] == pytest.approx(results[1][0], rel=1e-5)
    torch.testing.assert_close(results[0][1], results[1][1], atol=1e-6, rtol=1e-4)


def test_lm_never_changes_and_has_no_optimiser_state(
    corpus: Corpus, lm: FrozenLM, config: AsrConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: value.clone() for name, value in lm.decoder.state_dict().items()}
    seen: list[set[int]] = []
    real = torch.optim.Adam

    def spy(parameters: Any, **settings: Any) -> torch.optim.Adam:
        chosen = list(parameters)
        seen.append({id(parameter) for parameter in chosen})
        return real(chosen, **settings)

    monkeypatch.setattr(torch.optim, "Adam", spy)
    train, valid = parts(corpus, lm, config)
    fitted = fit(lm, corpus.frames, train, valid, config, seed=0)
    assert seen == [{id(parameter) for parameter in fitted.adapter.parameters()}]
    assert all(torch.equal(before[name], value) for name, value in lm.decoder.state_dict().items())
    assert all(parameter.grad is None for parameter in lm.decoder.parameters())


def learnable(config: AsrConfig) -> AsrConfig:
    return replace(config, epochs=40, learning_rate=0.01, patience_epochs=0, reduction=2, batch_positions=256)


def test_learns_to_transcribe_clips_it_has_not_heard(
    make_corpus: Callable[..., Corpus], lm: FrozenLM, config: AsrConfig
) -> None:
    corpus = make_corpus(32, texts=("a", "b", "c", "d"))
    train, valid = parts(corpus, lm, config)
    fitted = fit(lm, corpus.frames, train, valid, learnable(config), seed=0)
    first, chosen = fitted.epochs[0], fitted.epochs[fitted.chosen - 1]
    assert fitted.epochs[-1].train_loss < 0.1 * first.train_loss
    assert first.valid_wer is not None
    assert first.valid_wer > 1
    assert chosen.valid_wer == 0.0


def test_same_seed_same_bits_on_any_number_of_threads(
    corpus: Corpus, lm: FrozenLM, config: AsrConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, valid = parts(corpus, lm, config)
    states = []
    for threads, seed in (("1", 0), ("2", 0), ("1", 1)):
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
        fitted = fit(lm, corpus.frames, train, valid, config, seed=seed)
        states.append((fitted.adapter.state_dict(), fitted.epochs))
    assert states[0][1] == states[1][1]
    assert all(torch.equal(value, states[1][0][name]) for name, value in states[0][0].items())
    assert not torch.equal(states[0][0]["fc1.weight"], states[2][0]["fc1.weight"])


def test_seed_decides_the_initial_weights(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    train, _ = parts(corpus, lm, config)
    first, again, other = (fit_module._build(lm, corpus.frames, train, config, seed, "cpu") for seed in (0, 0, 1))
    assert torch.equal(first.fc1.weight, again.fc1.weight)
    assert not torch.equal(first.fc1.weight, other.fc1.weight)


def test_global_random_state_is_neither_read_nor_moved(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    train, valid = parts(corpus, lm, config)
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    fit(lm, corpus.frames, train, valid, config, seed=0)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(("selection", "chosen", "ran"), [("wer", 2, 4), ("loss", 2, 4), ("last", 6, 6)])
def test_best_epoch_is_kept_and_patience_ends_training(
    corpus: Corpus,
    lm: FrozenLM,
    config: AsrConfig,
    monkeypatch: pytest.MonkeyPatch,
    selection: Any,
    chosen: int,
    ran: int,
) -> None:
    scores, states = iter([0.45, 0.3, 0.3, 0.4, 0.1, 0.1]), []

    def validate(adapter: SwigluAdapter, *_: Any) -> tuple[float | None, float | None]:
        states.append(adapter.proj.weight.detach().clone())
        score = next(scores)
        return (score, None) if selection == "loss" else (None, score)

    monkeypatch.setattr(fit_module, "_validate", validate)
    train, valid = parts(corpus, lm, config)
    settings = replace(config, epochs=6, patience_epochs=2 if selection != "last" else 0, selection=selection)
    fitted = fit(lm, corpus.frames, train, valid, settings, seed=0)
    assert fitted.chosen == chosen
    assert len(fitted.epochs) == ran
    assert torch.equal(fitted.adapter.proj.weight, states[chosen - 1])


def test_until_half_of_the_words_are_right_the_loss_chooses(
    corpus: Corpus, lm: FrozenLM, config: AsrConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    # babbling more or less says little while nothing is understood; then the word error rate counts, whatever the loss
    found = iter([(6.0, 1.0), (5.0, 1.9), (4.0, 0.6), (4.5, 0.45), (4.4, 0.46), (3.0, 0.5)])
    monkeypatch.setattr(fit_module, "_validate", lambda *_: next(found))
    train, valid = parts(corpus, lm, config)
    settings = replace(config, epochs=6, patience_epochs=3, selection="wer")
    assert fit(lm, corpus.frames, train, valid, settings, seed=0).chosen == 4
    found = iter([(6.0, 1.0), (5.0, 1.9), (4.0, 1.2), (4.5, 1.0), (4.4, 1.0), (4.6, 1.0)])
    assert fit(lm, corpus.frames, train, valid, settings, seed=0).chosen == 3


def test_teacher_forcing_reads_the_true_words(corpus: Corpus, lm: FrozenLM, config: AsrConfig) -> None:
    settings = replace(learnable(config), selection="teacher_forced", predict_separator=True, lower_case=False)
    every = utterances(corpus.task, corpus.frames, lm, settings)
    fold = corpus.plan.folds[0]
    fitted = fit(lm, corpus.frames, [every[i] for i in fold.train], [every[i] for i in fold.valid], settings, seed=0)
    rates = [epoch.valid_wer for epoch in fitted.epochs]
    assert all(rate is not None for rate in rates)
    assert min(rates) < rates[0]  # type: ignore[type-var,operator]
    assert fitted.chosen == 1 + rates.index(min(rates))  # type: ignore[type-var]


def test_a_loss_that_is_no_number_stops_with_the_reason(
    corpus: Corpus, lm: FrozenLM, config: AsrConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "train_step", lambda *args, **kwargs: (math.nan, 3))
    train, valid = parts(corpus, lm, config)
    with pytest.raises(TrainingError, match=r"seed 5, step 1: expected a finite loss, found nan\. Lower"):
        fit(lm, corpus.frames, train, valid, config, seed=5)


def test_schedules() -> None:
    strict = replace(STRICT, warmup_steps=3, epochs=10)
    rates = [learning_rate(strict, step=i, steps=100, epoch=i // 10) / 1e-3 for i in range(100)]
    assert rates[0] == pytest.approx(0.25)
    assert max(rates) == rates[3] == pytest.approx(0.9978, abs=1e-3)
    assert rates[50] == pytest.approx(0.5)
    assert 0 < rates[-1] < 0.001
    short = [learning_rate(replace(STRICT, warmup_steps=50), step=i, steps=20, epoch=0) / 1e-3 for i in range(20)]
    assert max(short) == short[2] > 0.9, "a training shorter than its warm-up must still train"
    # ignite: start + (end - start) / 2 * (1 - cos(pi * epoch / epochs)), from 1e-3 towards 1e-4
    by_epoch = [learning_rate(XARES, step=i, steps=100, epoch=i // 10) for i in range(100)]
    for epoch in range(10):
        expected = 1e-3 + (1e-4 - 1e-3) / 2 * (1 - math.cos(math.pi * epoch / 10))
        assert by_epoch[10 * epoch : 10 * epoch + 10] == [pytest.approx(expected)] * 10


def test_bfloat16_trains_too(corpus: Corpus, config: AsrConfig) -> None:
    settings = replace(config, precision="bf16", epochs=1)
    lm = open_decoder(settings)
    train, valid = parts(corpus, lm, settings)
    fitted = fit(lm, corpus.frames, train, valid, settings, seed=0)
    assert {parameter.dtype for parameter in fitted.adapter.parameters()} == {torch.float32}
    full = fit(open_decoder(replace(settings, precision="fp32")), corpus.frames, train, valid, config, seed=0)
    assert fitted.epochs[0].train_loss == pytest.approx(full.epochs[0].train_loss, rel=0.05)
