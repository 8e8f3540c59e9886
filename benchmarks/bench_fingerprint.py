"""Our fingerprints against chromaprint's and against the same scheme one frame at a time.

Checks first that the naive side gives our words. Then every side turns the same real clips into fingerprints, sides
taking turns, in one thread. chromaprint is measured through pyacoustid and the system's libchromaprint (Debian:
`apt-get install libchromaprint1`, `pip install pyacoustid`; the PyPI package `chromaprint` is something else); where it
is missing, that is said and the others run. Also shows what a search costs next to a fingerprint.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch

from clips import read_clips, read_waves
from timing import hardware, interleave, table, write_result
from uniwhisper import audio
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.dedup.fingerprint import INDEX_HOP_MS, QUERY_HOP_MS, fingerprint
from uniwhisper.dedup.index import FingerprintIndex

Wave = np.ndarray
LAG_MS, WINDOW, RATE, BANDS = 144, 2_048, 8_000, 33


def naive(wave: Wave, hop_ms: int) -> np.ndarray:
    """Return the words [T] of our scheme, computed one frame and one band after another."""
    slow = soxr.resample(wave, audio.SAMPLE_RATE, RATE)
    taper = np.hanning(WINDOW + 1)[:-1]
    edges = np.rint(np.geomspace(200.0, 3700.0, BANDS + 1) * WINDOW / RATE).astype(int)
    frames = []
    for start in range(0, len(slow) - WINDOW + 1, hop_ms * RATE // 1000):
        power = np.abs(np.fft.rfft(slow[start : start + WINDOW] * taper)) ** 2
        frames.append([power[low:high].sum() ** 0.25 for low, high in itertools.pairwise(edges)])
    lag = LAG_MS // hop_ms
    words = []
    for now, before in zip(frames[lag:], frames, strict=False):
        word = 0
        for band in range(BANDS - 1):
            if now[band + 1] - now[band] - before[band + 1] + before[band] > 0:
                word |= 1 << band
        words.append(word)
    return np.array(words, np.uint32)


def chromaprint_side() -> Callable[[Wave], object] | str:
    """Return chromaprint as a function of a wave, or why there is none."""
    try:
        import acoustid  # type: ignore[import-not-found]
        import chromaprint  # type: ignore[import-not-found]
    except ImportError as e:
        return f"{e}: pip install pyacoustid, and libchromaprint from the system's packages"
    if not hasattr(chromaprint, "Fingerprinter") or not acoustid.have_chromaprint:
        return "the module `chromaprint` is not pyacoustid's: uninstall the PyPI package of that name"

    def run(wave: Wave) -> object:
        printer: Any = chromaprint.Fingerprinter()
        printer.start(audio.SAMPLE_RATE, 1)
        printer.feed((np.clip(wave, -1, 1) * 32_767).astype("<i2").tobytes())
        return printer.finish()

    return run


def check(waves: Sequence[Wave]) -> str:
    """Return how far the naive words agree with ours.

    Raises:
        SystemExit: More than one bit in ten differs: bands that begin between two bins are cut apart only by ours.
    """
    differ = total = 0
    for wave in waves:
        ours = fingerprint(wave, hop_ms=QUERY_HOP_MS)
        theirs = naive(wave, QUERY_HOP_MS)
        count = min(len(ours.words), len(theirs))
        strong = ours.strong[:count] * ours.informative[:count]
        differ += int(np.bitwise_count((ours.words[:count] ^ theirs[:count]) & strong).sum())
        total += int(np.bitwise_count(strong).sum())
    line = f"naive words differ from ours in {differ / max(total, 1):.2%} of the strong bits"
    if differ > 0.1 * total:
        raise SystemExit(line)
    return line


def measure(waves: Sequence[Wave], chromaprint: Callable[[Wave], object] | None, repeats: int) -> list[str]:
    """Return the table of all sides on these waves."""
    seconds = sum(map(len, waves)) / audio.SAMPLE_RATE
    prints = [fingerprint(wave, hop_ms=QUERY_HOP_MS) for wave in waves]
    index = FingerprintIndex.build((i, fingerprint(wave)) for i, wave in enumerate(waves))
    numbers = {id(wave): i for i, wave in enumerate(waves)}
    sides: dict[str, Callable[[Wave], object]] = {
        "ours, queries (36 ms)": lambda wave: fingerprint(wave, hop_ms=QUERY_HOP_MS),
        "ours, index (16 ms)": lambda wave: fingerprint(wave, hop_ms=INDEX_HOP_MS),
        "the same scheme, naive (36 ms)": lambda wave: naive(wave, QUERY_HOP_MS),
        f"search among {len(index)} clips": lambda wave: index.query(prints[numbers[id(wave)]]),
    }
    if chromaprint:
        sides["chromaprint"] = chromaprint
    timings = interleave(sides, waves, repeats=repeats)
    base = timings["ours, queries (36 ms)"]
    rows = [
        [
            name,
            f"{1e3 * timing.median_cpu_s / seconds:.3f}",
            f"{seconds / timing.median_cpu_s:.0f}",
            f"{timing.median_cpu_s / base.median_cpu_s:.2f}",
        ]
        for name, timing in timings.items()
    ]
    header = ["fingerprint", "processor ms a second of audio", "times real time", "time relative to ours"]
    return [f"{len(waves)} waves of {seconds / len(waves):.2f} s on average:", "", table(header, rows), ""]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="table (CSV) or manifest of clips")
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5, help="passes; the median counts")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/fingerprint_*.md")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)  # none of torch runs here: this is for the line about the hardware
    waves = read_waves(read_clips(options.data), options.clips)
    joined = np.concatenate(waves)
    windows = [joined[i : i + audio.WINDOW_SAMPLES] for i in range(0, len(joined), audio.WINDOW_SAMPLES)]
    other = chromaprint_side()
    notes = [check(waves[:12])]
    if isinstance(other, str):
        notes.append(f"chromaprint not measured: {other}")
        other = None
    lines = [
        f"One thread; {hardware()}",
        "",
        *(f"- {note}" for note in notes),
        "",
        *measure(waves, other, options.repeats),
        *measure(windows, other, options.repeats),
    ]
    print("\n".join(lines))
    if options.write:
        print(write_result("fingerprint", "\n".join(lines)))


if __name__ == "__main__":
    main()
