from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from uniwhisper.errors import ConfigError
from uniwhisper.train.batch import Batch
from uniwhisper.train.gradients import StepLosses, accumulate_gradients, is_out_of_memory, split_batch
from uniwhisper.train.machine import MachineConfig
from uniwhisper.train.parallel import Network, parallelise
from uniwhisper.train.world import World

from .networks import batches, tiny_network


@pytest.fixture
def network() -> Network:
    return parallelise(tiny_network(), World(), MachineConfig())


def gradients(network: Network, group: Sequence[Batch], **options: Any) -> tuple[dict[str, Tensor], StepLosses]:
    """Return the gradient of every parameter that has one, and what the step found."""
    total = sum(batch.num_answer_tokens for batch in group)
    losses = accumulate_gradients(network, group, world=World(), total=total, **options)
    return {n: p.grad.clone() for n, p in network.model.named_parameters() if p.grad is not None}, losses


def joined(group: Sequence[Batch]) -> Batch:
    """Return several batches as one."""
    names = ("mels", "tails", "turns", "examples")
    lists = {name: [value for batch in group for value in getattr(batch, name)] for name in names}
    return replace(group[0], **lists, num_answer_tokens=sum(b.num_answer_tokens for b in group))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float) -> None:
    assert found.keys() == expected.keys()
    assert max(float(grad.abs().max()) for grad in expected.values()) > 1e-2
    for name, grad in expected.items():
        assert float((found[name] - grad).abs().max()) <= atol, name


def assert_same_losses(found: StepLosses, expected: StepLosses, atol: float) -> None:
    torch.testing.assert_close(found.per_example, expected.per_example, atol=atol, rtol=0)
    torch.testing.assert_close(found.means, expected.means, atol=atol, rtol=0)


def test_gradient_is_that_of_the_mean_over_answer_tokens(network: Network) -> None:
    batch = batches(2)[1]
    found, losses = gradients(network, [batch])
    network.model.zero_grad(set_to_none=True)
    expected = network.model(batch.mels, batch.tails, batch.turns)
    expected.tokens.mean().backward()
    assert_same(found, {n: p.grad for n, p in network.model.named_parameters() if p.grad is not None}, 1e-7)
    assert {name.split(".")[0] for name in found} == {"audio", "adapter"}
    parts = expected.tokens.detach().split([len(turn.answer) for turn in batch.turns])
    torch.testing.assert_close(losses.per_example, torch.stack([part.mean() for part in parts]))
    assert torch.equal(losses.means, expected.means)
    assert not losses.per_example.requires_grad


def test_batches_of_a_step_are_one_big_batch(network: Network) -> None:
    group = batches(3)
    counts = [batch.num_answer_tokens / len(batch.turns) for batch in group]
    assert max(counts) - min(counts) > 1  # or a mean of means would pass
    apart, losses = gradients(network, group)
    together, same_losses = gradients(network, [joined(group)])
    assert_same(apart, together, 1e-6)
    assert_same_losses(losses, same_losses, 1e-5)


@pytest.mark.parametrize("pieces", [2, 3, 50])
def test_pieces_leave_gradients_and_losses(network: Network, pieces: int) -> None:
    group = batches(4)
    whole, losses = gradients(network, group)
    found, same_losses = gradients(network, group, pieces=pieces)
    assert_same(found, whole, 1e-6)
    assert_same_losses(same_losses, losses, 1e-5)


def test_side_by_side_is_one_by_one(network: Network) -> None:
    group = batches(6)
    alone, losses = gradients(network, group, pieces=2)
    for _ in range(3):
        found, same_losses = gradients(network, group, parallel=2, pieces=2)
        assert_same(found, alone, 0.0)  # one thread computes as one thread: the same bits in the same order
        assert_same_losses(same_losses, losses, 0.0)


@pytest.mark.parametrize("parallel", [1, 2])
def test_alignment_phase_leaves_the_audio_model_out(network: Network, parallel: int) -> None:
    group = batches(2)
    everything, _ = gradients(network, group, parallel=parallel)
    network.phase(frozen=True)
    found, _ = gradients(network, group, parallel=parallel)
    adapter = {name: grad for name, grad in everything.items() if name.startswith("adapter.")}
    assert_same(found, adapter, 0.0)
    network.phase(frozen=False)
    assert_same(gradients(network, group, parallel=parallel)[0], everything, 0.0)


