"""Our training step against the one written with Hugging Face parts: same clips, weights, loss and precision.

Reads a table or manifest of real clips and the weights named; writes a result file only with `--write`. First it
checks in float32 that both sides have the same loss and the same encoder gradient, and stops if not. The extractor's
first padded mel frame still sees the end of the clip, where ours has the clip's silence, so clips that end loudly can
fail that check; a control with constant silence after every clip tells this apart from an error in the code. Then it
times whole steps (forward, backward, clipping, AdamW; features and tokens are ready on both sides), sides taking
turns batch by batch, and beside them our step with one of its parts taken back at a time. Peak memory and the
allocator setting are measured in processes of their own. The bound is the ratio of the operations that lengths alone
ask for.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from clips import read_clips
from flops import LmDims, adapter_flops, encoder_flops, lm_flops
from plain import PaddedBatch, PlainModel
from timing import Timing, hardware, interleave, matmul_rate, peak_memory_mb, table, write_result
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.model.packing import Packed
from uniwhisper.model.uniwhisper import UniWhisper
from uniwhisper.train.config import TrainConfig, override
from uniwhisper.train.data import training_data
from uniwhisper.train.feed import Batch, WaveStore
from uniwhisper.train.loop import Run, build_feed, build_model, train_step
from uniwhisper.train.optim import build_optimizer, set_learning_rates
from uniwhisper.types import Clip
from uniwhisper.weights import resolve

OURS, PLAIN, STOCK = "ours", "plain: HF parts, padded, masked", "plain, stock (no mask: another loss)"
TOLERANCE = 1e-3


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One batch: in our form, and in the plain one where that is needed."""

    ours: Batch
    clips: tuple[Clip, ...]
    plain: PaddedBatch | None = None
    """Absent where a process measures our side alone."""

    @property
    def frames(self) -> list[int]:
        """Return the valid 20 ms frames of each clip."""
        return [_ceil(mel.shape[1], 2) for mel in self.ours.mels]

    @property
    def padded(self) -> PaddedBatch:
        """Return the plain form."""
        if self.plain is None:
            raise ValueError("this case was made for our side alone")
        return self.plain


