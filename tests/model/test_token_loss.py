from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from uniwhisper.errors import ConfigError
from uniwhisper.model.token_loss import IGNORED, token_losses

ROWS, WIDTH, VOCABULARY = 11, 6, 40


def frozen_head(*, bias: bool = False, dtype: torch.dtype = torch.float32) -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(WIDTH, VOCABULARY, bias=bias).requires_grad_(False).to(dtype)


def rows(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    targets[3] = IGNORED
    return torch.randn(ROWS, WIDTH, generator=generator).mul(3).to(dtype).requires_grad_(), targets


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("chunk", [0, 1, 4, 11, 100])
def test_chunks_are_the_cross_entropy_of_all_rows(chunk: int, bias: bool) -> None:
    states, targets = rows()
    head = frozen_head(bias=bias)
    weights = torch.arange(ROWS) - 3.5  # any weighting of the rows, some negative
    losses = token_losses(states, targets, head, chunk=chunk)
    expected = functional.cross_entropy(head(states), targets, reduction="none", ignore_index=IGNORED)
    torch.testing.assert_close(losses, expected, atol=1e-6, rtol=1e-6)
    assert float(losses[3].detach()) == 0
    ours, theirs = (torch.autograd.grad((each * weights).sum(), states)[0] for each in (losses, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-5)
    assert ours[3].count_nonzero() == 0


def test_half_precision_states_have_float32_losses() -> None:
    states, targets = rows(torch.bfloat16)
    head = frozen_head(dtype=torch.bfloat16)
    losses, expected = token_losses(states, targets, head, chunk=4), token_losses(states, targets, head)
    assert losses.dtype == expected.dtype == torch.float32
    torch.testing.assert_close(losses, expected, rtol=1e-5, atol=1e-6)
    ours, theirs = (torch.autograd.grad(each.mean(), states)[0] for each in (losses, expected))
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours.float(), theirs.float(), rtol=0.02, atol=1e-3)


def test_chunks_keep_no_logits() -> None:
    states, targets = rows()
    kept: list[int] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        losses = token_losses(states, targets, frozen_head(), chunk=4)
    assert kept == [ROWS * WIDTH]
    losses.sum().backward()
    assert states.grad is not None


def test_chunks_without_gradient_keep_nothing() -> None:
    states, targets = rows()
    with torch.no_grad():
        losses = token_losses(states, targets, frozen_head(), chunk=4)
    torch.testing.assert_close(losses, token_losses(states, targets, frozen_head()).detach())
    assert not losses.requires_grad


def test_chunks_need_a_frozen_linear_head() -> None:
    states, targets = rows()
    for head in (nn.Linear(WIDTH, VOCABULARY), nn.Sequential(frozen_head())):
        with pytest.raises(ConfigError, match=r"loss_chunk: expected .* frozen linear map, found"):
            token_losses(states, targets, head, chunk=4)
