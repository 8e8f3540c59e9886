"""The training run, from clips to an encoder folder.

Reads clips and a `TrainConfig`; writes `out/config.json`, `out/metrics.jsonl`, `out/tensorboard/`, `out/checkpoints/`
and, last, `out/encoder/`. The order of batches, every random choice and every rate depend on (config, step) alone, so
a run killed anywhere continues to the same bits on the same machine.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uniwhisper import __version__
from uniwhisper.batches import BatchOrder
from uniwhisper.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_audio_model,
    save_checkpoint,
)
from uniwhisper.errors import CheckpointError, TrainingError, UniWhisperError
from uniwhisper.files import content_hash, is_done, mark_done, read_json, write_json
from uniwhisper.model.decoder import load_decoder
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper
from uniwhisper.shards import ShardSet
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.data import TrainingData, training_data
from uniwhisper.train.feed import Batch, Feed
from uniwhisper.train.gradients import accumulate_gradients
from uniwhisper.train.metrics import MetricsLog, mean_by
from uniwhisper.train.optim import build_optimizer, clip_gradients, set_learning_rates, trainable
from uniwhisper.train.warm_start import calibrate, clip_means, warm_start
from uniwhisper.types import Clip
from uniwhisper.weights import resolve

__all__ = ["Interrupted", "build_feed", "build_model", "train", "train_step"]


class Interrupted(UniWhisperError):
    """The run was asked to stop; it saved a checkpoint and can be resumed."""


@dataclass(kw_only=True)
class Run:
    """The parts of a run in progress."""

    config: TrainConfig
    out: Path
    model: UniWhisper
    feed: Feed
    order: BatchOrder
    optimizer: torch.optim.Optimizer
    average: dict[str, Tensor]
    """Running average of the audio model; empty where `ema_decay` is 0."""
    original: dict[str, Tensor]
    """The audio model before the first step; empty where `original_share` is 0."""
    searches: tuple[str, ...] = ()
    """Keys of the searches for leakage that the training clips went through."""
    step: int = 0
    """Steps done."""


def build_model(config: TrainConfig) -> UniWhisper:
    """Return the network at step 0, before the warm start, with the decoder frozen."""
    torch.manual_seed(config.seed)
    decoder = load_decoder(resolve(config.decoder), dtype=_decoder_dtype(config))
    model = UniWhisper(
        audio=AudioModel(load_encoder(resolve(config.encoder))),
        decoder=decoder,
        adapter=config.adapter,
        precision=torch.bfloat16 if config.precision == "bf16" else None,
    )
    trainable(model, config.optim)
    return model


def train(
    config: TrainConfig,
    data: ShardSet | Sequence[Clip],
    out: Path,
    *,
    quiet: bool = False,
    stop_after: int | None = None,
) -> Path:
    """Train until `config.optim.steps`, resuming where `out` stopped, and return the encoder's folder.

    Args:
        config: The complete configuration.
        data: Shards opened with `split="train"`, or clips, of which those of other splits are ignored.
        out: The run's folder.
        quiet: Show no progress line.
        stop_after: Stop with a checkpoint after this many steps in all, as Ctrl-C would.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or `stop_after`; the message says how to go on.
        CheckpointError: `out` belongs to another configuration or other clips.
    """
    made = training_data(data)
    key = content_hash([config.hash, made.key])
    encoder_folder = out / "encoder"
    if is_done(out, key):
        return encoder_folder
    _claim(out, config, key)
    run = _start(config, made, out, key)
    with (
        _stop_requests() as stop,
        MetricsLog(out, total_steps=config.optim.steps, start=run.step, quiet=quiet) as log,
    ):
        _steps(run, log, key, stop, stop_after)
    _finish(run, encoder_folder)
    mark_done(out, key)
    return encoder_folder


def _steps(run: Run, log: MetricsLog, key: str, stop: list[int], stop_after: int | None) -> None:
    config = run.config
    first, last = run.step * config.accumulation, config.optim.steps * config.accumulation
    batches = run.feed.batches(first, last)
    while run.step < config.optim.steps:
        began = time.perf_counter()
        group = [next(batches) for _ in range(config.accumulation)]
        waited_s = time.perf_counter() - began
        row = train_step(run, group)
        run.step += 1
        seconds = time.perf_counter() - began
        log.write(row | _rates(row, seconds, waited_s))
        stopping = bool(stop) or run.step == stop_after
        if (stopping or run.step % config.checkpoint_every == 0) and run.step < config.optim.steps:
            log.sync()
            folder = _save(run, key)
            if stopping:
                raise Interrupted(f"stopped after step {run.step}; saved {folder}. Run the same command again to go on")


def train_step(run: Run, group: Sequence[Batch]) -> dict[str, Any]:
    """Do one optimiser step on the batches of `group` and return its figures.

    The loss is the mean over all answer tokens of the group, however they are spread over its batches.
    """
    config, model = run.config, run.model
    rates = set_learning_rates(run.optimizer, run.step, config.optim)
    total = sum(batch.num_answer_tokens for batch in group)
    model.freeze_audio(run.step < config.optim.align_steps)
    losses = accumulate_gradients(model, group, parallel=config.parallel)
    _check_finite(run.step, group, losses)
    norms = clip_gradients(run.optimizer, config.optim.clip_norm)
    run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    _update_average(run)
    examples = [example for batch in group for example in batch.examples]
    per_example = torch.stack(losses).tolist()
    weights = [len(turn.answer) for batch in group for turn in batch.turns]
    return {
        "step": run.step,
        "loss": sum(loss * n for loss, n in zip(per_example, weights, strict=True)) / total,
        **{f"lr_{part}": rate for part, rate in rates.items()},
        **{f"grad_norm_{part}": norm for part, norm in norms.items()},
        "grad_norm": sum(norm**2 for norm in norms.values()) ** 0.5,
        "num_examples": len(examples),
        "num_answer_tokens": total,
        "audio_s": sum(batch.audio_s for batch in group),
        "loss_by_source": mean_by([e.source for e in examples], per_example),
        "loss_by_family": mean_by([e.family for e in examples], per_example),
    }


def _check_finite(step: int, group: Sequence[Batch], losses: Sequence[Tensor]) -> None:
    """Stop before a loss that is not a number reaches the weights; the last checkpoint stays good."""
    examples = [example for batch in group for example in batch.examples]
    bad = [e for e, loss in zip(examples, losses, strict=True) if not bool(torch.isfinite(loss))]
    if bad:
        names = ", ".join(f"{e.source}/{e.clip_id}" for e in bad[:3])
        raise TrainingError(
            f"step {step}: expected finite losses, found {len(bad)} of {len(examples)} that are not ({names}). "
            "Lower the learning rates, or look at these clips; the last checkpoint is untouched"
        )


def _update_average(run: Run) -> None:
    if not run.average or run.step < run.config.optim.align_steps:
        return
    weight = 1 - run.config.ema_decay
    for name, value in run.model.audio.state_dict().items():
        run.average[name].lerp_(value.float(), weight)


def _rates(row: Mapping[str, Any], seconds: float, waited_s: float) -> dict[str, float]:
    return {
        "seconds": seconds,
        "examples_per_s": row["num_examples"] / seconds,
        "audio_s_per_s": row["audio_s"] / seconds,
        "data_wait_share": waited_s / seconds,
    }


def _claim(out: Path, config: TrainConfig, key: str) -> None:
    """Write the run's configuration, or refuse a folder that another configuration began."""
    path = out / "config.json"
    if path.exists() and read_json(path).get("key") != key:
        raise CheckpointError(
            f"{out} was begun with another configuration or other clips (see {path}). Give another --out, or remove it"
        )
    write_json(path, {"key": key, "version": __version__, "torch": torch.__version__, "config": config.to_json()})


