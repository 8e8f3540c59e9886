from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tiny import tiny_lm
from uniwhisper.batches import Draw
from uniwhisper.train import loop
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.data import training_data
from uniwhisper.train.feed import Batch
from uniwhisper.train.gradients import accumulate_gradients
from uniwhisper.train.loop import Run, _start, train_step

from .conftest import World


@pytest.fixture
def run(world: World, config: Callable[..., TrainConfig], tmp_path: Path) -> Run:
    lm = tiny_lm(tmp_path / "lm", chat=True)  # smaller weights than the world's, so that 1e-6 is above rounding
    made = config(accumulation=2, optim={"align_steps": 0}, decoder=str(lm))
    return _start(made, training_data(world.clips), tmp_path / "out", "key")


@pytest.fixture
def draws(run: Run) -> tuple[list[Draw], list[Draw]]:
    """Three clips with the longest answers and two with the shortest."""
    clips = [Draw(source=name, index=n, epoch=0) for name, size in (("bells", 6), ("talk", 4)) for n in range(size)]
    ordered = sorted(clips, key=lambda draw: run.feed.collate([draw]).num_answer_tokens)
    return ordered[-3:], ordered[:2]


def gradients(run: Run, group: Sequence[Batch], **options: Any) -> tuple[dict[str, Tensor], list[Tensor]]:
    """Return the gradient of every parameter that has one, and the mean loss of every example."""
    run.model.zero_grad(set_to_none=True)
    losses = accumulate_gradients(run.model, group, **options)
    return {n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None}, losses


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], atol: float) -> None:
    assert found.keys() == expected.keys()
    assert max(float(grad.abs().max()) for grad in expected.values()) > 1e-2
    for name, grad in expected.items():
        assert float((found[name] - grad).abs().max()) <= atol, name


def test_two_batches_are_one_big_batch(run: Run, draws: tuple[list[Draw], list[Draw]]) -> None:
    parts = [run.feed.collate(some) for some in draws]
    whole = run.feed.collate(draws[0] + draws[1])
    counts = [batch.num_answer_tokens / len(batch.turns) for batch in parts]
    assert abs(counts[0] - counts[1]) > 1  # or a mean of means would pass
    apart, losses = gradients(run, parts)
    together, same_losses = gradients(run, [whole])
    assert_same(apart, together, 1e-6)
    torch.testing.assert_close(torch.stack(losses), torch.stack(same_losses), atol=1e-5, rtol=0)


def test_gradient_is_that_of_the_mean_over_answer_tokens(run: Run, draws: tuple[list[Draw], list[Draw]]) -> None:
    batch = run.feed.collate(draws[0] + draws[1])
    found, losses = gradients(run, [batch])
    run.model.zero_grad(set_to_none=True)
    tokens = run.model(batch.mels, batch.tails, batch.turns)
    tokens.mean().backward()
    assert_same(found, {n: p.grad for n, p in run.model.named_parameters() if p.grad is not None}, 1e-7)
    parts = tokens.detach().split([len(turn.answer) for turn in batch.turns])
    torch.testing.assert_close(torch.stack(losses), torch.stack([part.mean() for part in parts]))


def test_side_by_side_is_one_by_one(run: Run, draws: tuple[list[Draw], list[Draw]]) -> None:
    parts = [run.feed.collate(some) for some in (*draws, draws[0][:1])]
    alone, losses = gradients(run, parts)
    for _ in range(3):
        found, same_losses = gradients(run, parts, parallel=2)
        assert_same(found, alone, 0.0)  # one thread computes as one thread: the same bits in the same order
        assert torch.equal(torch.stack(losses), torch.stack(same_losses))


def test_step_reports_the_mean_over_the_whole_group(
    run: Run, draws: tuple[list[Draw], list[Draw]], monkeypatch: pytest.MonkeyPatch
) -> None:
    group = [run.feed.collate(some) for some in draws]
    seen: list[dict[str, Tensor]] = []

    def record(optimizer: Any, clip_norm: float) -> dict[str, float]:
        seen.append({n: p.grad.clone() for n, p in run.model.named_parameters() if p.grad is not None})
        return {"encoder": 3.0, "adapter": 4.0}

    with torch.no_grad():
        tokens = torch.cat([run.model(b.mels, b.tails, b.turns) for b in group])
    expected, _ = gradients(run, [run.feed.collate(draws[0] + draws[1])])
    run.model.zero_grad(set_to_none=True)
    monkeypatch.setattr(loop, "clip_gradients", record)
    row = train_step(run, group)
    assert_same(seen[0], expected, 1e-6)
    assert row["loss"] == pytest.approx(float(tokens.mean()), abs=1e-5)
    assert row["grad_norm"] == 5.0
    assert row["num_examples"] == 5
    assert row["num_answer_tokens"] == len(tokens)
    assert row["audio_s"] == pytest.approx(sum(batch.audio_s for batch in group))
    assert sum(len(losses) for losses in (row["loss_by_source"], row["loss_by_family"])) >= 2
    assert all(p.grad is None for p in run.model.parameters())
