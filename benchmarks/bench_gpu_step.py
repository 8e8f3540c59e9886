"""The training step on this machine's GPU: rate, share of the peak, memory, and what each trick is worth.

`python benchmarks/bench_gpu_step.py --write` is all: random weights in the shapes of Whisper large-v3 and Qwen3-0.6B,
random clips whose lengths are those of the paper's corpora (lengths.py), nothing fetched or read. The step is that of
`uniwhisper train` with the recipe `uniwhisper_large_v3`, one process. Four parts: means of 9.3 s, 18 s and whole 30 s
windows; sizes of the micro-batch until memory ends; every trick taken back by itself; and, with `--data SHARDS`, real
clips through the real feed. Writes a result file only with `--write`. `--tiny` does all of it with a toy, on a CPU too.

Time is the device's own between two steps (CUDA events), after steps that warm up and compile. Operations are counted
from true lengths (model/flops.py), so padding and recomputing are no work. "Waiting" is the share of the time in which
the step waited for its batches.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from lengths import mixture_lengths
from random_run import LARGE, TINY, RandomFeed, with_fields
from timed_steps import Bench, Measured
from timing import hardware, table, write_result
from uniwhisper.batches import BatchOrder
from uniwhisper.model.attention import PACKED_KERNELS, attention_in_use
from uniwhisper.model.turns import Turn
from uniwhisper.recipes.uniwhisper_large_v3 import CLIPS_A_STEP, uniwhisper_large_v3
from uniwhisper.shards import open_shards
from uniwhisper.train.batch import Batch
from uniwhisper.train.config import TrainConfig, override
from uniwhisper.train.data import training_data
from uniwhisper.train.feed import Feed
from uniwhisper.train.hardware import measured_matmul
from uniwhisper.train.machine import MachineConfig
from uniwhisper.train.prefetch import prefetched
from uniwhisper.train.run import Run
from uniwhisper.train.world import joined_world

AS_IT_IS = "as it is"
POOL = 4096
PARTS = ("lengths", "sizes", "tricks", "data")


def by_length(bench: Bench, options: argparse.Namespace) -> str:
    """Return the table of mean lengths."""
    rows: list[list[object]] = []
    for mean_s in options.means:
        config = bench.sized(bench.config, mean_s, options.clips)
        found = bench.measure(config, mixture_lengths(mean_s, POOL, seed=0))
        if isinstance(found, str):
            rows.append([f"{mean_s:g}", found, *[""] * 9])
            continue
        step_s = float(np.median(found.seconds))
        hours = found.total_s / found.examples * CLIPS_A_STEP * bench.config.optim.steps / 3600
        rows.append(
            [
                f"{mean_s:g}",
                f"{found.examples / found.total_s:.1f}",
                f"{found.audio_s / found.total_s:.0f}",
                *bench.shares(found),
                f"{found.peak_gb:.1f}",
                f"{found.waited_s / found.total_s:.1%}",
                f"{step_s:.3f}",
                _compiled(found),
                f"{hours:.1f}",
            ]
        )
    header = ["mean s", "examples/s", "audio s/s", "TFLOP/s", "of product", "of data sheet", "peak GB", "waiting"]
    return table([*header, "step s (median)", "graphs before / during", "hours of the paper's run"], rows)


def _compiled(found: Measured) -> str:
    return f"{found.graphs} / {found.late_graphs}"


def by_size(bench: Bench, options: argparse.Namespace) -> str:
    """Return the table of micro-batch sizes, up to the first that does not fit."""
    rows: list[list[object]] = []
    lengths_s = mixture_lengths(options.mean, POOL, seed=0)
    for clips in options.sizes:
        found = bench.measure(bench.sized(bench.config, options.mean, clips), lengths_s)
        if isinstance(found, str):
            rows.append([clips, found, *[""] * 4])
            break
        rate = f"{found.examples / found.total_s:.1f}"
        if found.pieces > bench.config.machine.pieces:
            rows.append([clips, f"did not fit; in {found.pieces} pieces {rate}", *[""] * 4])
            break
        rows.append([clips, rate, *bench.shares(found), f"{found.peak_gb:.1f}"])
    return table(["clips", "examples/s", "TFLOP/s", "of product", "of data sheet", "peak GB"], rows)


def tricks(config: TrainConfig, device: torch.device) -> dict[str, TrainConfig]:
    """Return the configuration with each trick taken back, or each alternative taken, by itself."""

    def execution(**fields: object) -> TrainConfig:
        return with_fields(config, execution=fields)

    def machine(**fields: object) -> TrainConfig:
        return with_fields(config, machine=fields)

    compiled = config.execution.compile
    others = {kind: with_fields(config, optim={"kind": kind}) for kind in ("adamw", "adamw8bit", "adamw8bit_ao")}
    del others[config.optim.kind]
    on_gpu = device.type == "cuda"
    plain = {"encoder": "padded", "decoder": "padded", "logits": "all", "attention": "sdpa", "compile": False}
    return {
        AS_IT_IS: config,
        "encoder in 30 s windows": execution(encoder="padded"),
        "decoder padded": execution(decoder="padded"),
        "logits at every position": execution(logits="all"),
        **{f"attention by {kernel}": execution(attention=kernel) for kernel in (*PACKED_KERNELS, "sdpa", "eager")},
        f"{'without' if compiled else 'with'} torch.compile": execution(compile=not compiled),
        "with recompute": execution(recompute=True),
        "loss in chunks of 256 rows": execution(loss_chunk=256),
        **({"log-mels on the host": machine(mel="host"), "memory not pinned": machine(pin=False)} if on_gpu else {}),
        **{f"optimiser {kind}": other for kind, other in others.items()},
        "in 2 pieces": machine(pieces=2),
        "all of them off": with_fields(config, execution=plain, machine={"mel": "host", "pin": False}),
        f"{AS_IT_IS}, again": config,
    }


def by_trick(bench: Bench, options: argparse.Namespace) -> str:
    """Return the table of tricks."""
    lengths_s = mixture_lengths(options.mean, POOL, seed=0)
    rows: list[list[object]] = []
    base = 0.0
    for name, changed in tricks(bench.config, bench.world.device).items():
        if options.tiny and changed.execution.compile:
            continue  # a compiler takes longer than the whole rest
        found = bench.measure(bench.sized(changed, options.mean, options.clips), lengths_s)
        if isinstance(found, str):
            rows.append([name, found, "", "", ""])
            continue
        rate = found.examples / found.total_s
        base = base or rate
        note = f" in {found.pieces} pieces" if found.pieces > changed.machine.pieces else ""
        rows.append([name, f"{rate:.1f}{note}", f"{rate / base:.2f}", f"{found.peak_gb:.1f}", _compiled(found)])
    return table(["step", "examples/s", "relative", "peak GB", "graphs before / during"], rows)


def by_data(bench: Bench, options: argparse.Namespace) -> str:
    """Return the rate and the waiting with real clips from shards; texts count as one token each four letters."""
    data = training_data(open_shards([options.data], split="train"))
    durations = np.concatenate([np.asarray(values) for values in data.durations.values()])
    mean_s = float(durations.mean())

    def load(run: Run, feed: RandomFeed, numbers: Sequence[int]) -> Iterator[Batch]:
        config, machine = run.config, run.config.machine
        real = Feed(
            data.sources,
            BatchOrder(data.durations, config=config.batches, seed=config.seed),
            turn=letters,
            n_mels=feed.n_mels,
            instructions=config.instructions,
            family_shares=config.family_shares,
            cache_mb=config.cache_mb,
            host_mels=feed.host_mels,
        )
        made = real.load(numbers, workers=machine.workers, ahead=machine.ahead)
        return prefetched(made, device=run.world.device, n_mels=feed.n_mels, pin=machine.pin)

    rows: list[list[object]] = []
    config = bench.sized(bench.config, mean_s, options.clips)
    for name, source in (("random clips", None), ("shards", load)):
        found = bench.measure(config, durations, source)
        if isinstance(found, str):
            rows.append([name, found, "", ""])
            continue
        rates = [f"{count / found.total_s:.1f}" for count in (found.examples, found.audio_s)]
        rows.append([name, *rates, f"{found.waited_s / found.total_s:.1%}"])
    return table([f"clips of {mean_s:.1f} s", "examples/s", "audio s/s", "waiting"], rows)


def letters(prompt: str, answer: str) -> Turn:
    """Return ids without a tokenizer, one for each four letters: what a text costs, not what it says."""
    texts = [tuple(1 + ord(letter) % 127 for letter in text[::4]) for text in (prompt, answer + "    ")]
    return Turn(prompt=texts[0], answer=texts[1])


def _config(options: argparse.Namespace, device: torch.device) -> TrainConfig:
    config = uniwhisper_large_v3()
    kind = config.optim.kind if find_spec("bitsandbytes") else "adamw"
    compiled = device.type == "cuda" and not options.tiny
    config = with_fields(config, optim={"kind": kind}, execution={"compile": compiled})
    if options.tiny:  # processes take longer to start than the toy to train
        config = with_fields(config, machine={"workers": 0})
    for assignment in options.set:
        config = override(config, assignment)
    return config


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/gpu_step_*.md")
    parser.add_argument("--tiny", action="store_true", help="a toy in seconds, on any device")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--means", nargs="+", type=float, default=[9.3, 18.0, 30.0], help="mean clips, in seconds")
    parser.add_argument("--mean", type=float, default=18.0, help="mean clip of sizes and tricks, in seconds")
    parser.add_argument("--clips", type=int, default=16, help="clips of a micro-batch, on average")
    parser.add_argument("--sizes", nargs="+", type=int, default=[4, 8, 16, 32, 64, 128])
    parser.add_argument("--micro-batches", type=int, default=8, help="of a step; the recipe has 16")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before the clock starts")
    parser.add_argument("--steps", type=int, default=6, help="steps that count")
    parser.add_argument("--prompt-tokens", type=int, default=25)
    parser.add_argument("--answer-tokens", type=int, default=20)
    parser.add_argument("--data", type=Path, help="folder of shards, for the part with real clips")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of TrainConfig")
    options = parser.parse_args(words)
    if options.tiny:
        options.means, options.mean, options.sizes = [9.3, 30.0], 9.3, [1, 2]
        options.clips, options.micro_batches, options.warm_up, options.steps = 2, 2, 1, 2
    return options


def heading(bench: Bench, options: argparse.Namespace) -> list[str]:
    """Return what was measured, on what."""
    device = bench.world.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else hardware()
    known = f"{bench.known_rate / 1e12:.0f} on its data sheet" if bench.known_rate else "data sheet not known"
    kernel = attention_in_use(device, torch.bfloat16, kernel=bench.config.execution.attention)
    return [
        f"{bench.shape.name}, random weights; {name}, torch {torch.__version__}",
        "",
        f"- bfloat16 matrix product: {bench.matmul / 1e12:.3g} TFLOP/s measured, {known}",
        f"- step: {options.micro_batches} micro-batches of about {options.clips} clips, each with "
        f"{options.prompt_tokens} + {options.answer_tokens} text tokens; {options.steps} steps after "
        f"{options.warm_up}; sizes and tricks at a mean of {options.mean:g} s",
        f"- {bench.config.execution}, attention by {kernel}, optimiser {bench.config.optim.kind}",
    ]


def main(words: Sequence[str] | None = None) -> str:
    """Run the benchmark and return its report."""
    options = _options(words)
    with joined_world(MachineConfig()) as world:
        shape = TINY if options.tiny else LARGE
        matmul = measured_matmul(world.device, torch.bfloat16, seconds=0.05 if options.tiny else 1.0)
        config = _config(options, world.device)
        own = {f.name: getattr(options, f.name) for f in fields(Bench) if hasattr(options, f.name)}
        bench = Bench(shape=shape, config=config, world=world, matmul=matmul, **own)
        lines = heading(bench, options)
        print("\n".join(lines), flush=True)
        parts: Mapping[str, Callable[[Bench, argparse.Namespace], str]] = {
            "lengths": by_length,
            "sizes": by_size,
            "tricks": by_trick,
            **({"data": by_data} if options.data else {}),
        }
        for name, part in parts.items():
            if name in options.parts:
                lines += ["", part(bench, options)]
                print(f"\n{lines[-1]}", flush=True)
    text = "\n".join(lines)
    if options.write:
        gpu = torch.cuda.get_device_name(world.device) if world.device.type == "cuda" else "no gpu"
        print(write_result("gpu_step_" + re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-"), text))
    return text


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        main()