def build_feed(config: TrainConfig, model: UniWhisper, data: TrainingData) -> tuple[BatchOrder, Feed]:
    """Return the order of a run's batches and the feed that makes them."""
    order = BatchOrder(data.durations, config=config.batches, seed=config.seed)
    feed = Feed(
        data.sources,
        order,
        turn=model.decoder.turn,
        n_mels=model.audio.encoder.dims.n_mels,
        instructions=config.instructions,
        family_shares=config.family_shares,
        cache_mb=config.cache_mb,
    )
    return order, feed


def _start(config: TrainConfig, data: TrainingData, out: Path, key: str) -> Run:
    """Build every part, from the newest checkpoint where there is one and from the warm start otherwise."""
    model = build_model(config)
    order, feed = build_feed(config, model, data)
    latest = latest_checkpoint(out / "checkpoints")
    if latest is None:
        _warm(model, feed, order, config, out)
    optimizer = build_optimizer(model, config.optim)
    run = Run(
        config=config,
        out=out,
        model=model,
        feed=feed,
        order=order,
        optimizer=optimizer,
        average={},
        original={},
        searches=data.searches,
    )
    if latest is not None:
        _resume(run, load_checkpoint(latest, config_hash=key))
    else:
        state = {name: value.detach().clone() for name, value in model.audio.state_dict().items()}
        run.original = state if config.original_share else {}
        run.average = {name: value.clone() for name, value in state.items()} if config.ema_decay else {}
    return run