def test_gradients_of_before_are_dropped(network: Network) -> None:
    first, _ = gradients(network, batches(2))
    again, _ = gradients(network, batches(2))
    assert_same(again, first, 0.0)


@pytest.mark.parametrize("parallel", [1, 2])
def test_an_error_leaves_no_gradients(network: Network, parallel: int, monkeypatch: pytest.MonkeyPatch) -> None:
    group, asked = batches(3), []
    expected, _ = gradients(network, group)

    def fail(audio: Any, turns: Any) -> Tensor:
        asked.append(len(turns))
        if len(asked) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(audio, turns)

    forward = network.model.decoder.answer_losses
    with monkeypatch.context() as patch:
        patch.setattr(network.model.decoder, "answer_losses", fail)
        with pytest.raises(torch.OutOfMemoryError):
            gradients(network, group, parallel=parallel)
    assert all(p.grad is None for p in network.model.parameters())
    assert_same(gradients(network, group)[0], expected, 0.0)


def test_a_rank_without_batches_is_an_error(network: Network) -> None:
    with pytest.raises(ConfigError, match="expected at least one batch a rank and step"):
        accumulate_gradients(network, [], world=World(), total=1)


def test_split_batch_keeps_clips_whole_and_in_order() -> None:
    for batch in batches(5):
        for pieces in range(1, 8):
            parts = split_batch(batch, pieces)
            assert len(parts) == min(pieces, len(batch.turns))
            assert [turn for part in parts for turn in part.turns] == batch.turns
            assert [example for part in parts for example in part.examples] == batch.examples
            assert sum((part.domains for part in parts), ()) == batch.domains
            assert [mel.data_ptr() for part in parts for mel in part.mels] == [mel.data_ptr() for mel in batch.mels]
            assert sum(part.num_answer_tokens for part in parts) == batch.num_answer_tokens
            assert sum(part.audio_s for part in parts) == pytest.approx(batch.audio_s)
            assert all(len(part.turns) == len(part.mels) == len(part.tails) == len(part.domains) for part in parts)
            assert all(part.num_answer_tokens == sum(len(turn.answer) for turn in part.turns) for part in parts)


def clips_of(frames: Sequence[int], *, as_waves: bool = False) -> Batch:
    batch = batches(1)[0]
    size = len(frames)
    return replace(
        batch,
        mels=[] if as_waves else [torch.zeros(8, n) for n in frames],
        tails=[] if as_waves else [torch.zeros(8, 2)] * size,
        waves=[torch.zeros(160 * n, dtype=torch.int16) for n in frames] if as_waves else [],
        turns=[batch.turns[0]] * size,
        examples=[batch.examples[0]] * size,
        domains=("sound",) * size,
    )


@pytest.mark.parametrize("as_waves", [False, True])
@pytest.mark.parametrize(
    ("frames", "pieces", "expected"),
    [
        ([100] * 8, 4, [2, 2, 2, 2]),
        ([3000, 100, 100, 100, 100], 2, [1, 4]),
        ([100, 100, 100, 100, 3000], 2, [4, 1]),
        ([3000, 100, 100], 3, [1, 1, 1]),
        ([100, 100, 3000], 3, [1, 1, 1]),
        ([1500, 1500, 1400, 1600, 3000], 3, [2, 2, 1]),
    ],
)
def test_pieces_cost_about_the_same(frames: list[int], pieces: int, expected: list[int], as_waves: bool) -> None:
    parts = split_batch(clips_of(frames, as_waves=as_waves), pieces)
    assert [len(part.turns) for part in parts] == expected
    assert [len(part.waves) for part in parts] == (expected if as_waves else [0] * len(expected))


def test_out_of_memory_is_known_by_its_texts() -> None:
    with pytest.raises(RuntimeError) as found:
        torch.empty(1 << 45)
    assert is_out_of_memory(found.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not is_out_of_memory(ValueError("DefaultCPUAllocator"))
