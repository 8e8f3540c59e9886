"""Counted operations against torch's own counter in running networks, and against figures worked out apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tiny import tiny_lm
from uniwhisper.errors import WeightsError
from uniwhisper.model.adapter import Adapter, Subsampler
from uniwhisper.model.decoder import Turn, load_decoder
from uniwhisper.model.dims import AdapterConfig, EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.execution import ExecutionConfig
from uniwhisper.model.flops import LmDims, StepFlops, adapter_flops, encoder_flops, lm_flops
from uniwhisper.model.packing import Packed
from uniwhisper.model.sizes import ENCODERS, LMS
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper

LARGE = ENCODERS["openai/whisper-large-v3"]
QWEN = LMS["Qwen/Qwen3-0.6B"]
DIMS = EncoderDims(n_mels=80, n_audio_ctx=200, n_audio_state=64, n_audio_head=4, n_audio_layer=3)
PRODUCTS = ExecutionConfig(attention="products")
"""torch's counter does not know the CPU's fused attention; matrix products it counts."""


def counted(run: Any) -> float:
    """Return what torch's counter finds in `run` and its backward."""
    with FlopCounterMode(display=False) as counter:
        run().sum().backward()
    return float(counter.get_total_flops())


@pytest.mark.parametrize("frames", [[40], [60, 25, 90]])
def test_encoder_matches_torchs_count(frames: list[int]) -> None:
    encoder = AudioEncoder(DIMS, PRODUCTS)
    mels = [torch.randn(80, 2 * count) for count in frames]
    found = counted(lambda: encoder(mels, [0.0] * len(mels)).values)
    # The packed convolutions also compute the few frames between clips.
    assert encoder_flops(DIMS, frames) == pytest.approx(found, rel=0.03)
    assert encoder_flops(DIMS, frames) <= found


def test_a_frozen_encoder_counts_one_forward() -> None:
    encoder = AudioEncoder(DIMS, PRODUCTS)
    mels = [torch.randn(80, 120)]
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        encoder(mels, [0.0])
    assert encoder_flops(DIMS, [60], frozen=True) == pytest.approx(counter.get_total_flops(), rel=0.03)


@pytest.mark.parametrize("frozen_layers", [1, 2])
def test_frozen_layers_count_forward_only(frozen_layers: int) -> None:
    encoder = AudioEncoder(DIMS, PRODUCTS)
    for part in (encoder.conv1, encoder.conv2, *list(encoder.layers)[:frozen_layers]):
        part.requires_grad_(False)
    mels = [torch.randn(80, 120)]
    found = counted(lambda: encoder(mels, [0.0]).values)
    # The first layer that learns needs no gradient of its input from the projections, which is not modelled.
    assert encoder_flops(DIMS, [60], frozen_layers=frozen_layers) == pytest.approx(found, rel=0.08)


@pytest.mark.parametrize("reduction", [1, 4])
def test_adapter_matches_torchs_count(reduction: int) -> None:
    config = AdapterConfig(reduction=reduction, hidden=96)
    lm = LmDims(layers=1, width=48, hidden=1, heads=1, kv_heads=1, head_dim=1, vocabulary=1)
    subsampler, adapter = Subsampler(64), Adapter(width=64, decoder_width=48, config=config)
    x = torch.randn(75, 64, requires_grad=True)
    found = counted(lambda: adapter(subsampler(Packed(values=x, lengths=(50, 25)))).values)
    assert adapter_flops(DIMS, config, lm, [50, 25]) == pytest.approx(found, rel=0.01)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3", "gpt2"])
def test_lm_matches_torchs_count(kind: str, tmp_path: Path) -> None:
    decoder = load_decoder(tiny_lm(tmp_path, kind=kind))
    decoder.execution = PRODUCTS
    dims = LmDims.of(decoder.lm.config)
    x = torch.randn(30, decoder.width, requires_grad=True)
    head: Any = decoder.lm.get_output_embeddings()  # type: ignore[operator]
    found = counted(lambda: head(decoder.states(x, [30])[-7:]))
    # The plain products compute the whole square of causal attention; half of it counts here.
    other_half = 3 * dims.layers * 2 * dims.heads * dims.head_dim * 30**2
    assert lm_flops(dims, [30], 7) + other_half == pytest.approx(found, rel=0.01)


