"""The order of a run over ten million clips: opening it, seeking in it and reading it, beside the plain ways.

The manifest is synthetic: the 23 corpora of the paper's Table 1, as many clips as their hours and usual clip lengths
give, scaled to the number asked for; durations lie in one memory-mapped file. Every side runs in a process of its own:

* ours: `BatchOrder`;
* permutations: NumPy permutes every source anew each epoch and draws sources independently, so that seeking means
  drawing again all that came before, to count them;
* RandomSampler: torch's, over all sources together, which has no mixture; seeking means skipping, as resuming does
  where a sampler keeps no state.

What takes long on the plain sides is measured in part and scaled up. Checks first that every source is within a clip
of its stated share at the window's border after so many steps, within its bound half a window later, and that a batch
sought is the batch that reading on gives.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.utils.data import RandomSampler

from timing import hardware, peak_memory_mb, table, write_result
from uniwhisper.batches import BatchConfig, BatchOrder

HOURS_AND_SECONDS = {
    "audiocaps": (142.5, 10.0),
    "audioset": (5800, 10.0),
    "laion_audio": (4300, 20.0),
    "wavcaps": (7600, 20.0),
    "aishell1": (178, 4.5),
    "gigaspeech": (10_000, 4.4),
    "libri_adhoc40": (4500, 12.3),
    "librispeech": (860, 12.3),
    "clotho": (43.6, 22.5),
    "seeing_sound": (0.2, 10.0),
    "sonyc_ust": (51.5, 10.0),
    "tau_asc2020": (64, 10.0),
    "urban_sed": (27.8, 10.0),
    "vggsound": (553.3, 10.0),
    "guitarset": (3.0, 30.0),
    "maestro": (200, 30.0),
    "medleydb": (7.3, 30.0),
    "mtg_jamendo": (3800, 30.0),
    "musiccaps": (15.3, 10.0),
    "musicnet": (34, 30.0),
    "slakh2100": (145, 30.0),
    "song_describer": (23, 30.0),
    "yt8m_musictextclips": (11.7, 10.0),
}
"""Hours of every corpus and the seconds of a typical clip.

