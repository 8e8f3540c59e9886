"""The training run, from clips to an encoder folder.

Reads clips and a `TrainConfig`; writes `out/config.json`, `out/metrics.jsonl`, `out/evaluations.jsonl`,
`out/tensorboard/`, `out/checkpoints/` and, last, `out/encoder/`. The order of batches, every random choice and every
rate depend on (config, step) alone, so a run killed anywhere continues to the same bits on the same machine, and to the
same batches on any number of processes. Of several processes (torchrun) the first writes everything but its peers'
shares of a sharded checkpoint.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import torch

from uniwhisper import __version__
from uniwhisper.batches import for_rank, rank_numbers
from uniwhisper.checkpoint import CheckpointWriter, save_audio_model
from uniwhisper.errors import CheckpointError, UniWhisperError
from uniwhisper.files import content_hash, is_done, mark_done, read_json, write_json
from uniwhisper.shards import ShardSet
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.data import TrainingData, training_data
from uniwhisper.train.evaluation import MEAN, Evaluate, read_evaluations, run_evaluation
from uniwhisper.train.feed import Batch
from uniwhisper.train.metrics import MetricsLog, RunLog, SilentLog
from uniwhisper.train.prefetch import prefetched
from uniwhisper.train.profiling import profiled
from uniwhisper.train.run import Run, provenance, save, trained_audio
from uniwhisper.train.start import begin, sample
from uniwhisper.train.step import train_step
from uniwhisper.train.stopping import Interrupted, stop_requests
from uniwhisper.train.warm_start import calibrate, clip_means
from uniwhisper.train.world import World, explained, joined_world
from uniwhisper.types import Clip

__all__ = ["Interrupted", "train"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hooks:
    """What happens beside the steps, and when the run ends early."""

    log: RunLog
    writer: CheckpointWriter
    profile: Callable[[], None]
    stop: list[int]
    stop_after: int | None
    evaluate: Evaluate | None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Wishes:
    """What the caller of a run wants beside the weights."""

    evaluate: Evaluate | None
    quiet: bool
    stop_after: int | None
    profile_steps: int
    wandb: str


def train(
    config: TrainConfig,
    data: ShardSet | Sequence[Clip],
    out: Path,
    *,
    world: World | None = None,
    evaluate: Evaluate | None = None,
    quiet: bool = False,
    stop_after: int | None = None,
    profile_steps: int = 0,
    wandb: str = "",
) -> Path:
    """Train until `config.optim.steps`, resuming where `out` stopped, and return the encoder's folder.

    Args:
        config: The complete configuration.
        data: Shards opened with `split="train"`, or clips, of which those of other splits are ignored.
        out: The run's folder, seen by every process.
        world: The processes that train together, where the caller has joined them already (`world.joined_world`).
        evaluate: Called with the audio model and the step every `config.evaluate_every` steps, on the main process;
            its scores go to `evaluations.jsonl`, and the checkpoint with the best `mean` is kept. Where it fails, the
            error goes there and the run goes on.
        quiet: Show no progress line.
        stop_after: Stop with a checkpoint after this many steps in all, as Ctrl-C would.
        profile_steps: Write a trace of so many steps to `out/profile/`; 0 writes none.
        wandb: Project on Weights & Biases that gets the figures too; empty sends nothing.

    Raises:
        Interrupted: Ctrl-C, SIGTERM or `stop_after`; the message says how to go on.
        CheckpointError: `out` belongs to another configuration or other clips, or a checkpoint cannot be written.
        TrainingError: A loss or gradient is not finite, memory ran out, or a process was lost.
    """
    made = training_data(data)
    key = content_hash([config.hash, made.key])
    wishes = _Wishes(evaluate=evaluate, quiet=quiet, stop_after=stop_after, profile_steps=profile_steps, wandb=wandb)
    with ExitStack() as stack:
        if world is None:
            world = stack.enter_context(joined_world(config.machine, orderly=(Interrupted,)))
        stack.enter_context(explained(world))
        if not world.any(world.is_main and is_done(out, key)):
            if world.is_main:
                _claim(out, config, key)
            world.barrier()
            _from_start_to_encoder(config, made, out, key, world, wishes)
            if world.is_main:
                mark_done(out, key)
            world.barrier()
    return out / "encoder"


def _from_start_to_encoder(
    config: TrainConfig, data: TrainingData, out: Path, key: str, world: World, wishes: _Wishes
) -> None:
    with ExitStack() as stack:
        stop = stack.enter_context(stop_requests())
        run = begin(config, data, out, key, world=world)
        stack.callback(run.network.close)
        hooks = _hooks(run, wishes, stop, stack)
        if world.any(bool(stop)):
            raise Interrupted(
                f"stopped before step {run.step + 1}. Run the same command again to go on",
                by_user=signal.SIGINT in stop,
            )
        _steps(run, hooks)
        _finish(run, out / "encoder")


def _hooks(run: Run, wishes: _Wishes, stop: list[int], stack: ExitStack) -> _Hooks:
    """Open everything that accompanies the steps; the stack closes it."""
    log: RunLog = SilentLog()
    if run.world.is_main:
        settings = {"quiet": wishes.quiet, "wandb": wishes.wandb, "config": run.config.to_json()}
        log = MetricsLog(run.out, total_steps=run.config.optim.steps, start=run.step, **settings)
    writer = CheckpointWriter(
        run.out / "checkpoints",
        key=run.key,
        keep=run.config.keep_checkpoints,
        rank=run.world.rank,
        size=run.world.size,
    )
    return _Hooks(
        log=stack.enter_context(log),
        writer=stack.enter_context(writer),
        profile=stack.enter_context(profiled(run.out / "profile", wishes.profile_steps if run.world.is_main else 0)),
        stop=stop,
        stop_after=wishes.stop_after,
        evaluate=wishes.evaluate,
    )


def _steps(run: Run, hooks: _Hooks) -> None:
    accumulation, world = run.config.accumulation, run.world
    if _evaluation_is_due(run, hooks):
        _catch_up(run, hooks)
    per_step = len(for_rank(0, rank=world.rank, world_size=world.size, accumulation=accumulation))
    with closing(_batches(run)) as batches:
        while run.step < run.config.optim.steps:
            began = time.perf_counter()
            group = [next(batches) for _ in range(per_step)]
            row = train_step(run, group, waited_s=time.perf_counter() - began, log=hooks.log)
            run.step += 1
            hooks.log.write(row)
            hooks.profile()
            _after_step(run, hooks)


def _after_step(run: Run, hooks: _Hooks) -> None:
    """Save, judge and stop where this step's number or the user asks for it; all ranks decide alike."""
    ended = run.step == run.config.optim.steps
    stopping = (run.world.any(bool(hooks.stop)) or run.step == hooks.stop_after) and not ended
    evaluating = _evaluation_is_due(run, hooks)
    if not (stopping or evaluating or ended or run.step % run.config.checkpoint_every == 0):
        return
    hooks.log.sync()
    folder = save(run, hooks.writer)
    if evaluating:
        hooks.writer.wait()  # what comes now may take the process down
        _evaluate(run, hooks)
    if stopping:
        hooks.writer.wait()
        raise Interrupted(
            f"stopped after step {run.step}; saved {folder}. Run the same command again to go on",
            by_user=signal.SIGINT in hooks.stop,
        )


