"""Foretold memory against tensors that running networks keep, and against the peak of a process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.autograd.graph import saved_tensors_hooks

from uniwhisper.model.decoder import Turn
from uniwhisper.model.flops import LmDims
from uniwhisper.model.sizes import ENCODERS, LMS
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.machine import MachineConfig
from uniwhisper.train.memory import count_parameters, step_memory
from uniwhisper.train.optim import OptimConfig
from uniwhisper.train.workload import Lengths

from . import peak

LM = LmDims.of(peak.LM)
LARGE, QWEN = ENCODERS["openai/whisper-large-v3"], LMS["Qwen/Qwen3-0.6B"]


def lengths(frames: list[int]) -> Lengths:
    text = peak.PROMPT + peak.ANSWER
    return Lengths(frames=tuple(frames), text_tokens=(text,) * len(frames), num_answer_tokens=peak.ANSWER * len(frames))


def config(precision: str = "bf16", **changes: Any) -> TrainConfig:
    return TrainConfig(precision=precision, adapter=peak.ADAPTER, **changes)


def kept_bytes(precision: str, frames: list[int], *, recompute: bool = False) -> int:
    """Return the bytes that a forward pass keeps for its backward, weights and their casts left out."""
    model = peak.network(precision)
    execution = replace(model.audio.encoder.execution, recompute=recompute)
    model.audio.encoder.execution = model.decoder.execution = execution
    lasting = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *model.buffers())}
    shapes = {p.shape for p in model.parameters()} | {torch.Size((3 * 256, 256))}
    found: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.untyped_storage().data_ptr() not in lasting and tensor.shape not in shapes:
            found[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    mels = [torch.randn(80, 2 * count) for count in frames]
    turns = [Turn(prompt=(5,) * peak.PROMPT, answer=(6,) * peak.ANSWER)] * len(frames)
    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model(mels, [0.0] * len(frames), turns)
    return sum(tensor.untyped_storage().nbytes() for tensor in found.values())


@pytest.mark.parametrize("precision", ["bf16", "fp32"])
@pytest.mark.parametrize("frames", [[150] * 6, [700], [400, 60, 30, 20], [2] * 20])
def test_activations_are_those_that_networks_keep(precision: str, frames: list[int]) -> None:
    memory = step_memory(config(precision), peak.ENCODER, LM, lengths(frames), device="cpu")
    kept = 4 * lengths(frames).num_answer_tokens * LM.vocabulary  # of the loss, its log-softmax
    assert memory.activations + kept == pytest.approx(kept_bytes(precision, frames), rel=0.12)


def test_recompute_keeps_the_inputs_of_layers() -> None:
    memory = step_memory(config(), peak.ENCODER, LM, lengths([300, 300]), device="cpu")
    kept = 4 * 2 * peak.ANSWER * LM.vocabulary
    during = memory.activations_recomputed - (memory.activations - memory.activations_recomputed) / 4  # one layer's own
    assert during + kept == pytest.approx(kept_bytes("bf16", [300, 300], recompute=True), rel=0.15)


def test_parameters_are_those_of_a_network() -> None:
    model = peak.network("fp32")
    found = count_parameters(peak.ENCODER, peak.ADAPTER, LM)
    assert found.encoder == sum(p.numel() for p in model.audio.encoder.parameters())
    assert found.subsampler == sum(p.numel() for p in model.audio.subsampler.parameters())
    assert found.adapter == sum(p.numel() for p in model.adapter.parameters())
    assert found.trained == sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert found.decoder == pytest.approx(sum(p.numel() for p in model.decoder.parameters()), rel=0.01)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's count of resident memory")
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_the_peak_of_a_process_is_within_a_quarter(precision: str) -> None:
    frames = [400] * 7
    words = [sys.executable, peak.__file__, precision, *map(str, frames)]
    root = Path(__file__).parents[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    run = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert run.returncode == 0, run.stderr[-2000:]
    measured = float(run.stdout.splitlines()[-1])
    memory = step_memory(config(precision), peak.ENCODER, LM, lengths(frames), device="cpu")
    assert memory.peak() == pytest.approx(measured, rel=0.25)


def test_the_papers_numbers() -> None:
    """Figures worked out apart from this code: optimiser states and activations of 32 windows of 30 s on one GPU."""
    batch = Lengths(frames=(1500,) * 32, text_tokens=(90,) * 32, num_answer_tokens=45 * 32)
    adamw = step_memory(config(), LARGE, QWEN, batch, device="cuda")
    eight = step_memory(config(optim=OptimConfig(kind="adamw8bit")), LARGE, QWEN, batch, device="cuda")
    assert adamw.optimizer == pytest.approx(5.14e9, rel=0.01)
    assert eight.optimizer == pytest.approx(1.29e9, rel=0.02)
    inputs = 48_000 * 1280
    decoder = adamw.activations - (38 * 32 + 18) * inputs
    assert adamw.activations - decoder == pytest.approx(67e9, rel=0.15)
    # Of all layers but one only the float32 input is left: twice the 3.9 GB that bfloat16 inputs would take.
    assert adamw.activations_recomputed - decoder == pytest.approx(2 * 3.9e9 * 31 / 32 + (38 + 18) * inputs, rel=0.02)
    assert adamw.logits == pytest.approx(1440 * 151_936 * 10)


def test_what_lowers_the_peak() -> None:
    batch = lengths([400] * 4)

    def peak_of(**changes: Any) -> float:
        return step_memory(config(**changes), peak.ENCODER, LM, batch, device="cuda").peak()

    plain = peak_of()
    execution = config().execution
    assert peak_of(execution=replace(execution, recompute=True)) < plain
    assert peak_of(execution=replace(execution, loss_chunk=8)) < plain
    assert peak_of(machine=MachineConfig(pieces=4)) < plain
    assert peak_of(optim=OptimConfig(kind="adamw8bit")) < plain
    assert peak_of(optim=OptimConfig(kind="adamw8bit_ao", weights="bf16")) < peak_of(
        optim=OptimConfig(kind="adamw8bit")
    )
    assert peak_of(execution=replace(execution, logits="all")) > plain
    assert peak_of(execution=replace(execution, encoder="padded")) > plain
    assert peak_of(ema_decay=0.9, original_share=0.1) - plain == 2 * 4 * (
        count_parameters(peak.ENCODER, peak.ADAPTER, LM).encoder + 2 * 256 * 256 + 256
    )