Source: hours from arXiv 2602.21772, Table 1 (GuitarSet from its publisher: 360 excerpts of about 30 s); lengths are
round figures, and recordings longer than 30 s count as cut.
"""
CLIPS_A_BATCH = 32
BATCHES_A_STEP = 8  # 256 clips: arXiv 2602.21772, section 3.2
SCALED_FROM = 1 << 22
"""Draws and skips measured on the plain sides; the rest is scaled up."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """Where the durations lie."""

    path: Path
    sizes: dict[str, int]

    def durations(self) -> dict[str, np.ndarray]:
        """Return the durations of every source as parts of one memory map."""
        mapped = np.memmap(self.path, dtype=np.float32, mode="r")
        ends = np.cumsum(list(self.sizes.values()))
        return {name: mapped[end - size : end] for (name, size), end in zip(self.sizes.items(), ends, strict=True)}


@dataclass(frozen=True, kw_only=True, slots=True)
class Result:
    """What one side needed."""

    open_s: float
    memory_mb: float
    """Above what the process held before it opened anything; pages of the mapped file count."""
    process_mb: float
    """All that the process held at most, libraries included."""
    seek_s: float
    batches_per_s: float


def make_manifest(path: Path, num_clips: int) -> Manifest:
    """Write random durations around the typical ones, from 1 to 30 s."""
    natural = {name: hours * 3600 / seconds for name, (hours, seconds) in HOURS_AND_SECONDS.items()}
    scale = num_clips / sum(natural.values())
    sizes = {name: max(1, round(count * scale)) for name, count in natural.items()}
    rng = np.random.default_rng(0)
    with path.open("wb") as file:
        for name, size in sizes.items():
            spread = rng.gamma(9.0, HOURS_AND_SECONDS[name][1] / 9.0, size)
            np.clip(spread, 1.0, 30.0).astype(np.float32).tofile(file)
    return Manifest(path=path, sizes=sizes)


def make_config(manifest: Manifest, window: int) -> BatchConfig:
    """Return the configuration whose batches hold about `CLIPS_A_BATCH` clips."""
    config = BatchConfig(window=window)
    durations = manifest.durations().values()
    mean_s = sum(float(values.sum(dtype=np.float64)) for values in durations) / sum(manifest.sizes.values())
    tokens = round(CLIPS_A_BATCH * (mean_s * config.tokens_per_s + config.text_tokens))
    return BatchConfig(window=window, tokens=tokens)


def ours(manifest: Manifest, config: BatchConfig, step: int) -> Result:
    """Measure `BatchOrder`."""
    held = peak_memory_mb()
    began = time.perf_counter()
    order = BatchOrder(manifest.durations(), config=config, seed=0)
    open_s = time.perf_counter() - began
    seeks = []
    for attempt in range(9):  # each in another window; the first one is the step asked for
        began = time.perf_counter()
        order.batch((step + 1000 * attempt) * BATCHES_A_STEP)
        seeks.append(time.perf_counter() - began)
    order.drawn(step * BATCHES_A_STEP)
    count = 100 * order.batches_per_window
    began = time.perf_counter()
    for number in range(count):
        order.batch(number)
    return Result(
        open_s=open_s,
        memory_mb=peak_memory_mb() - held,
        process_mb=peak_memory_mb(),
        seek_s=statistics.median(seeks),
        batches_per_s=count / (time.perf_counter() - began),
    )


def permutations(manifest: Manifest, config: BatchConfig, step: int) -> Result:
    """Measure a permutation of every source and independent draws of sources."""
    held = peak_memory_mb()
    rng = np.random.default_rng(0)
    began = time.perf_counter()
    sizes = np.array(list(manifest.sizes.values()))
    permuted = [rng.permutation(size) for size in sizes]
    open_s = time.perf_counter() - began
    bounds = np.cumsum(sizes / sizes.sum())
    began = time.perf_counter()
    drawn = np.bincount(np.searchsorted(bounds, rng.random(SCALED_FROM)), minlength=len(sizes))
    scan_s = (time.perf_counter() - began) * step * BATCHES_A_STEP * CLIPS_A_BATCH / SCALED_FROM
    count = 2000
    began = time.perf_counter()
    for _ in range(count):
        batch = []
        for source in np.searchsorted(bounds, rng.random(CLIPS_A_BATCH)).tolist():
            batch.append((source, int(permuted[source][drawn[source] % sizes[source]])))
            drawn[source] += 1
    return Result(
        open_s=open_s,
        memory_mb=peak_memory_mb() - held,
        process_mb=peak_memory_mb(),
        seek_s=scan_s + open_s,  # and the permutations of the epoch that it ends in
        batches_per_s=count / (time.perf_counter() - began),
    )


def random_sampler(manifest: Manifest, config: BatchConfig, step: int) -> Result:
    """Measure torch's sampler, batches cut from it by number."""
    held = peak_memory_mb()
    total = sum(manifest.sizes.values())
    began = time.perf_counter()
    sampler = iter(RandomSampler(range(total), generator=torch.Generator().manual_seed(0)))
    next(sampler)
    open_s = time.perf_counter() - began
    skipped = min(SCALED_FROM, total // 2)
    began = time.perf_counter()
    for _ in range(skipped):
        next(sampler)
    skip_s = (time.perf_counter() - began) * step * BATCHES_A_STEP * CLIPS_A_BATCH / skipped
    epochs = step * BATCHES_A_STEP * CLIPS_A_BATCH // total
    count = min(20_000, total // (4 * CLIPS_A_BATCH))
    began = time.perf_counter()
    for _ in range(count):
        [next(sampler) for _ in range(CLIPS_A_BATCH)]
    return Result(
        open_s=open_s,
        memory_mb=peak_memory_mb() - held,
        process_mb=peak_memory_mb(),
        seek_s=skip_s + (epochs + 1) * open_s,
        batches_per_s=count / (time.perf_counter() - began),
    )


SIDES: Mapping[str, Callable[[Manifest, BatchConfig, int], Result]] = {
    "ours": ours,
    "permutations": permutations,
    "RandomSampler": random_sampler,
}


def check_order(manifest: Manifest, config: BatchConfig, step: int) -> list[str]:
    """Return how far sources are from their stated shares after `step` steps.

    Raises:
        SystemExit: A source is further off than promised, or seeking and reading give different batches.
    """
    order = BatchOrder(manifest.durations(), config=config, seed=0)
    number = step * BATCHES_A_STEP
    windows = number // order.batches_per_window
    gaps = {}
    border = windows * order.batches_per_window
    for place, batches in (("border", border), ("inside", border + order.batches_per_window // 2)):
        drawn = order.drawn(batches)
        total = windows * config.window if place == "border" else sum(drawn.values())
        gaps[place] = {name: drawn[name] - total * share for name, share in order.weights.items()}
    off, inside = (max(map(abs, gaps[place].values())) for place in ("border", "inside"))
    bounds = {name: 2 + 2 * share * len(order.weights) for name, share in order.weights.items()}
    beyond = [name for name, gap in gaps["inside"].items() if abs(gap) > bounds[name]]
    rare = sum(share * config.window < 1 for share in order.weights.values())
    epochs = order.epochs(number)
    lines = [
        f"{len(order.weights)} sources, {rare} of them due less than once in a window of {config.window} draws, "
        f"{order.batches_per_window} batches a window",
        f"after {step:,} steps ({sum(order.drawn(number).values()):,} clips) the source furthest from its share is "
        f"off by {off:.2f} clips at the window's border and by {inside:.2f} half a window later",
        f"passes by then: {min(epochs.values()):.2f} to {max(epochs.values()):.2f}",
    ]
    if off > 1 or beyond:
        raise SystemExit("\n".join([*lines, f"further off than promised: {beyond or 'at the border'}"]))
    reading = [order.batch(at) for at in range(number - 40, number + 41)]
    fresh = BatchOrder(manifest.durations(), config=config, seed=0)
    if [fresh.batch(at) for at in range(number + 40, number - 41, -1)] != reading[::-1]:
        raise SystemExit("a batch that is sought is not the batch that reading gives")
    return lines


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clips", type=int, default=10_000_000)
    parser.add_argument("--step", type=int, default=1_000_000, help="where to seek to, in steps of 256 clips")
    parser.add_argument("--window", type=int, default=1024, help="draws in a window")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/order_*.md")
    options = parser.parse_args()
    results: dict[str, Result] = {}
    with tempfile.TemporaryDirectory() as folder:
        manifest = make_manifest(Path(folder) / "durations.f32", options.clips)
        config = make_config(manifest, options.window)
        checked = check_order(manifest, config, options.step)
        for name, side in SIDES.items():
            with ProcessPoolExecutor(max_workers=1, mp_context=multiprocessing.get_context("spawn")) as pool:
                results[name] = pool.submit(side, manifest, config, options.step).result()
    base = results["ours"]
    rows = [
        [
            name,
            f"{result.open_s:.3f}",
            f"{result.memory_mb:.0f}",
            f"{result.process_mb:.0f}",
            f"{1e3 * result.seek_s:,.1f}",
            f"{result.seek_s / base.seek_s:,.0f}",
            f"{result.batches_per_s:,.0f}",
        ]
        for name, result in results.items()
    ]
    header = [
        "order",
        "open s",
        "memory MB",
        "process MB",
        f"seek to step {options.step:,}, ms",
        "times ours",
        "batches/s",
    ]
    lines = [
        f"{sum(manifest.sizes.values()):,} clips, about {CLIPS_A_BATCH} a batch, {BATCHES_A_STEP} batches a step; "
        f"{hardware()}",
        "",
        *(f"- {line}" for line in checked),
        "",
        table(header, rows),
    ]
    print("\n".join(lines))
    if options.write:
        print(write_result("order", "\n".join(lines)))


if __name__ == "__main__":
    main()
