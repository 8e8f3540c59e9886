"""The GPU benchmark, run with a toy on a CPU: so that it still runs where there is a GPU."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import bench_gpu_step  # type: ignore[import-not-found]
from random_run import LARGE, TINY, random_run  # type: ignore[import-not-found]
from tiny import tiny_clips
from uniwhisper.batches import BatchConfig
from uniwhisper.model.flops import StepFlops
from uniwhisper.recipes import make_config
from uniwhisper.shards import write_shards
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.gradients import accumulate_gradients
from uniwhisper.train.world import World

FAST = ["--tiny", "--set", "optim.kind=adamw"]


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of every table's rows by their first cell."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {cells[0]: cells[1:] for cells in found}


def test_large_shape_is_the_papers() -> None:
    config = make_config("uniwhisper_large_v3")
    encoder, lm = LARGE.encoder, LARGE.lm
    assert (encoder.n_mels, encoder.n_audio_state, encoder.n_audio_layer, encoder.n_audio_head) == (128, 1280, 32, 20)
    assert (lm.layers, lm.width, lm.hidden, lm.heads, lm.kv_heads, lm.head_dim) == (28, 1024, 3072, 16, 8, 128)
    flops = StepFlops(encoder, config.adapter, lm).of_lengths([1500], [90], 45)
    assert flops == pytest.approx(8.62e12, rel=0.01)  # a padded clip of 30 s with 45 + 45 tokens


def small() -> TrainConfig:
    config = bench_gpu_step.with_fields(make_config("uniwhisper_large_v3"), optim={"kind": "adamw"})
    return replace(config, precision="fp32", batches=BatchConfig(tokens=400, text_tokens=45))


def test_tricks_change_the_loss_by_rounding_alone() -> None:
    """What the table compares is one and the same step."""
    losses = {}
    for name, config in bench_gpu_step.tricks(small(), torch.device("cpu")).items():
        if (
            config.execution.compile
            or config.execution.attention in ("varlen", "flash")
            or config.optim.kind != "adamw"
        ):
            continue
        lengths_s = np.linspace(0.5, 3.0, 16)
        run, feed = random_run(TINY, config, lengths_s, World(), prompt_tokens=5, answer_tokens=4)
        group = [feed.batch(0)]
        total = group[0].num_answer_tokens
        pieces = config.machine.pieces
        found = accumulate_gradients(run.network, group, world=run.world, total=total, pieces=pieces)
        losses[name] = found.per_example
        assert len(found.per_example) > 1
    assert len(losses) > 8
    for name, values in losses.items():
        assert torch.allclose(values, losses[bench_gpu_step.AS_IT_IS], atol=2e-5), name


def test_every_trick_is_a_change() -> None:
    for device in ("cpu", "cuda"):
        found = bench_gpu_step.tricks(small(), torch.device(device))
        same = [name for name, config in found.items() if config == small()]
        assert same == [bench_gpu_step.AS_IT_IS, f"{bench_gpu_step.AS_IT_IS}, again"]


@pytest.mark.slow
def test_all_parts_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shards = write_shards(tiny_clips(tmp_path / "clips"), tmp_path / "shards", workers=1).folder
    text = bench_gpu_step.main([*FAST, "--data", str(shards)])
    found = rows(text)
    assert text in capsys.readouterr().out.replace("\n\n\n", "\n\n")
    for name in ("9.3", "30", "1", "2", "as it is", "encoder in 30 s windows", "all of them off", "in 2 pieces"):
        assert re.fullmatch(r"[\d.]+", found[name][0]), (name, found[name])
    assert found["attention by varlen"][0] == "not here: it needs an NVIDIA GPU"
    assert found["as it is"][1] == "1.00"
    assert {"random clips", "shards"} <= found.keys()
    assert re.fullmatch(r"[\d.]+", found["shards"][0]), found["shards"]


def test_memory_that_runs_out_is_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size that does not fit ends the table of sizes, with the rows before it kept."""
    import timed_steps  # type: ignore[import-not-found]

    step = timed_steps.train_step

    def full(run: object, group: list[object], **rest: object) -> object:
        if sum(len(batch.turns) for batch in group) > 3:  # type: ignore[attr-defined]
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return step(run, group, **rest)

    monkeypatch.setattr(timed_steps, "train_step", full)
    text = bench_gpu_step.main([*FAST, "--parts", "sizes"])
    found = rows(text)
    assert re.fullmatch(r"[\d.]+", found["1"][0])
    assert found["2"][0] == "out of memory"
