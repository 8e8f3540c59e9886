"""The gradient of one step: the mean loss over all answer tokens of its batches, one by one or side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor, nn

from uniwhisper.model.uniwhisper import UniWhisper
from uniwhisper.train.feed import Batch

__all__ = ["accumulate_gradients"]


def accumulate_gradients(model: UniWhisper, group: Sequence[Batch], *, parallel: int = 1) -> list[Tensor]:
    """Set every trainable parameter's `.grad` and return the mean loss of every example, in order.

    The loss is the mean over the answer tokens of the whole group, so how examples are spread over batches changes
    nothing but rounding. Gradients are added in the order of the batches whichever thread finishes first: the result
    is the same bits for every run with the same `parallel`.

    Args:
        model: The network.
        group: The batches of one step.
        parallel: Batches computed at once, one CPU thread each.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = sum(batch.num_answer_tokens for batch in group)

    def compute(batch: Batch) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        losses = model(batch.mels, batch.tails, batch.turns)
        grads = torch.autograd.grad(losses.sum() / total, parameters, allow_unused=True)
        return losses.detach(), grads

    if parallel == 1:
        results = map(compute, group)
        return _collect(results, group, parameters)
    with ThreadPoolExecutor(parallel, "gradients", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        return _collect(pool.map(compute, group), group, parameters)


def _collect(
    results: Iterable[tuple[Tensor, tuple[Tensor | None, ...]]],
    group: Sequence[Batch],
    parameters: Sequence[nn.Parameter],
) -> list[Tensor]:
    means: list[Tensor] = []
    for batch, (losses, grads) in zip(group, results, strict=True):
        for parameter, grad in zip(parameters, grads, strict=True):
            if grad is not None:
                parameter.grad = grad if parameter.grad is None else parameter.grad.add_(grad)
        means.extend(part.mean() for part in losses.split([len(turn.answer) for turn in batch.turns]))
    return means
