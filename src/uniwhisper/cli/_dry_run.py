"""What `uniwhisper train RECIPE --dry-run` prints: the configuration, its data, and what the run would cost.

Reads headers of the data that is given, and half a second of this machine's arithmetic. Fetches and writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    import numpy as np

    from uniwhisper.batches import BatchOrder
    from uniwhisper.train.config import TrainConfig
    from uniwhisper.train.estimate import Estimate
    from uniwhisper.train.memory import Memory

__all__ = ["show"]

_PLACES = ((8, "A800"), (1, "A800"), (8, "H100"), (1, "H100"), (8, "H200"), (1, "H200"))
"""GPUs that hours are given for; the first is what the paper trained on (section 3.2)."""

_UNITS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_GB = 1e9


def show(config: TrainConfig, data: Sequence[Path]) -> None:
    """Print what a run would do and cost; nothing is fetched or written, and of audio only headers are read.

    Args:
        config: The complete configuration.
        data: Folders of shards, manifests or tables; where it is empty, the mixture's published sizes stand in.

    Raises:
        ConfigError: The mixture is impossible, or names corpora of which neither data nor a published size is there.
        WeightsError: The sizes of the encoder or the decoder are not known here; the message names those that are.
    """
    from uniwhisper.batches import BatchOrder
    from uniwhisper.train.estimate import estimate
    from uniwhisper.train.workload import published_durations
    from uniwhisper.weights import describe

    click.echo(json.dumps(config.to_json(), indent=2))
    click.echo(f"configuration {config.hash[:8]}, {config.optim.steps} steps")
    for part, name in (("encoder", config.encoder), ("decoder", config.decoder)):
        click.echo(f"{part} {name}: {describe(name).folder or 'would be fetched'}")
    durations = _durations(data) if data else published_durations(config)
    if not data:
        click.echo("no --data: sizes as published, every clip as long as its corpus's mean (longer than 30 s: cut)")
    order = BatchOrder(durations, config=config.batches, seed=config.seed)
    _show_mixture(config, durations, order)
    found = estimate(config, durations, order=order)
    for lines in (_contents(found), _operations(found), _memory(found), _hours(found)):
        click.echo()
        for line in lines:
            click.echo(line)


def _durations(data: Sequence[Path]) -> Mapping[str, np.ndarray]:
    """Return the seconds of every training clip by source, cut as `uniwhisper shards` would cut them."""
    from uniwhisper.cutting import Uncuttable, cut
    from uniwhisper.inputs import read_clips
    from uniwhisper.shards import open_shards
    from uniwhisper.train.data import training_data

    folders = [path for path in data if (path / "shards.json").is_file()]
    rest = [path for path in data if path not in folders]
    durations = dict(training_data(open_shards(folders, split="train")).durations) if folders else {}
    if rest:
        cuts = [cut(clip) for clip in read_clips(rest, "--data")]
        durations |= training_data(
            [piece for pieces in cuts if not isinstance(pieces, Uncuttable) for piece in pieces]
        ).durations
    return durations


def _show_mixture(config: TrainConfig, durations: Mapping[str, np.ndarray], order: BatchOrder) -> None:
    num_batches = config.optim.steps * config.accumulation
    epochs, width = order.epochs(num_batches), max(map(len, durations))
    for name, seconds in sorted(durations.items()):
        click.echo(
            f"{name:<{width}}  {len(seconds):>9} clips  {float(seconds.sum(dtype='float64')) / 3600:>10.2f} hours  "
            f"{order.weights.get(name, 0.0):>6.1%} of the mixture  {epochs.get(name, 0.0):>7.2f} epochs"
        )
    total = sum(order.drawn(num_batches).values())
    click.echo(f"about {total / num_batches:.1f} clips a batch, {total} in the whole run")


def _contents(found: Estimate) -> Iterable[str]:
    counts, work = found.parameters, found.workload
    yield (
        f"parameters: {_short(counts.trained)} trained (encoder {_short(counts.encoder)}, "
        f"subsampler {_short(counts.subsampler)}, adapter {_short(counts.adapter)}); "
        f"decoder {_short(counts.decoder)}, frozen"
    )
    yield (
        f"a step: {work.clips_per_step:.0f} clips, {work.audio_s_per_step:.0f} s of audio "
        f"({work.audio_s_per_step / work.clips_per_step:.1f} s a clip), {work.frames_per_step:.0f} encoder frames, "
        f"{found.positions_per_step:.0f} decoder positions, about {work.answer_tokens_per_step:.0f} answer tokens, "
        f"in {work.batches_per_step} batches"
    )


def _operations(found: Estimate) -> Iterable[str]:
    ratio = found.padded_step_flops / found.step_flops
    yield f"operations: {_short(found.step_flops)}FLOP a step, {_short(found.run_flops)}FLOP in the run (true lengths)"
    if found.config.optim.align_steps:
        aligned = min(found.config.optim.align_steps, found.config.optim.steps)
        yield f"  of the steps, {aligned} train the adapter alone: {_short(found.alignment_step_flops)}FLOP each"
    yield (
        f"  every clip padded to the encoder's window: {_short(found.padded_step_flops)}FLOP a step, "
        f"{_short(found.padded_run_flops)}FLOP in the run, {ratio:.1f} times as much"
    )


def _memory(found: Estimate) -> Iterable[str]:
    memory = found.memory("cuda")
    parts = {
        "weights": memory.weights,
        "their bf16 copies": memory.casts,
        "gradients": memory.gradients,
        f"{found.config.optim.kind} states": memory.optimizer,
        "averages": memory.averages,
        "decoder": memory.decoder,
        "logits": memory.logits,
    }
    yield "memory of one GPU, in GB: " + ", ".join(f"{name} {size / _GB:.2f}" for name, size in parts.items() if size)
    yield (
        f"  activations of a batch: {memory.activations / _GB:.2f}, "
        f"with execution.recompute {memory.activations_recomputed / _GB:.2f}"
    )
    yield f"  peak: {_peaks(memory)}"
    yield (
        f"memory on a CPU: {found.process_bytes / _GB:.1f} GB for the whole process, "
        f"and up to {found.config.cache_mb / 1000:.1f} GB of decoded audio"
    )


def _peaks(memory: Memory) -> str:
    usual, other = memory.peak(recompute=False) / _GB, memory.peak(recompute=True) / _GB
    first, second = f"{usual:.1f} GB", f"{other:.1f} GB with recompute"
    return f"{second} (as configured), {first} without" if memory.recompute else f"{first}, {second}"


def _hours(found: Estimate) -> Iterable[str]:
    import torch

    from uniwhisper.train.estimate import CPU_SHARE, GPU_SHARE
    from uniwhisper.train.hardware import find_gpu, gpu, peak_flops

    yield f"hours, at {GPU_SHARE:.0%} of the data sheet's bf16 rate (assumed, not measured), and at all of it:"
    for devices, name in _PLACES:
        known = gpu(name)
        fits = known.memory_gb * _GB >= found.memory("cuda").peak()
        yield _row(
            f"{devices} x {name}, {known.bf16_flops / 1e12:.0f} TFLOP/s each",
            found.hours(known.bf16_flops, share=GPU_SHARE, devices=devices),
            found.hours(known.bf16_flops, share=1, devices=devices),
            "" if fits else f"  (more than its {known.memory_gb:.0f} GB)",
        )
    dtype = torch.bfloat16 if found.config.precision == "bf16" else torch.float32
    if torch.cuda.is_available():
        name, rate = torch.cuda.get_device_name(), peak_flops("cuda", dtype)
        source = "" if find_gpu(name) and dtype == torch.bfloat16 else " measured"
        yield _row(
            f"this GPU, {name}, {rate / 1e12:.0f} TFLOP/s{source}",
            found.hours(rate, share=GPU_SHARE),
            found.hours(rate, share=1),
        )
    rate = peak_flops("cpu", dtype)
    yield f"hours on this CPU, at {CPU_SHARE:.0%} of its measured {found.config.precision} matrix product rate:"
    yield _row(
        f"{torch.get_num_threads()} threads, {rate / 1e9:.0f} GFLOP/s",
        found.hours(rate, share=CPU_SHARE),
        found.hours(rate, share=1),
        f"  ({found.step_s(rate, share=CPU_SHARE):.3g} s a step)",
    )


def _row(name: str, hours: float, at_best: float, note: str = "") -> str:
    return f"  {name:<44} {_time(hours):>9}  {_time(at_best):>9}{note}"


def _time(hours: float) -> str:
    """Return hours so that both minutes and years can be read."""
    return f"{hours * 60:.1f} min" if hours < 1 else f"{hours:.1f} h" if hours < 100 else f"{hours:,.0f} h"


def _short(number: float) -> str:
    """Return a large number with three digits and the letter of its thousands: 637 M, 30.1 E."""
    for size, letter in _UNITS:
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f} "
