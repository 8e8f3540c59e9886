"""How a run begins: networks from their weights, the closed-form start, and every part put together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from uniwhisper.batches import BatchOrder
from uniwhisper.checkpoint import latest_checkpoint, step_of
from uniwhisper.errors import CheckpointError
from uniwhisper.files import write_json
from uniwhisper.model.decoder import load_decoder
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.flops import LmDims, StepFlops
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.data import TrainingData
from uniwhisper.train.feed import Batch, Feed
from uniwhisper.train.hardware import peak_flops
from uniwhisper.train.optim import UpdateWatch, build_optimizer, in_their_types, init_optimizer_state, trainable
from uniwhisper.train.parallel import check_split, parallelise
from uniwhisper.train.prefetch import prefetched
from uniwhisper.train.run import Run, resume
from uniwhisper.train.warm_start import warm_start
from uniwhisper.train.world import World
from uniwhisper.weights import resolve

__all__ = ["begin", "build_feed", "build_model", "sample"]


def build_model(config: TrainConfig, device: torch.device | str = "cpu") -> UniWhisper:
    """Return the network at step 0 on `device`, before the warm start, with the decoder frozen."""
    torch.manual_seed(config.seed)
    decoder = load_decoder(resolve(config.decoder), dtype=_decoder_dtype(config), device=device)
    model = UniWhisper(
        audio=AudioModel(load_encoder(resolve(config.encoder))),
        decoder=decoder,
        adapter=config.adapter,
        precision=torch.bfloat16 if config.precision == "bf16" else None,
        execution=config.execution,
    )
    trainable(model, config.optim)
    return model.to(device)


def build_feed(
    config: TrainConfig, model: UniWhisper, data: TrainingData, *, device: torch.device | None = None
) -> tuple[BatchOrder, Feed]:
    """Return the order of a run's batches and the feed that makes them for `device`."""
    order = BatchOrder(data.durations, config=config.batches, seed=config.seed)
    on_gpu = device is not None and device.type == "cuda"
    feed = Feed(
        data.sources,
        order,
        turn=model.decoder.turn_maker,
        n_mels=model.audio.encoder.dims.n_mels,
        instructions=config.instructions,
        family_shares=config.family_shares,
        cache_mb=config.cache_mb,
        host_mels=config.machine.mel == "host" or (config.machine.mel == "auto" and not on_gpu),
    )
    return order, feed


def begin(config: TrainConfig, data: TrainingData, out: Path, key: str, *, world: World | None = None) -> Run:
    """Build every part, from the newest checkpoint in `out` where there is one and from the warm start otherwise.

    Raises:
        ConfigError: The batches of a step cannot be spread over these processes.
        WeightsError: The encoder or the decoder cannot be had.
        CheckpointError: The newest checkpoint is another run's, or damaged.
    """
    world = world or World()
    check_split(config.accumulation, world, config.machine, parallel=config.parallel)
    _fetch_once(config, world)
    model = build_model(config, world.device)
    order, feed = build_feed(config, model, data, device=world.device)
    latest = _newest(out / "checkpoints", world)
    if latest is None:
        if world.is_main and config.start.clips:
            batches = sample(feed, order, config, config.start.clips, model.audio)
            write_json(out / "warm_start.json", warm_start(model, batches, config.start))
        world.broadcast(model.trainable_state())
    in_their_types(model, config.optim)
    network = parallelise(model, world, config.machine)
    optimizer = build_optimizer(model, config.optim)
    init_optimizer_state(optimizer)
    run = Run(
        config=config,
        data=data,
        out=out,
        key=key,
        world=world,
        model=model,
        network=network,
        feed=feed,
        order=order,
        optimizer=optimizer,
        average=_copies(model.audio) if config.ema_decay else {},
        original=_copies(model.audio) if config.original_share else {},
        updates=UpdateWatch(model),
        flops=StepFlops(
            encoder=model.audio.encoder.dims,
            adapter=config.adapter,
            lm=LmDims.of(model.decoder.lm.config),
            opening=len(model.decoder.dialogue.opening),
            frozen_layers=config.optim.frozen_layers,
        ),
        peak_flops=peak_flops(world.device, model.precision or torch.float32) if world.is_main else None,
        pieces=config.machine.pieces,
    )
    if latest is not None:
        resume(run, latest)
    return run


def sample(feed: Feed, order: BatchOrder, config: TrainConfig, num_clips: int, audio: AudioModel) -> Sequence[Batch]:
    """Return `num_clips` clips from beyond the end of the run's order: the mixture, but in no batch of the run.

    Batches are on the device of `audio`.
    """
    total, number, batches = 0, config.optim.steps * config.accumulation, []
    while total < num_clips:
        batches.append(feed.collate(order.batch(number)[: num_clips - total]))
        total += len(batches[-1].turns)
        number += 1
    device, n_mels = audio.subsampler.conv.weight.device, audio.encoder.dims.n_mels
    return list(prefetched(iter(batches), device=device, n_mels=n_mels, pin=False))


def _copies(audio: AudioModel) -> dict[str, Tensor]:
    return {name: value.detach().float().clone() for name, value in audio.state_dict().items()}


def _newest(folder: Path, world: World) -> Path | None:
    """Return the newest checkpoint, the same one on every rank.

    Raises:
        CheckpointError: This rank does not see the one that the main rank sees.
    """
    latest = latest_checkpoint(folder)
    seen = -1 if latest is None else step_of(latest)
    main = int(world.sum(torch.tensor(seen if world.is_main else 0)))
    if main != seen:
        raise CheckpointError(
            f"rank {world.rank}: expected in {folder} the checkpoint of step {main} that rank 0 sees, found "
            f"{latest or 'none'}. The run's folder has to lie on a file system that shows all ranks the same; where it "
            "lags, run the same command again"
        )
    return latest


def _fetch_once(config: TrainConfig, world: World) -> None:
    """Let one process of each machine fetch what is not there yet, and the others find it."""
    if world.local_rank == 0:
        resolve(config.encoder)
        resolve(config.decoder)
    world.barrier()


def _decoder_dtype(config: TrainConfig) -> torch.dtype:
    return torch.bfloat16 if config.precision == "bf16" else torch.float32