def test_lm_parameters_match_a_model(tmp_path: Path) -> None:
    for kind in ("llama", "qwen2", "qwen3", "gpt2"):
        lm = load_decoder(tiny_lm(tmp_path / kind, kind=kind, width=128)).lm
        learnt_positions = 1024 * 128 if kind == "gpt2" else 0
        total = sum(p.numel() for p in lm.parameters()) - learnt_positions
        assert LmDims.of(lm.config).parameters == pytest.approx(total, rel=0.02), kind


def test_step_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    decoder = load_decoder(tiny_lm(tmp_path, chat=True))
    config = AdapterConfig(reduction=2, hidden=32)
    model = UniWhisper(
        audio=AudioModel(AudioEncoder(DIMS)), decoder=decoder, adapter=config, precision=None, execution=PRODUCTS
    )
    turns = [Turn(prompt=(5, 6, 7), answer=(8, 9))] * 2
    mels = [torch.randn(80, 119)] * 2
    lm = LmDims.of(decoder.lm.config)
    counter = StepFlops(DIMS, config, lm, opening=len(decoder.dialogue.opening))
    positions = len(decoder.dialogue.opening) + 15 + 4
    causal_half = 3 * lm.layers * 2 * lm.heads * lm.head_dim * 2 * positions**2
    for frozen in (False, True):
        model.freeze_audio(frozen)
        found = counted(lambda: model(mels, [0.0, 0.0], turns).tokens)
        assert counter.of([119, 119], turns, audio_frozen=frozen) + causal_half == pytest.approx(found, rel=0.03)


def test_positions_of_a_step() -> None:
    """Opening, audio and text, without the last answer token, which nothing follows."""
    config = AdapterConfig(reduction=4)
    found = StepFlops(DIMS, config, QWEN, opening=3).of([119, 7], [Turn(prompt=(1,) * 5, answer=(2, 3))] * 2)
    audio = encoder_flops(DIMS, [60, 4]) + adapter_flops(DIMS, config, QWEN, [60, 4])
    assert found - audio == lm_flops(QWEN, [3 + 8 + 6, 3 + 1 + 6], 4)


def test_the_papers_networks() -> None:
    """Figures worked out apart from this code: 30 s windows, 45 tokens of prompt and 45 of answer."""
    assert encoder_flops(LARGE, [1500]) == pytest.approx(6.82e12, rel=0.005)
    assert lm_flops(QWEN, [840], 0) == pytest.approx(1.72e12, rel=0.005)
    assert lm_flops(QWEN, [840], 45) - lm_flops(QWEN, [840], 0) == pytest.approx(0.028e12, rel=0.01)
    step = StepFlops(LARGE, AdapterConfig(), QWEN)
    assert step.of_lengths([1500], [90], 45) == pytest.approx(8.62e12, rel=0.005)
    # True lengths of 18 s on average, with a mean square of 1.35 times the squared mean.
    spread = 18 * (0.35**0.5)
    frames = [round(50 * (18 - spread)), round(50 * (18 + spread))]
    assert np.mean(frames) == 900
    assert step.of_lengths(frames, [90, 90], 90) / 2 == pytest.approx(5.10e12, rel=0.01)


def test_names_of_other_families() -> None:
    gpt2 = {"model_type": "gpt2", "n_layer": 12, "n_embd": 768, "n_head": 12, "n_inner": None, "vocab_size": 50257}
    dims = LmDims.of(gpt2)
    assert (dims.hidden, dims.kv_heads, dims.head_dim, dims.gated, dims.tied) == (3072, 12, 64, False, True)
    assert dims.parameters == pytest.approx(124.4e6, rel=0.01)
    opt = {"model_type": "opt", "num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12}
    assert LmDims.of(opt | {"ffn_dim": 3072, "vocab_size": 50272}).matrices == dims.matrices
    inner = {"model_type": "qwen3", "num_hidden_layers": 28, "hidden_size": 1024, "num_attention_heads": 16}
    inner |= {"num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 3072, "vocab_size": 151936}
    assert LmDims.of({"text_config": inner | {"tie_word_embeddings": True}}) == QWEN


def test_a_configuration_of_something_else_is_refused() -> None:
    with pytest.raises(WeightsError, match=r"num_hidden_layers, n_layer.*of a resnet, found none"):
        LmDims.of({"model_type": "resnet", "hidden_sizes": [1, 2]})
