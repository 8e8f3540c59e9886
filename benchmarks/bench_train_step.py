"""Our training step against the one written with Hugging Face parts, and against itself with one trick off at a time.

Reads a table or manifest of real clips and the weights named; writes a result file only with `--write`. First it
checks in float32 that both sides have the same loss and the same encoder gradient, and stops if not. The extractor's
first padded mel frame still sees the end of the clip, where ours has the clip's silence, so clips that end loudly can
fail that check; a control with constant silence after every clip tells this apart from an error in the code. Then it
times whole steps of the same clips (forward, backward, clipping, AdamW; features and tokens are ready on both sides),
sides taking turns. A row of ours is `train_step` under the settings named, which anyone can give to `uniwhisper train
--set`; its loss is compared with that of the step as it is. Peak memory and the allocator's setting are measured in
processes of their own. The bound is the ratio of the operations that lengths alone ask for.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from step_sides import BATCHES, Case, Ours, Plain, Side, with_settings
from timing import Timing, hardware, interleave, matmul_rate, peak_memory_mb, table, write_result
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.errors import ConfigError
from uniwhisper.train.config import TrainConfig

OURS, PLAIN, STOCK = "ours", "plain: HF parts, padded, masked", "plain, stock (no mask: another loss)"
TOLERANCE = 1e-3
ROWS: dict[str, tuple[str, ...]] = {
    "ours, again": (),
    "encoder on 30 s windows": ("execution.encoder=padded",),
    "LM batch padded": ("execution.decoder=padded",),
    "logits at every position": ("execution.logits=all",),
    "logits in chunks of 64 rows": ("execution.loss_chunk=64",),
    "attention: torch's choice": ("execution.attention=sdpa",),
    "attention: as the formula is written": ("execution.attention=eager",),
    "attention: torch's kernel for packs": ("execution.attention=varlen",),
    "encoder layers compiled": ("execution.compile=true",),
    "encoder layers recomputed": ("execution.recompute=true",),
    "each batch in 2 pieces": ("machine.pieces=2",),
    "log-mels in the step, not before": ("machine.mel=device",),
    "8-bit AdamW (bitsandbytes)": ("optim.kind=adamw8bit",),
    "8-bit AdamW (torchao)": ("optim.kind=adamw8bit_ao",),
    "8-bit AdamW, bf16 weights": ("optim.kind=adamw8bit_ao", "optim.weights=bf16"),
    "2 batches a step, one by one": ("accumulation=2",),
    "2 batches a step, a thread each": ("accumulation=2", "parallel=2"),
    "float32": ("precision=fp32",),
    "padded everywhere, all logits, torch's attention": (
        *("execution.encoder=padded", "execution.decoder=padded", "execution.logits=all"),
        "execution.attention=sdpa",
    ),
}
"""What is timed beside the step as it is: a name, and how to ask for it."""
ALONE = (
    *("encoder on 30 s windows", "LM batch padded", "logits at every position", "logits in chunks of 64 rows"),
    *("encoder layers recomputed", "each batch in 2 pieces", "8-bit AdamW (bitsandbytes)"),
    *("8-bit AdamW, bf16 weights", "float32"),
)
"""Rows whose memory is measured too."""


def check_equal(config: TrainConfig, data: Path | None, num_clips: int) -> str:
    """Return the float32 differences of a small batch.

    Raises:
        SystemExit: The losses differ by more than 1e-3, or the gradients of the encoder by more than 1e-2.
    """
    ours = Ours(with_settings(config, ("precision=fp32",)), data)
    plain = Plain(ours)
    case = plain.pad(next(ours.cases(1, num_clips=num_clips)))
    batch = case.batches[0]
    ours.model.freeze_audio(False)
    losses = (ours.model(batch.mels, batch.tails, batch.turns).tokens.mean(), plain.network(case.padded[0]))
    for loss in losses:
        loss.backward()
    found, expected = (float(loss.detach()) for loss in losses)
    name = "layers.0.fc1.weight"
    gradients = [part.get_parameter(name).grad for part in (ours.model.audio.encoder, plain.network.encoder)]
    if gradients[0] is None or gradients[1] is None:
        raise SystemExit("expected a gradient of the encoder on both sides, found none")
    gap = abs(expected / found - 1)
    gradient_gap = float((gradients[0] - gradients[1]).norm() / gradients[1].norm())
    if not (gap <= TOLERANCE and gradient_gap <= 10 * TOLERANCE):
        raise SystemExit(f"the two sides differ in float32: loss by {gap:.1e}, encoder gradient by {gradient_gap:.1e}")
    with torch.no_grad():
        stock = float(plain.network(case.padded[0], masked=False))
    return (
        f"float32, {num_clips} clips: loss ours {found:.6f}, plain {expected:.6f} (relative difference {gap:.1e}; "
        f"encoder gradient {gradient_gap:.1e}); stock encoder without mask {stock:.6f}"
    )


def rows(options: argparse.Namespace, config: TrainConfig) -> dict[str, tuple[str, ...]]:
    """Return the rows that were asked for and that change something here."""
    wanted = {name: s for name, s in ROWS.items() if not any(word in name for word in options.without)}
    if options.two_sides:
        return {}
    return {name: s for name, s in wanted.items() if not s or _changes(config, s)}


def _changes(config: TrainConfig, settings: Sequence[str]) -> bool:
    """Return whether these settings are another step; those that are refused are, and become a row that says why."""
    try:
        return with_settings(config, settings) != config
    except ConfigError:
        return True


def sides(
    ours: Ours, plain: Plain, settings: Mapping[str, tuple[str, ...]], options: argparse.Namespace
) -> dict[str, Side]:
    """Return every side to be timed."""
    found = {OURS: Side(step=lambda case: ours.step(ours.run, case)), PLAIN: Side(step=plain.step)}
    if not options.two_sides:
        found[STOCK] = Side(step=lambda case: plain.step(case, masked=False))
    for name, changes in settings.items():
        found[name] = Side(step=_Variant(ours, changes), must_run=False)
    return found


class _Variant:
    """A step of ours under other settings; what it needs is built when it is first asked for."""

    def __init__(self, ours: Ours, changes: tuple[str, ...]) -> None:
        self._ours, self._changes = ours, changes
        self._run: Any = None

    def __call__(self, case: Case) -> float:
        if self._run is None:
            self._run = self._ours.variant(with_settings(self._ours.run.config, self._changes))
        return self._ours.step(self._run, case)


def time_alone(options: argparse.Namespace) -> dict[str, Any]:
    """Time one side in this process, which does nothing else, and return what it took."""
    kept = keep_freed_memory() if options.keep_freed == "yes" else False
    ours = Ours(_config(options), options.data)
    cases = list(ours.cases(options.cases))
    side = Side(step=lambda case: ours.step(ours.run, case), must_run=False)
    if options.alone == "plain":
        plain = Plain(ours)
        side, cases = Side(step=plain.step), [plain.pad(case) for case in cases]
        del ours  # the plain side needs nothing of ours any more
    timing = interleave({"": side}, cases, repeats=1)[""]
    examples = sum(case.examples for case in cases)
    found = {"seconds": timing.wall_s, "examples": examples, "peak_mb": peak_memory_mb()}
    return found | {"kept": kept, "refusal": side.refusal}


def separate_rows(options: argparse.Namespace, settings: Mapping[str, tuple[str, ...]]) -> str:
    """Return the table of what needs a process of its own; they run one after the other, in turn.

    They run before this process has loaded a network: with every row's network here, two of them would not fit.
    """
    asked = {OURS: ("ours", (), "yes"), f"{OURS}, freed memory given back": ("ours", (), "no")}
    asked[f"{PLAIN}, freed memory given back"] = ("plain", (), "no")
    asked |= {name: ("ours", settings[name], "yes") for name in ALONE if name in settings}
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in asked}
    for _ in range(options.processes):
        for name, (side, changes, keep) in asked.items():
            results[name].append(_spawn(options, side, changes, keep))
    peak = {name: max(run["peak_mb"] for run in runs) for name, runs in results.items()}
    cells: list[list[object]] = []
    for name, runs in results.items():
        if runs[0]["refusal"]:
            cells.append([name, f"not here: {runs[0]['refusal']}", "", ""])
            continue
        rate = runs[0]["examples"] / statistics.median(s for run in runs for s in run["seconds"])
        cells.append([name, f"{rate:.2f}", f"{peak[name]:.0f}", f"{peak[name] / peak[OURS]:.2f}"])
    return table(["in a process of its own", "examples/s", "peak memory MB", "relative to ours"], cells)


def _spawn(options: argparse.Namespace, side: str, changes: Sequence[str], keep: str) -> dict[str, Any]:
    words = [sys.executable, __file__, "--alone", side, "--precision", options.precision, "--keep-freed", keep]
    words += ["--cases", str(options.cases)]
    words += ["--data", str(options.data)] if options.data else []
    words += [word for assignment in (*options.set, *changes) for word in ("--set", assignment)]
    run = subprocess.run(words, capture_output=True, text=True)
    if run.returncode:
        raise SystemExit(f"the process for {side}, {' '.join(changes)} failed:\n{run.stderr[-2000:]}")
    return json.loads(run.stdout.splitlines()[-1])


def speed_table(
    found: Mapping[str, Side],
    timings: Mapping[str, Timing],
    cases: Sequence[Case],
    settings: Mapping[str, tuple[str, ...]],
) -> str:
    """Return a row for each side: its rate, that over ours in the same pass, and how far its loss is from ours."""
    examples, audio_s = sum(case.examples for case in cases), sum(case.audio_s for case in cases)
    cells: list[list[object]] = []
    for name, side in found.items():
        how = " ".join(settings.get(name, ()))
        if side.refusal:
            cells.append([name, f"not here: {side.refusal}", "", "", "", "", how])
            continue
        timing = timings[name]
        cells.append(
            [
                name,
                f"{examples / timing.median_s:.2f}",
                f"{audio_s / timing.median_s:.1f}",
                f"{1 / ratio(timings, name):.2f}",
                f"{examples / timing.median_cpu_s:.2f}",
                f"{side.gap(found[OURS]):.0e}",
                how,
            ]
        )
    header = ["step", "examples/s", "audio s/s", "relative to ours", "examples per processor s", "loss differs by"]
    return table([*header, "settings"], cells)


def ratio(timings: Mapping[str, Timing], name: str) -> float:
    """Return how many times the seconds of ours a side took: the median over the passes, each compared with itself."""
    pairs = zip(timings[name].wall_s, timings[OURS].wall_s, strict=True)
    return statistics.median(seconds / ours for seconds, ours in pairs)


def bound_lines(ours: Ours, plain: Plain, cases: Sequence[Case], timings: Mapping[str, Timing]) -> list[str]:
    """Return the bound and the shares of it and of the machine's rate that were reached."""
    examples = sum(case.examples for case in cases)
    total = {OURS: sum(map(ours.flops, cases)), PLAIN: sum(map(plain.flops, cases))}
    bound, speedup = total[PLAIN] / total[OURS], ratio(timings, PLAIN)
    processor = timings[PLAIN].median_cpu_s / timings[OURS].median_cpu_s
    rate = matmul_rate(ours.model.precision or torch.float32)
    shares = {name: total[name] / timings[name].median_s / rate for name in total}
    return [
        f"- ratio ours / plain: {speedup:.2f} (processor time: {processor:.2f}); asked: 6",
        f"- GFLOP an example: ours {total[OURS] / examples / 1e9:.3g}, plain {total[PLAIN] / examples / 1e9:.3g}: "
        f"true-length bound {bound:.2f}",
        f"- share of the bound reached: {speedup / bound:.0%}; asked: 80%",
        f"- share of the matrix-product rate ({rate / 1e9:.0f} GFLOP/s): "
        f"ours {shares[OURS]:.0%}, plain {shares[PLAIN]:.0%}",
    ]


