"""One optimiser step: gradients of all batches of the step, over all processes, and what can be said about it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from uniwhisper.errors import TrainingError
from uniwhisper.train.feed import Batch
from uniwhisper.train.gradients import StepLosses, accumulate_gradients, is_out_of_memory
from uniwhisper.train.metrics import ExampleLoss, RankStep, RunLog, SilentLog, peak_memory_mb, step_figures
from uniwhisper.train.optim import clip_gradients, set_learning_rates
from uniwhisper.train.run import Run

__all__ = ["WATCH_EVERY", "train_step"]

WATCH_EVERY = 25
"""Steps between two looks at the signs that cost a little: how far weights move, how spread embeddings are."""


def train_step(run: Run, group: Sequence[Batch], *, waited_s: float = 0.0, log: RunLog | None = None) -> dict[str, Any]:
    """Do one optimiser step and return its figures (on ranks other than the main one only its number).

    The loss is the mean over all answer tokens of the step, however they are spread over batches and processes.

    Args:
        run: The run; its weights, moments and average change.
        group: The batches of this step that are this rank's.
        waited_s: How long this rank waited for them.
        log: Where the user is told that memory ran out.

    Raises:
        TrainingError: A loss or a gradient is not finite, or memory ran out for good; no weight has changed.
    """
    began = time.perf_counter() - waited_s
    config, watched = run.config, run.step % WATCH_EVERY == 0
    rates = set_learning_rates(run.optimizer, run.step, config.optim)
    frozen = run.step < config.optim.align_steps
    run.network.phase(frozen=frozen)
    total = int(run.world.sum(torch.tensor(sum(batch.num_answer_tokens for batch in group))))
    losses = _gradients(run, group, total, log or SilentLog())
    norms = clip_gradients(run.optimizer, config.optim.clip_norm)
    per_example = losses.per_example.tolist()
    _check_finite(run.step, group, per_example, norms)
    if run.world.is_main:  # before the update is queued: it waits for what the device has done so far
        run.embeddings.add(losses.means)
    if watched:
        run.updates.before()
    run.optimizer.step()
    ratios = run.updates.after() if watched else {}
    run.optimizer.zero_grad(set_to_none=True)
    _update_average(run)
    ranks = run.world.gather(_record(run, group, per_example, frozen, waited_s))
    if ranks is None:
        return {"step": run.step}
    return {
        "step": run.step,
        **step_figures(ranks, seconds=time.perf_counter() - began, peak_flops=run.peak_flops),
        **{f"lr_{part}": rate for part, rate in rates.items()},
        **{f"grad_norm_{part}": norm for part, norm in norms.items()},
        "grad_norm": math.hypot(*norms.values()),
        **{f"update_ratio_{part}": ratio for part, ratio in ratios.items()},
        **(run.embeddings.figures() if watched else {}),
    }


def _gradients(run: Run, group: Sequence[Batch], total: int, log: RunLog) -> StepLosses:
    """Compute the gradients; where memory runs out on one process, once more with batches half as large."""
    threads = run.config.parallel if run.world.device.type == "cpu" else 1  # a GPU computes one batch as fast as it can
    settings = {"world": run.world, "total": total, "parallel": threads}
    try:
        return accumulate_gradients(run.network, group, pieces=run.pieces, **settings)
    except (RuntimeError, MemoryError) as e:
        if not is_out_of_memory(e):
            raise
        advice = (
            f"step {run.step}: out of memory with batches of about {run.config.batches.tokens} decoder positions in "
            f"{run.pieces} {'piece' if run.pieces == 1 else 'pieces'}"
        )
        if run.pieces > run.config.machine.pieces or run.world.size > 1:
            raise TrainingError(
                f"{advice}. Run the same command again with --set machine.pieces={2 * run.pieces} (the same "
                "gradients in less memory), execution.recompute=true, or smaller batches.tokens"
            ) from e
    run.pieces *= 2
    log.note(f"{advice}: going on with {run.pieces} pieces, half the budget each; the gradients stay the same")
    if run.world.device.type == "cuda":
        torch.cuda.empty_cache()
    try:
        return accumulate_gradients(run.network, group, pieces=run.pieces, **settings)
    except (RuntimeError, MemoryError) as e:
        if not is_out_of_memory(e):
            raise
        raise TrainingError(
            f"{advice}, and again in {run.pieces}. Run the same command again with --set "
            f"machine.pieces={2 * run.pieces}, execution.recompute=true, or smaller batches.tokens"
        ) from e


def _check_finite(step: int, group: Sequence[Batch], losses: Sequence[float], norms: Mapping[str, float]) -> None:
    """Stop before a number that is none reaches the weights; the last checkpoint stays good."""
    examples = [example for batch in group for example in batch.examples]
    bad = [e for e, loss in zip(examples, losses, strict=True) if not math.isfinite(loss)]
    advice = "Lower the learning rates, or look at these clips; no weight has changed, the last checkpoint is good"
    if bad:
        names = ", ".join(f"{e.source}/{e.clip_id}" for e in bad[:3])
        raise TrainingError(
            f"step {step}: expected finite losses, found {len(bad)} of {len(examples)} that are not ({names}). {advice}"
        )
    if not all(map(math.isfinite, norms.values())):
        found = ", ".join(f"{part} {norm}" for part, norm in norms.items())
        raise TrainingError(
            f"step {step}: expected finite gradients, found norms {found}; the losses of this rank's {len(examples)} "
            f"examples are finite. {advice}"
        )


def _update_average(run: Run) -> None:
    if not run.average or run.step < run.config.optim.align_steps:
        return
    weight = 1 - run.config.ema_decay
    for name, value in run.model.audio.state_dict().items():
        run.average[name].lerp_(value.float(), weight)


def _record(run: Run, group: Sequence[Batch], losses: Sequence[float], frozen: bool, waited_s: float) -> RankStep:
    """Return what this rank did, small enough to send every step."""
    described = [
        (example, domain, len(turn.answer))
        for batch in group
        for example, domain, turn in zip(batch.examples, batch.domains, batch.turns, strict=True)
    ]
    frames = [[mel.shape[1] for mel in batch.mels] for batch in group]
    return RankStep(
        examples=[
            ExampleLoss(source=e.source, family=e.family, domain=domain, loss=loss, num_tokens=tokens)
            for (e, domain, tokens), loss in zip(described, losses, strict=True)
        ],
        audio_s=sum(batch.audio_s for batch in group),
        num_positions=sum(run.flops.positions(own, batch.turns) for own, batch in zip(frames, group, strict=True)),
        flops=sum(
            run.flops.of(own, batch.turns, audio_frozen=frozen) for own, batch in zip(frames, group, strict=True)
        ),
        waited_s=waited_s,
        memory_mb=peak_memory_mb(run.world.device),
    )
