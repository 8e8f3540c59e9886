"""Next-token loss through a frozen output head, whole or in chunks of rows that never exist together.

The head is frozen, so the gradient with respect to a row of hidden states is known as soon as its logits are: the
chunked way computes it there and keeps `Q` numbers a row, where autograd would keep `V` (Qwen3: 1,024 against 151,936).

Shape letters: `N` rows, `Q` decoder width, `V` vocabulary.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from uniwhisper.errors import ConfigError

__all__ = ["IGNORED", "token_losses"]

IGNORED = -100
"""The target of rows without a loss: they count 0. Source: the default `ignore_index` of torch's `cross_entropy`."""


def token_losses(
    states: Float[Tensor, "N Q"], targets: Int[Tensor, " N"], head: nn.Module, *, chunk: int = 0
) -> Float[Tensor, " N"]:
    """Return the cross entropy of every row, in float32.

    Args:
        states: Hidden states.
        targets: Token that each row should predict, or `IGNORED`.
        head: Frozen map from states to logits.
        chunk: Rows whose logits exist at once; 0 computes all of them together.

    Raises:
        ConfigError: `chunk` is asked for with a head that is no frozen linear map.
    """
    if not chunk:
        return functional.cross_entropy(head(states).float(), targets, reduction="none", ignore_index=IGNORED)
    if not isinstance(head, nn.Linear) or head.weight.requires_grad:
        raise ConfigError(
            f"execution.loss_chunk: expected a decoder whose output head is a frozen linear map, found "
            f"{type(head).__name__}. Set loss_chunk = 0"
        )
    wanted = torch.is_grad_enabled() and states.requires_grad
    return _ChunkedLoss.apply(states, targets, head.weight, head.bias, chunk, wanted)


class _ChunkedLoss(torch.autograd.Function):
    """Cross entropy chunk by chunk; the loss of a row has the gradient `(softmax - onehot) W` in its state.

    It is stored for an upstream gradient of 1 and scaled in the backward, so any weighting of the rows is exact.
    """

    @staticmethod
    def forward(
        ctx: Any, states: Tensor, targets: Tensor, weight: Tensor, bias: Tensor | None, chunk: int, wanted: bool
    ) -> Tensor:
        losses = states.new_empty(len(states), dtype=torch.float32)
        gradient = torch.empty_like(states) if wanted else None
        for start in range(0, len(states), chunk):
            rows = slice(start, start + chunk)
            logits = functional.linear(states[rows], weight, bias).float()
            known = targets[rows, None] != IGNORED
            index = targets[rows, None].clamp(min=0)
            total = logits.logsumexp(dim=1, keepdim=True)
            losses[rows] = ((total - logits.gather(1, index)) * known).flatten()
            if gradient is not None:
                shares = logits.sub_(total).exp_()
                shares.scatter_add_(1, index, torch.full_like(total, -1.0)).mul_(known)
                torch.mm(shares.to(weight.dtype), weight, out=gradient[rows])
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return (gradient * grads[0][:, None]).to(gradient.dtype), None, None, None, None, None
