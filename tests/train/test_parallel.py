from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from uniwhisper.batches import for_rank
from uniwhisper.errors import ConfigError
from uniwhisper.model.execution import ExecutionConfig
from uniwhisper.train.gradients import accumulate_gradients
from uniwhisper.train.machine import MachineConfig
from uniwhisper.train.parallel import check_split, full_tensors, parallelise
from uniwhisper.train.world import World, joined_world

from .networks import batches, tiny_network
from .ranks import ranks

PHASES = (True, True, False, False, True, False)
"""Whether the audio model is frozen in each step: alignment, then everything, and back, which no run does."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One way to spread a step."""

    sharding: str = "ddp"
    accumulation: int = 4
    parallel: int = 1
    pieces: int = 1
    recompute: bool = False


DDP, FSDP = Case(), Case(sharding="fsdp")
CASES = {
    "ddp": DDP,
    "ddp, one rank has a batch more": Case(accumulation=3),
    "ddp in pieces": Case(pieces=3),
    "fsdp": FSDP,
    "fsdp in pieces": Case(sharding="fsdp", pieces=3),
    "fsdp, layers computed again": Case(sharding="fsdp", recompute=True),
    "threads": Case(parallel=2),
    "threads, one rank has a batch more": Case(parallel=2, accumulation=3, pieces=2),
}


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What a few steps found; numpy, so that it travels between processes."""

    gradients: list[dict[str, np.ndarray]]
    losses: list[dict[str, tuple[float, list[float]]]]
    """For every step and clip its loss and mean frame."""
    weights: dict[str, np.ndarray]
    shards: set[int]
    """How many parameters this rank holds only a part of between steps."""
    decoder_moved: bool


def learn(world: World, case: Case) -> Learnt:
    """Do a few steps of gradient descent."""
    machine = MachineConfig(device="cpu", sharding=case.sharding)
    check_split(case.accumulation, world, machine, parallel=case.parallel)
    model = tiny_network(seed=3 if world.is_main else 4)
    world.broadcast(model.trainable_state())
    if not world.is_main:  # the decoder is nobody's to send
        model.decoder.load_state_dict(tiny_network(seed=3).decoder.state_dict())
    model.audio.encoder.execution = ExecutionConfig(recompute=case.recompute)
    before = {name: value.clone() for name, value in model.decoder.state_dict().items()}
    network = parallelise(model, world, machine)
    gradients, losses, shards = [], [], set()
    made = batches(len(PHASES) * case.accumulation)
    for step, frozen in enumerate(PHASES):
        numbers = for_rank(step, rank=world.rank, world_size=world.size, accumulation=case.accumulation)
        group = [made[number] for number in numbers]
        network.phase(frozen=frozen)
        total = int(world.sum(torch.tensor(sum(batch.num_answer_tokens for batch in group))))
        found = accumulate_gradients(
            network, group, world=world, total=total, parallel=case.parallel, pieces=case.pieces
        )
        clips = [example.clip_id for batch in group for example in batch.examples]
        figures = zip(found.per_example.tolist(), found.means.tolist(), strict=True)
        losses.append(dict(zip(clips, figures, strict=True)))
        gradients.append(numbers_of({n: p.grad for n, p in model.named_parameters() if p.grad is not None}))
        shards.add(sum(hasattr(parameter, "full_tensor") for parameter in model.parameters()))
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.grad is not None:
                    parameter.add_(parameter.grad, alpha=-0.1)
    return Learnt(
        gradients=gradients,
        losses=losses,
        weights=numbers_of(model.trainable_state()),
        shards=shards,
        decoder_moved=any(not torch.equal(value, before[n]) for n, value in model.decoder.state_dict().items()),
    )


def numbers_of(tensors: dict[str, Any]) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in full_tensors(tensors).items()}


def learn_all(rank: int) -> dict[str, Learnt]:
    """Do all cases on one meeting of ranks."""
    with joined_world(MachineConfig(device="cpu")) as world:
        return {name: learn(world, case) for name, case in CASES.items()}


@pytest.fixture(scope="module")
def both() -> list[dict[str, Learnt]]:
    return ranks(learn_all, 2)


@pytest.mark.parametrize("name", CASES)
def test_two_ranks_learn_what_one_learns(name: str, both: list[dict[str, Learnt]]) -> None:
    case = CASES[name]
    alone = learn(World(), Case(accumulation=case.accumulation))
    first, second = (rank[name] for rank in both)
    for step, expected in enumerate(alone.gradients):
        assert max(float(np.abs(grad).max()) for grad in expected.values()) > 1e-2
        assert any(key.startswith("audio.") for key in expected) != PHASES[step]
        for found in (first.gradients[step], second.gradients[step]):
            assert_close(found, expected, 1e-6)
    assert_close(first.weights, alone.weights, 2e-6)
    assert all(np.array_equal(first.weights[key], second.weights[key]) for key in first.weights)
    for step, clips in enumerate(alone.losses):
        found = first.losses[step] | second.losses[step]
        assert set(found) == set(clips)
        assert not set(first.losses[step]) & set(second.losses[step])
        for clip, (loss, mean) in clips.items():
            assert found[clip][0] == pytest.approx(loss, abs=1e-5)
            np.testing.assert_allclose(found[clip][1], mean, atol=1e-5)


def assert_close(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], atol: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=atol, rtol=0, err_msg=name)


def test_examples_stay_in_order(both: list[dict[str, Learnt]]) -> None:
    whole, parts = both[0]["ddp"].losses, both[0]["ddp in pieces"].losses
    assert [list(step) for step in whole] == [list(step) for step in parts]
    assert [next(iter(step)) for step in whole][:2] == ["0-0", "4-0"]
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose([v[0] for v in one.values()], [v[0] for v in other.values()], atol=1e-5)


def test_decoder_is_whole_and_untouched_on_every_rank(both: list[dict[str, Learnt]]) -> None:
    names = [name for name, _ in tiny_network().named_parameters()]
    for rank in both:
        assert not any(learnt.decoder_moved for learnt in rank.values())
        assert rank["ddp"].shards == rank["threads"].shards == {0}
        assert rank["fsdp"].shards == {len([name for name in names if not name.startswith("decoder.")])}


def test_one_rank_is_the_model_itself() -> None:
    model = tiny_network()
    network = parallelise(model, World(), MachineConfig(sharding="fsdp"))
    assert network.model is model
    assert network.sharding == "none"
    batch = batches(1)[0]
    expected = model(batch.mels, batch.tails, batch.turns)
    assert torch.equal(network.losses(batch).tokens, expected.tokens)
    tensors: dict[str, Tensor] = dict(model.named_parameters())
    assert all(full_tensors(tensors)[name] is value for name, value in tensors.items())


@pytest.mark.parametrize(
    ("accumulation", "size", "sharding", "parallel", "device", "message"),
    [
        (3, 4, "ddp", 1, "cpu", "a step of 3 batches leaves some of 4 ranks without one"),
        (6, 4, "fsdp", 1, "cpu", "6 is no multiple of 4 ranks"),
        (4, 2, "fsdp", 2, "cpu", "found machine.sharding=fsdp. Set parallel=1"),
    ],
)
def test_steps_that_cannot_be_split(
    accumulation: int, size: int, sharding: str, parallel: int, device: str, message: str
) -> None:
    world = World(size=size, device=torch.device(device))
    with pytest.raises(ConfigError, match=message):
        check_split(accumulation, world, MachineConfig(sharding=sharding), parallel=parallel)


@pytest.mark.parametrize(
    ("accumulation", "size", "sharding", "parallel"),
    [(4, 4, "ddp", 1), (5, 4, "ddp", 2), (8, 4, "fsdp", 1), (1, 1, "fsdp", 1), (3, 1, "fsdp", 3)],
)
def test_steps_that_can_be_split(accumulation: int, size: int, sharding: str, parallel: int) -> None:
    check_split(accumulation, World(size=size), MachineConfig(sharding=sharding), parallel=parallel)
