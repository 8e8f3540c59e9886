"""Gradients and updates of batches computed side by side are those of batches computed in turn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import load_file

from uniwhisper.train.config import TrainConfig
from uniwhisper.train.data import training_data
from uniwhisper.train.gradients import accumulate_gradients
from uniwhisper.train.loop import train
from uniwhisper.train.parallel import parallelise
from uniwhisper.train.start import build_feed, build_model
from uniwhisper.train.world import World as Ranks

from .conftest import World


@pytest.mark.parametrize("parallel", [1, 2])
def test_gradients_lie_in_memory_as_their_parameters_do(
    world: World, config: Callable[..., TrainConfig], parallel: int
) -> None:
    """Fused AdamW pairs weights and gradients by their place in memory, whatever their strides say."""
    made = config(accumulation=2)
    model = build_model(made)
    _, feed = build_feed(made, model, training_data(world.clips))
    network = parallelise(model, Ranks(), made.machine)
    group = [feed.batch(number) for number in range(2)]
    total = sum(batch.num_answer_tokens for batch in group)
    accumulate_gradients(network, group, world=Ranks(), total=total, parallel=parallel)
    named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
    assert [name for name, p in named if p.grad is not None and p.grad.stride() != p.stride()] == []


def test_side_by_side_learns_what_one_by_one_learns(
    world: World, config: Callable[..., TrainConfig], tmp_path: Path
) -> None:
    found = [
        load_file(
            train(
                config(accumulation=3, parallel=parallel, optim={"steps": 8, "align_steps": 2}),
                world.clips,
                tmp_path / str(parallel),
                quiet=True,
            )
            / "model.safetensors"
        )
        for parallel in (1, 2)
    ]
    for name, value in found[0].items():
        assert float((value - found[1][name]).abs().max()) < 1e-4, name