def _heading(plain: Plain, cases: Sequence[Case], config: TrainConfig) -> str:
    examples, audio_s = sum(case.examples for case in cases), sum(case.audio_s for case in cases)
    positions = sum(sum(plain.lengths(batch)) for case in cases for batch in case.padded)
    return (
        f"{BATCHES * len(cases)} batches, {examples} clips of {audio_s / examples:.2f} s on average, "
        f"{positions / examples:.0f} LM positions each; adapter reduction {config.adapter.reduction}"
    )


def _config(options: argparse.Namespace) -> TrainConfig:
    return with_settings(TrainConfig(), (f"precision={options.precision}", *options.set))


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="table (CSV) or manifest of clips with split train")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of TrainConfig")
    parser.add_argument("--precision", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--cases", type=int, default=2, help=f"cases of {BATCHES} batches that every pass goes through")
    parser.add_argument("--repeats", type=int, default=3, help="passes; the median counts")
    parser.add_argument("--check-clips", type=int, default=4, help="clips of the float32 check; 0 leaves it out")
    parser.add_argument("--processes", type=int, default=1, help="separate processes a setting; 0 leaves them out")
    parser.add_argument("--two-sides", action="store_true", help="time the two sides alone, no rows of tricks")
    parser.add_argument("--without", action="append", default=[], metavar="WORD", help="leave out rows with this word")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/train_step_*.md")
    parser.add_argument("--alone", choices=("ours", "plain"), help=argparse.SUPPRESS)
    parser.add_argument("--keep-freed", choices=("yes", "no"), default="yes", help=argparse.SUPPRESS)
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> str:
    """Run the benchmark and return its report."""
    options = _options(words)
    if options.alone:
        print(json.dumps(time_alone(options)))
        return ""
    config = _config(options)
    separate = separate_rows(options, rows(options, config)) if options.processes else ""
    keep_freed_memory()  # for both sides: they share one process
    lines = [f"{config.encoder} + {config.decoder}, {config.precision}; {hardware()}", ""]
    if options.check_clips:
        lines += ["- " + check_equal(config, options.data, options.check_clips), ""]
        print(lines[-2], flush=True)
    ours = Ours(config, options.data)
    plain = Plain(ours)
    cases = [plain.pad(case) for case in ours.cases(options.cases)]
    settings = rows(options, ours.run.config)
    found = sides(ours, plain, settings, options)
    timings = interleave(found, cases, repeats=options.repeats)
    lines += [_heading(plain, cases, config), "", speed_table(found, timings, cases, settings), ""]
    lines += bound_lines(ours, plain, cases, timings)
    print("\n".join(lines[2:]), flush=True)
    if separate:
        lines += ["", separate]
        print(f"\n{separate}")
    text = "\n".join(lines)
    if options.write:
        print(write_result("train_step", text))
    return text


if __name__ == "__main__":
    main()