def _batches(run: Run) -> Generator[Batch]:
    """Yield the rank's batches from the run's step on, on the device, prepared ahead of time."""
    config, machine, world = run.config, run.config.machine, run.world
    numbers = rank_numbers(
        run.step, config.optim.steps, rank=world.rank, size=world.size, accumulation=config.accumulation
    )
    made = run.feed.load(numbers, workers=machine.workers, ahead=machine.ahead)
    n_mels = run.model.audio.encoder.dims.n_mels
    yield from prefetched(made, device=world.device, n_mels=n_mels, pin=machine.pin)


def _evaluation_is_due(run: Run, hooks: _Hooks) -> bool:
    every = run.config.evaluate_every
    return hooks.evaluate is not None and every > 0 and run.step > 0 and run.step % every == 0


def _catch_up(run: Run, hooks: _Hooks) -> None:
    """Do what is missing where the process ended between its last checkpoint and the end of that one's evaluation."""
    rows = [row for row in read_evaluations(run.out) if row["step"] == run.step] if run.world.is_main else []
    if run.world.any(run.world.is_main and not rows):
        _evaluate(run, hooks)
    elif rows:
        _note_score(run, hooks, rows[-1].get("scores", {}))


def _evaluate(run: Run, hooks: _Hooks) -> None:
    """Judge the weights as they would be handed out now; whatever fails in it is written down and changes nothing."""
    audio = trained_audio(run)
    if run.world.is_main and hooks.evaluate is not None:
        scores = run_evaluation(hooks.evaluate, audio, run.step, run.out, note=hooks.log.note) or {}
        hooks.log.write_scores(run.step - 1, scores)  # beside the row of the last step: a resumed run keeps that
        _note_score(run, hooks, scores)
    run.world.barrier()


def _note_score(run: Run, hooks: _Hooks, scores: Mapping[str, float]) -> None:
    """Let the best checkpoint be kept; where that cannot be written, the run is worth more than the score."""
    try:
        if MEAN in scores:
            hooks.writer.note_score(run.step, scores[MEAN])
    except (OSError, UniWhisperError) as e:
        hooks.log.note(f"step {run.step}: its score could not be noted, so it may not be kept as the best: {e}")


def _claim(out: Path, config: TrainConfig, key: str) -> None:
    """Write the run's configuration, or refuse a folder that another configuration began."""
    path = out / "config.json"
    if path.exists() and read_json(path).get("key") != key:
        raise CheckpointError(
            f"{out} was begun with another configuration or other clips (see {path}). Give another --out, or remove it"
        )
    write_json(path, {"key": key, "version": __version__, "torch": torch.__version__, "config": config.to_json()})


def _finish(run: Run, folder: Path) -> None:
    """Write the encoder, calibrated anew where the configuration asks."""
    audio, finish = trained_audio(run), run.config.finish
    if not run.world.is_main:
        return
    if finish.calibration != "none":
        batches = sample(run.feed, run.order, run.config, finish.clips, audio)
        calibrate(audio, clip_means(audio, batches), kind=finish.calibration, shrinkage=finish.shrinkage)
    save_audio_model(folder, audio, provenance(run))
