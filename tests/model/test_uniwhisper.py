from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny import randomise
from uniwhisper.model import layer
from uniwhisper.model.decoder import load_decoder
from uniwhisper.model.dims import AdapterConfig
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.packing import Packed, segment_means
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper

LENGTHS = (20, 7, 33)
TEXTS = (("What is it?", "the dog"), ("Say it.", "no"), ("Which kind?", "a bell in the rain"))
SILENCE = [-0.5, -1.0, -1.5]


def build(folders: tuple[Path, Path], precision: torch.dtype | None = None) -> UniWhisper:
    torch.manual_seed(0)
    model = UniWhisper(
        audio=AudioModel(load_encoder(folders[0])),
        decoder=load_decoder(folders[1], dtype=precision or torch.float32),
        adapter=AdapterConfig(hidden=16, reduction=2),
        precision=precision,
    )
    randomise(model.adapter, 2)
    return model


def mels() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(80, length, generator=generator) * 0.5 for length in LENGTHS]


def test_forward_is_the_chain_of_its_parts(folders: tuple[Path, Path]) -> None:
    model = build(folders)
    turns = [model.decoder.turn(*text) for text in TEXTS]
    with torch.no_grad():
        frames = model.audio.encoder(mels(), SILENCE)
        chain = model.adapter(model.audio.subsampler(frames))
        assert chain.lengths == (3, 1, 5)  # 100 Hz -> 50 Hz -> 25 Hz -> 12.5 Hz, rounded up each time
        losses, means = model(mels(), SILENCE, turns)
        assert torch.equal(losses, model.decoder.answer_losses(chain, turns))
        assert torch.equal(means, segment_means(model.audio(mels(), SILENCE)))


def test_loss_of_an_example_does_not_depend_on_the_batch(folders: tuple[Path, Path]) -> None:
    model = build(folders)
    turns = [model.decoder.turn(*text) for text in TEXTS]
    with torch.no_grad():
        together = model(mels(), SILENCE, turns).tokens.split([len(turn.answer) for turn in turns])
        for n, part in enumerate(together):
            solo = model([mels()[n]], [SILENCE[n]], [turns[n]]).tokens
            torch.testing.assert_close(solo, part, atol=1e-5, rtol=0)


def test_gradient_reaches_encoder_and_adapter_and_not_the_decoder(folders: tuple[Path, Path]) -> None:
    model = build(folders)
    model.train()
    losses = model(mels(), SILENCE, [model.decoder.turn(*text) for text in TEXTS])
    assert not losses.means.requires_grad
    losses.tokens.mean().backward()
    for name, parameter in model.named_parameters():
        if name.startswith("decoder.") or "embed_positions" in name:
            assert parameter.grad is None, name
        else:
            assert parameter.grad is not None, name
            assert float(parameter.grad.abs().max()) > 0, name


def test_frozen_audio_gets_no_gradient_and_can_be_thawed(folders: tuple[Path, Path]) -> None:
    model = build(folders)
    turns = [model.decoder.turn(*text) for text in TEXTS]
    model.freeze_audio(True)
    frozen = model(mels(), SILENCE, turns).tokens
    frozen.mean().backward()
    assert all(parameter.grad is None for parameter in model.audio.parameters())
    assert all(parameter.grad is not None for parameter in model.adapter.parameters())
    model.freeze_audio(False)
    thawed = model(mels(), SILENCE, turns).tokens
    thawed.mean().backward()
    assert torch.equal(frozen, thawed)
    assert model.audio.encoder.conv1.weight.grad is not None


def test_trainable_state_is_everything_but_the_decoder(folders: tuple[Path, Path]) -> None:
    model, other = build(folders), build(folders)
    state = model.trainable_state()
    assert {name.partition(".")[0] for name in state} == {"audio", "adapter"}
    assert set(state) == {name for name in model.state_dict() if not name.startswith("decoder.")}
    randomise(other.audio, 9)
    other.load_state_dict(state, strict=False)
    assert all(torch.equal(value, state[name]) for name, value in other.trainable_state().items())


def test_bf16_keeps_float32_master_weights(folders: tuple[Path, Path]) -> None:
    model, exact = build(folders, torch.bfloat16), build(folders)
    turns = [model.decoder.turn(*text) for text in TEXTS]
    losses, means = model(mels(), SILENCE, turns)
    losses.mean().backward()
    assert losses.dtype == means.dtype == torch.float32
    assert {p.dtype for p in (*model.audio.parameters(), *model.adapter.parameters())} == {torch.float32}
    assert model.adapter.skip.weight.grad is not None
    assert model.adapter.skip.weight.grad.dtype == torch.float32
    reference = exact(mels(), SILENCE, turns).tokens
    torch.testing.assert_close(losses.mean(), reference.mean(), atol=0.05, rtol=0)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_precision_is_that_of_encoder_and_adapter(
    folders: tuple[Path, Path], precision: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build(folders, precision)
    seen: list[torch.dtype] = []
    finish = layer._finish

    def noted(x: Tensor, attended: Tensor, *weights: Any) -> Tensor:
        seen.append(attended.dtype)
        return finish(x, attended, *weights)

    def no_losses(inputs: Packed, turns: list[Any]) -> Tensor:
        seen.append(inputs.values.dtype)
        return torch.zeros(len(turns))

    monkeypatch.setattr(layer, "_finish", noted)
    monkeypatch.setattr(model.decoder, "answer_losses", no_losses)
    model(mels(), SILENCE, [])
    assert seen == [precision or torch.float32] * 3  # two layers and the adapter