class Bench:
    """Both sides on the same weights, with an optimiser each."""

    def __init__(self, config: TrainConfig, data: Path | None) -> None:
        self.config = config
        made = training_data(read_clips(data))
        model = build_model(config)
        order, feed = build_feed(config, model, made)
        self._sources = made.sources
        self._waves = WaveStore(config.cache_mb)
        self.run = Run(
            config=config,
            out=Path(),
            model=model,
            feed=feed,
            order=order,
            optimizer=build_optimizer(model, config.optim),
            average={},
            original={},
            step=config.optim.align_steps,  # the first step in which the encoder learns too
        )

    @cached_property
    def plain(self) -> PlainModel:
        """Return the plain network; it is loaded on first use."""
        dtype = torch.bfloat16 if self.config.precision == "bf16" else torch.float32
        folders = {"encoder_folder": resolve(self.config.encoder), "lm_folder": resolve(self.config.decoder)}
        return PlainModel(self.model, **folders, dtype=dtype)

    @cached_property
    def _plain_optimizer(self) -> torch.optim.Optimizer:
        trained = [p for p in self.plain.parameters() if p.requires_grad]
        return torch.optim.AdamW(trained, lr=1e-6, fused=True)

    @property
    def model(self) -> UniWhisper:
        """Return our network."""
        return self.run.model

    def cases(self, numbers: Sequence[int], *, num_clips: int | None = None) -> list[Case]:
        """Return batches of the mixture, or their first clips, in our form."""
        found = []
        for number in numbers:
            draws = self.run.order.batch(number)[:num_clips]
            clips = tuple(self._sources[draw.source][draw.index] for draw in draws)
            found.append(Case(ours=self.run.feed.collate(draws), clips=clips))
        return found

    def pad(self, case: Case) -> Case:
        """Return `case` in both forms."""
        waves = [self._waves.wave(clip) for clip in case.clips]
        return replace(case, plain=self.plain.collate(waves, case.frames, case.ours.turns))

    def losses(self, case: Case) -> dict[str, Tensor]:
        """Return the mean loss per answer token of both sides and of the stock encoder."""
        batch = case.ours
        self.model.freeze_audio(False)
        return {
            OURS: self.model(batch.mels, batch.tails, batch.turns).mean(),
            PLAIN: self.plain(case.padded),
            STOCK: self.plain(case.padded, masked=False),
        }

    def step_ours(self, case: Case) -> None:
        """Do the training step of `uniwhisper train`."""
        train_step(self.run, [case.ours])

    def step_plain(self, case: Case, *, masked: bool = True) -> None:
        """Do the plain step."""
        self.plain(case.padded, masked=masked).backward()
        _finish(self.plain, self._plain_optimizer)

    def step_variant(self, case: Case, loss: Callable[[Case], Tensor]) -> None:
        """Do our step with the loss computed in another way."""
        set_learning_rates(self.run.optimizer, self.run.step, self.config.optim)
        loss(case).mean().backward()
        _finish(self.model, self.run.optimizer)

    def variants(self) -> dict[str, Callable[[Case], Tensor]]:
        """Return our loss with one part taken back to the plain way."""
        return {
            "ours, encoder on 30 s windows": self._long_windows,
            "ours, LM batch padded, transformers' layers": self._padded_lm,
            "ours, logits at every position": self._all_logits,
        }

    def _inputs(self, case: Case) -> Packed:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.model.precision is not None):
            return self.model.adapter(self.model.audio(case.ours.mels, case.ours.tails))

    def _long_windows(self, case: Case) -> Tensor:
        rows = self.plain.audio_inputs(case.padded)
        packed = Packed(values=torch.cat(rows), lengths=tuple(len(row) for row in rows))
        return self.model.decoder.answer_losses(packed, case.ours.turns)

    def _padded_lm(self, case: Case) -> Tensor:
        return self.plain.answer_losses(self._inputs(case), case.ours.turns)

    def _all_logits(self, case: Case) -> Tensor:
        """Compute as many rows of logits as there are positions; the rows that are not answers repeat answers."""
        inputs = self._inputs(case)
        states, targets = self.model.decoder.hidden(inputs, case.ours.turns)
        rows = torch.arange(sum(self.lengths(case))) % len(targets)
        labels = targets[rows]
        labels[len(targets) :] = -100
        logits = self.plain.lm.lm_head(states[rows])
        return functional.cross_entropy(logits.float(), labels, reduction="none")[: len(targets)]

    def lengths(self, case: Case) -> list[int]:
        """Return the LM positions of every example, the last answer token included."""
        size = self.config.adapter.reduction
        opening = len(self.model.decoder.dialogue.opening)
        audio_positions = [_ceil(_ceil(n, 2), size) for n in case.frames]
        texts = [len(turn.prompt) + len(turn.answer) for turn in case.ours.turns]
        return [opening + n + text for n, text in zip(audio_positions, texts, strict=True)]

    def flops(self, case: Case) -> dict[str, float]:
        """Return the operations of one step of both sides, from the lengths."""
        dims, adapter = self.model.audio.encoder.dims, self.config.adapter
        lm = LmDims.of(self.plain.lm.config)
        lengths = self.lengths(case)
        window = [dims.n_audio_ctx] * len(lengths)
        padded = [max(lengths)] * len(lengths)
        return {
            OURS: encoder_flops(dims, case.frames)
            + adapter_flops(dims, adapter, lm, case.frames)
            + lm_flops(lm, [n - 1 for n in lengths], case.ours.num_answer_tokens),
            PLAIN: encoder_flops(dims, window)
            + adapter_flops(dims, adapter, lm, window)
            + lm_flops(lm, padded, sum(padded)),
        }