def _warm(model: UniWhisper, feed: Feed, order: BatchOrder, config: TrainConfig, out: Path) -> None:
    """Run the closed-form start."""
    if config.start.clips:
        batches = _sample(feed, order, config, config.start.clips)
        write_json(out / "warm_start.json", warm_start(model, batches, config.start))


def _sample(feed: Feed, order: BatchOrder, config: TrainConfig, num_clips: int) -> list[Batch]:
    """Return `num_clips` clips from beyond the end of the run's order: the mixture, but in no batch of the run."""
    total, number, batches = 0, config.optim.steps * config.accumulation, []
    while total < num_clips:
        batches.append(feed.collate(order.batch(number)[: num_clips - total]))
        total += len(batches[-1].turns)
        number += 1
    return batches


def _save(run: Run, key: str) -> Path:
    checkpoint = Checkpoint(
        model=run.model.trainable_state(),
        optim=optimizer_tensors(run.optimizer),
        average={
            **{f"average.{name}": value for name, value in run.average.items()},
            **{f"original.{name}": value for name, value in run.original.items()},
        },
        state={"step": run.step, "config_hash": key, "drawn": run.order.drawn(run.step * run.config.accumulation)},
    )
    return save_checkpoint(run.out / "checkpoints", checkpoint, keep=run.config.keep_checkpoints)


def _resume(run: Run, checkpoint: Checkpoint) -> None:
    missing, unknown = run.model.load_state_dict(checkpoint.model, strict=False)
    missing = [name for name in missing if not name.startswith("decoder.")]
    if missing or unknown:
        raise CheckpointError(f"the checkpoint does not fit this network: missing {missing[:3]}, unknown {unknown[:3]}")
    restore_optimizer(run.optimizer, checkpoint.optim)
    for store, prefix in ((run.average, "average."), (run.original, "original.")):
        store.update({k.removeprefix(prefix): v for k, v in checkpoint.average.items() if k.startswith(prefix)})
    run.step = checkpoint.state["step"]


def _finish(run: Run, folder: Path) -> None:
    """Write the encoder: the average or the last weights, mixed with the original where the configuration asks."""
    audio = run.model.audio
    final = run.average or {name: value.detach() for name, value in audio.state_dict().items()}
    share = run.config.original_share
    if share:
        final = {name: torch.lerp(value.float(), run.original[name].float(), share) for name, value in final.items()}
    audio.load_state_dict(final)
    finish = run.config.finish
    if finish.calibration != "none":
        batches = _sample(run.feed, run.order, run.config, finish.clips)
        calibrate(run.model, clip_means(run.model, batches), kind=finish.calibration, shrinkage=finish.shrinkage)
    provenance = {
        "version": __version__,
        "config": run.config.to_json(),
        "steps": run.step,
        "clips_drawn": run.order.drawn(run.step * run.config.accumulation),
        "mixture": run.order.weights,
        "leakage": list(run.searches),
    }
    save_audio_model(folder, audio, provenance)


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """Collect Ctrl-C and SIGTERM in a list, so that the step ends and is saved; a second Ctrl-C stops at once."""
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    try:
        previous = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread: whoever owns it handles signals
        yield received
        return
    try:
        yield received
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _decoder_dtype(config: TrainConfig) -> torch.dtype:
    return torch.bfloat16 if config.precision == "bf16" else torch.float32