def _ceil(count: int, size: int) -> int:
    return -(-count // size)


def _finish(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    parameters = [p for p in model.parameters() if p.grad is not None]
    torch.nn.utils.clip_grad_norm_(parameters, 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    model.zero_grad(set_to_none=True)


def check_equal(config: TrainConfig, data: Path | None, num_clips: int) -> str:
    """Return the float32 differences of a small batch.

    Raises:
        SystemExit: The losses differ by more than 1e-3, or the gradients of the encoder by more than 1e-2.
    """
    bench = Bench(replace(config, precision="fp32"), data)
    case = bench.pad(bench.cases([0], num_clips=num_clips)[0])
    losses = bench.losses(case)
    values = {name: float(loss.detach()) for name, loss in losses.items()}
    losses[OURS].backward()
    losses[PLAIN].backward()
    name = "layers.0.fc1.weight"
    ours, plain = (part.get_parameter(name).grad for part in (bench.model.audio.encoder, bench.plain.encoder))
    if ours is None or plain is None:
        raise SystemExit("expected a gradient of the encoder on both sides, found none")
    loss_gap = abs(values[PLAIN] / values[OURS] - 1)
    gradient_gap = float((ours - plain).norm() / plain.norm())
    if loss_gap > TOLERANCE or gradient_gap > 10 * TOLERANCE:
        raise SystemExit(
            f"the two sides differ in float32: loss by {loss_gap:.1e}, encoder gradient by {gradient_gap:.1e}"
        )
    return (
        f"float32, {num_clips} clips: loss ours {values[OURS]:.6f}, plain {values[PLAIN]:.6f} "
        f"(relative difference {loss_gap:.1e}; encoder gradient {gradient_gap:.1e}); "
        f"stock encoder without mask {values[STOCK]:.6f}"
    )


def compare_bf16(bench: Bench, case: Case) -> str:
    """Return both losses of a whole batch in the precision of training."""
    with torch.no_grad():
        values = {name: float(loss) for name, loss in bench.losses(case).items()}
    gap = abs(values[PLAIN] / values[OURS] - 1)
    return (
        f"{bench.config.precision}, {len(case.frames)} clips: loss ours {values[OURS]:.4f}, plain {values[PLAIN]:.4f} "
        f"(relative difference {gap:.1e}); stock encoder without mask {values[STOCK]:.4f}"
    )


def time_sides(bench: Bench, cases: Sequence[Case], options: argparse.Namespace) -> dict[str, Timing]:
    """Time both sides and, unless asked not to, the variants."""
    sides: dict[str, Callable[[Case], object]] = {OURS: bench.step_ours, PLAIN: bench.step_plain}
    if not options.two_sides:
        sides[STOCK] = lambda case: bench.step_plain(case, masked=False)
        for name, loss in bench.variants().items():
            sides[name] = lambda case, loss=loss: bench.step_variant(case, loss)
    return interleave(sides, cases, repeats=options.repeats)


def time_alone(options: argparse.Namespace) -> dict[str, Any]:
    """Time one side in this process, which does nothing else, and return what it took."""
    kept = keep_freed_memory() if options.keep_freed == "yes" else False
    bench = Bench(_config(options), options.data)
    cases = bench.cases(range(options.batches))
    step = bench.step_ours
    if options.alone == "plain":
        step, cases = bench.step_plain, [bench.pad(case) for case in cases]
        del bench.run  # the plain side needs nothing of ours any more
    timing = interleave({"": step}, cases, repeats=options.repeats)[""]
    return {"seconds": timing.wall_s, "cpu_s": timing.cpu_s, "peak_mb": peak_memory_mb(), "kept": kept}


def separate_rows(options: argparse.Namespace, num_examples: int) -> list[list[object]]:
    """Return a row for each side or setting that needs a process of its own; they run one after the other, twice."""
    settings = {
        OURS: ("ours", options.precision, "yes"),
        "ours, freed memory given back (the C library's default)": ("ours", options.precision, "no"),
        PLAIN + ", freed memory given back": ("plain", options.precision, "no"),
    }
    if options.precision == "bf16":
        settings["ours, float32"] = ("ours", "fp32", "yes")
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in settings}
    for _ in range(options.processes):
        for name, (side, precision, keep) in settings.items():
            results[name].append(_spawn(options, side, precision, keep))
    rows: list[list[object]] = []
    for name, runs in results.items():
        seconds = sorted(s for run in runs for s in run["seconds"])
        median = seconds[len(seconds) // 2]
        peak = max(run["peak_mb"] for run in runs)
        rows.append([name, f"{num_examples / median:.2f}", f"{peak:.0f}"])
    return rows


def _spawn(options: argparse.Namespace, side: str, precision: str, keep: str) -> dict[str, Any]:
    words = [sys.executable, __file__, "--alone", side, "--precision", precision, "--keep-freed", keep]
    words += ["--batches", str(options.batches), "--repeats", "1"]
    words += ["--data", str(options.data)] if options.data else []
    words += [word for assignment in options.set for word in ("--set", assignment)]
    run = subprocess.run(words, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"the process for {side}, {precision} failed:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def report(bench: Bench, cases: Sequence[Case], timings: Mapping[str, Timing], rates: Mapping[str, float]) -> str:
    """Return the tables of speeds, the bound and the share of it that was reached."""
    examples = sum(len(case.frames) for case in cases)
    seconds = sum(case.ours.audio_s for case in cases)
    ours, plain = timings[OURS], timings[PLAIN]
    rows = [
        [
            name,
            f"{examples / timing.median_s:.2f}",
            f"{seconds / timing.median_s:.1f}",
            f"{ours.median_s / timing.median_s:.2f}",
            f"{examples / timing.median_cpu_s:.2f}",
        ]
        for name, timing in timings.items()
    ]
    flops = [bench.flops(case) for case in cases]
    total = {name: sum(f[name] for f in flops) for name in (OURS, PLAIN)}
    bound, ratio = total[PLAIN] / total[OURS], plain.median_s / ours.median_s
    rate = rates[bench.config.precision]
    shares = {name: total[name] / timings[name].median_s / rate for name in (OURS, PLAIN)}
    return "\n".join(
        [
            f"{len(cases)} batches, {examples} clips of {seconds / examples:.2f} s on average, "
            f"{sum(sum(bench.lengths(c)) for c in cases) / examples:.0f} LM positions each; "
            f"adapter reduction {bench.config.adapter.reduction}",
            "",
            table(["step", "examples/s", "audio s/s", "relative to ours", "examples per processor s"], rows),
            "",
            f"- ratio ours / plain: {ratio:.2f} (processor time: {plain.median_cpu_s / ours.median_cpu_s:.2f})",
            f"- GFLOP an example: ours {total[OURS] / examples / 1e9:.0f}, plain {total[PLAIN] / examples / 1e9:.0f}: "
            f"true-length bound {bound:.2f}",
            f"- share of the bound reached: {ratio / bound:.0%}",
            f"- share of the matrix-product rate ({rate / 1e9:.0f} GFLOP/s): "
            f"ours {shares[OURS]:.0%}, plain {shares[PLAIN]:.0%}",
        ]
    )


def _config(options: argparse.Namespace) -> TrainConfig:
    config = TrainConfig(precision=options.precision)
    for assignment in options.set:
        config = override(config, assignment)
    return config


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="table (CSV) or manifest of clips with split train")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of TrainConfig")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--batches", type=int, default=6, help="batches of the mixture that every pass goes through")
    parser.add_argument("--repeats", type=int, default=3, help="passes; the median counts")
    parser.add_argument("--check-clips", type=int, default=4, help="clips of the float32 check; 0 leaves it out")
    parser.add_argument("--processes", type=int, default=2, help="separate processes a setting; 0 leaves them out")
    parser.add_argument("--two-sides", action="store_true", help="time the two sides alone, no variants")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/train_step_*.md")
    parser.add_argument("--alone", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--keep-freed", choices=("yes", "no"), default="yes", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the benchmark."""
    options = _options()
    if options.alone:
        print(json.dumps(time_alone(options)))
        return
    keep_freed_memory()  # for both sides: the sides share one process
    config = _config(options)
    lines = [f"{config.encoder} + {config.decoder}, {config.precision}; {hardware()}", ""]
    if options.check_clips:
        lines += ["- " + check_equal(config, options.data, options.check_clips)]
        print(lines[-1], flush=True)
    bench = Bench(config, options.data)
    cases = [bench.pad(case) for case in bench.cases(range(options.batches))]
    lines += ["- " + compare_bf16(bench, cases[0])]
    print(lines[-1], flush=True)
    rates = {config.precision: matmul_rate(torch.bfloat16 if config.precision == "bf16" else torch.float32)}
    lines += ["", report(bench, cases, time_sides(bench, cases, options), rates)]
    print("\n".join(lines[2:]), flush=True)
    if options.processes:
        del bench
        rows = separate_rows(options, sum(len(case.frames) for case in cases))
        lines += ["", "In processes of their own:", "", table(["step", "examples/s", "peak memory MB"], rows)]
        print("\n".join(lines[-3:]))
    if options.write:
        print(write_result("train_step", "\n".join(lines)))


if __name__ == "__main__":
    main()
