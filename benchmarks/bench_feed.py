"""The data path: shards on disk to batches that a device can take, against the loader that a user would write.

Reads a table or manifest of real clips; joins them to clips as long as the paper's mixture has them (`lengths.py`, mean
`--mean-s`), keeps each one's text, and puts them into shards in a temporary folder. Writes a result file only with
`--write`. Three things are measured, all with one thread a process:

* what each stage of a batch costs in processor time: order, reading and FLAC, rendering, tokens, log-mel;
* a whole feed by wall time: a thread, one and two worker processes, with log-mels of the host or with samples alone;
* the plain way: a `Dataset` of FLAC files, `WhisperFeatureExtractor` on 30 s windows, a tokenizer's call, a padded
  batch, `DataLoader`. Both sides give the same clips with the same texts, batch by batch in turn.

What training needs: 30,000 steps of 256 clips of 18 s are 138 million seconds of audio. At the operations that true
lengths ask for (5.10 TFLOP a clip) and the peak of the hardware, eight A800 (8 x 312 TFLOP/s) are through in 4.36
hours, so they hear 8,800 s a second; one H200 at the 790 TFLOP/s that its matrix products reach needs 13.8 hours,
2,800 s a second. No run reaches these rates: they bound what the data path must deliver.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset
from transformers import AutoTokenizer, WhisperFeatureExtractor

from clips import read_clips
from lengths import mixture_lengths
from timing import hardware, interleave, table, write_result
from uniwhisper import audio
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.batches import BatchConfig, BatchOrder
from uniwhisper.clips import clip_bytes, read_clip
from uniwhisper.instructions import InstructionConfig
from uniwhisper.mel import log_mel_tails
from uniwhisper.model.turns import Dialogue, TurnMaker
from uniwhisper.shards import ShardSet, open_shards, write_shards
from uniwhisper.train.batch import Batch, pack
from uniwhisper.train.examples import draw_example
from uniwhisper.train.feed import Feed
from uniwhisper.train.waves import WaveStore
from uniwhisper.types import Clip
from uniwhisper.weights import resolve

NEEDED = {"8 x A800 at their peak": 8800.0, "one H200 at its measured peak": 2800.0}
"""Seconds of audio a second; the module's docstring derives them."""


def joined_clips(clips: Sequence[Clip], lengths_s: Sequence[float], folder: Path, *, seed: int = 0) -> list[Clip]:
    """Write FLAC files of the lengths wanted, made of real clips end to end, and return them as clips.

    Each keeps the text of the first clip in it.
    """
    order = np.random.default_rng(seed).permutation(len(clips))
    made, at = [], 0
    for number, length_s in enumerate(lengths_s):
        wanted, first, parts, count = round(length_s * audio.SAMPLE_RATE), clips[order[at % len(order)]], [], 0
        while count < wanted:
            parts.append(read_clip(clips[order[at % len(order)]]))
            count += len(parts[-1])
            at += 1
        path = folder / f"{number}.flac"
        soundfile.write(path, np.concatenate(parts)[:wanted], audio.SAMPLE_RATE, subtype="PCM_16")
        changes = {"id": f"{number}", "path": str(path), "start_s": 0.0, "offset_bytes": 0, "num_bytes": 0}
        made.append(replace(first, **changes, duration_s=wanted / audio.SAMPLE_RATE))
    return made


class Side:
    """Our feed over a shard set, and the pieces that both sides share."""

    def __init__(self, shards: ShardSet, tokenizer: Any, *, n_mels: int, tokens: int) -> None:
        self.shards = shards
        self.n_mels = n_mels
        self.tokenizer = tokenizer
        self.turn = TurnMaker(tokenizer, Dialogue(opening=(), middle=(), closing=(tokenizer.eos_token_id,)))
        durations = {name: shards.durations(name) for name in shards.sources}
        self.order = BatchOrder(durations, config=BatchConfig(tokens=tokens), seed=0)

    def feed(self, *, host_mels: bool) -> Feed:
        """Return a feed that keeps nothing in memory: every clip is read and decoded."""
        return Feed(
            self.shards.sources,
            self.order,
            turn=self.turn,
            n_mels=self.n_mels,
            instructions=InstructionConfig(),
            family_shares={},
            cache_mb=0.0,
            host_mels=host_mels,
        )

    def stages(self, numbers: Sequence[int]) -> tuple[dict[str, float], float, int]:
        """Return the processor seconds of every stage over some batches, the seconds of audio, and the clips."""
        spent: defaultdict[str, float] = defaultdict(float)
        audio_s, count, store = 0.0, 0, WaveStore(0.0)

        @contextmanager
        def stage(name: str) -> Iterator[None]:
            began = time.process_time()
            yield
            spent[name] += time.process_time() - began

        for number in numbers:
            with stage("order"):
                draws = self.order.batch(number)
            sources = [self.shards.sources[draw.source] for draw in draws]
            with stage("annotation from the shard"):
                clips = [source[draw.index] for source, draw in zip(sources, draws, strict=True)]
            with stage("bytes from the shard and FLAC"):
                waves = [torch.from_numpy(store.samples(clip)) for clip in clips]
            with stage("prompt and answer"):
                examples = [
                    draw_example(clip, source, seed=0, epoch=draw.epoch, config=InstructionConfig(), shares={})
                    for clip, source, draw in zip(clips, sources, draws, strict=True)
                ]
            with stage("tokens"):
                turns = [self.turn(example.prompt, example.answer) for example in examples]
            with stage(f"log-mel, {self.n_mels} bins"):
                mels, tails = zip(*log_mel_tails(waves, self.n_mels), strict=True)
            facts = {"turns": turns, "examples": examples, "audio_s": 0.0, "num_answer_tokens": 0}
            with stage("packing log-mels for another process"):
                pack(Batch(mels=list(mels), tails=list(tails), **facts))
            with stage("packing samples instead"):
                pack(Batch(mels=[], tails=[], waves=waves, **facts))
            audio_s += sum(map(len, waves)) / audio.SAMPLE_RATE
            count += len(waves)
        return dict(spent), audio_s, count


class PlainDataset(Dataset[dict[str, Any]]):
    """A clip a FLAC file, its features in a 30 s window, and its token ids."""

    def __init__(self, rows: Sequence[tuple[str, str, str]], tokenizer: Any, n_mels: int) -> None:
        self._rows = rows
        self._tokenizer = tokenizer
        self._extractor = WhisperFeatureExtractor(feature_size=n_mels)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        path, prompt, answer = self._rows[index]
        wave, rate = soundfile.read(path, dtype="float32")
        return {
            "features": self._extractor(wave, sampling_rate=rate, return_tensors="pt").input_features[0],
            "prompt": torch.tensor(self._tokenizer(prompt, add_special_tokens=False)["input_ids"], dtype=torch.long),
            "answer": torch.tensor(self._tokenizer(answer, add_special_tokens=False)["input_ids"], dtype=torch.long),
        }


def plain_collate(items: Sequence[Mapping[str, Any]]) -> dict[str, torch.Tensor]:
    """Return the items as one padded batch."""
    ids = [torch.cat([item["prompt"], item["answer"]]) for item in items]
    return {
        "features": torch.stack([item["features"] for item in items]),
        "ids": pad_sequence(ids, batch_first=True),
        "mask": pad_sequence([torch.ones(len(row), dtype=torch.bool) for row in ids], batch_first=True),
    }


def plain_rows(side: Side, numbers: Sequence[int], folder: Path) -> list[list[tuple[str, str, str]]]:
    """Write the audio of some batches as files, and return what the plain side needs of each batch."""
    feed, found = side.feed(host_mels=False), []
    for number in numbers:
        clips = [side.shards.sources[draw.source][draw.index] for draw in side.order.batch(number)]
        rows = []
        for place, (clip, example) in enumerate(zip(clips, feed.batch(number).examples, strict=True)):
            path = folder / f"{number}-{place}.flac"
            path.write_bytes(clip_bytes(clip))
            rows.append((str(path), example.prompt, example.answer))
        found.append(rows)
    return found


def compare(side: Side, numbers: Sequence[int], plain: PlainDataset, repeats: int) -> list[list[object]]:
    """Return processor time of both sides in this process; `plain` holds the batches one after the other."""
    sizes = [len(side.order.batch(number)) for number in numbers]
    places = dict(zip(numbers, np.cumsum([0, *sizes[:-1]]).tolist(), strict=True))
    with_mels, with_samples = side.feed(host_mels=True), side.feed(host_mels=False)

    def plainly(number: int) -> object:
        return plain_collate([plain[places[number] + i] for i in range(sizes[numbers.index(number)])])

    plain_name = "plain: Dataset, HF extractor, 30 s windows"
    sides: dict[str, Callable[[int], object]] = {
        "ours, log-mels of the host": with_mels.batch,
        "ours, samples (log-mels on the device)": with_samples.batch,
        plain_name: plainly,
    }
    timings = interleave(sides, numbers, repeats=repeats)
    audio_s = sum(with_samples.batch(number).audio_s for number in numbers)
    rates = {name: audio_s / timing.median_cpu_s for name, timing in timings.items()}
    return [
        [
            name,
            f"{rate:.0f}",
            f"{rate / rates[plain_name]:.1f}",
            *(f"{need / rate:.1f}" for need in NEEDED.values()),
        ]
        for name, rate in rates.items()
    ]


def wall_rows(side: Side, numbers: Sequence[int], plain: PlainDataset) -> list[list[object]]:
    """Return the rates of whole loaders, without their first quarter of batches, in which processes start."""
    skipped = len(numbers) // 4
    rows: list[list[object]] = []
    for host_mels in (True, False):
        for workers in (0, 1, 2):
            seconds = began = 0.0
            for place, batch in enumerate(side.feed(host_mels=host_mels).load(numbers, workers=workers)):
                if place == skipped:
                    began, seconds = time.perf_counter(), 0.0
                elif place > skipped:
                    seconds += batch.audio_s
            rate = seconds / (time.perf_counter() - began)
            what = "log-mels of the host" if host_mels else "samples"
            rows.append([f"ours, {what}", f"{workers} processes" if workers else "a thread", f"{rate:.0f}"])
    lengths = [soundfile.info(path).duration for path, _, _ in plain._rows]
    for workers in (1, 2):
        loader = DataLoader(
            plain,
            batch_size=16,
            num_workers=workers,
            collate_fn=plain_collate,
            multiprocessing_context="forkserver",
        )
        skipped = len(loader) // 4
        began = 0.0
        for place, _ in enumerate(loader):
            if place == skipped:
                began = time.perf_counter()
        rate = sum(lengths[(skipped + 1) * 16 :]) / (time.perf_counter() - began)
        rows.append(["plain", f"{workers} processes", f"{rate:.0f}"])
    return rows


def measure(side: Side, options: argparse.Namespace, folder: Path) -> str:
    """Return the tables of one shard set."""
    numbers = list(range(options.batches))
    side.stages(numbers[:1])
    spent, audio_s, count = side.stages(numbers)
    stages = [
        [name, f"{1e6 * s / count:.0f}", f"{1e3 * s / audio_s:.4f}", f"{audio_s / max(s, 1e-9):.0f}"]
        for name, s in spent.items()
    ]
    rows = plain_rows(side, numbers, folder)
    plain = PlainDataset([row for batch in rows for row in batch], side.tokenizer, side.n_mels)
    lines = [
        f"### Clips of {audio_s / count:.1f} s on average ({count} clips in {len(numbers)} batches)",
        "",
        table(["stage (processor time)", "us a clip", "ms a second of audio", "audio s/s"], stages),
        "",
        table(
            ["a batch in one process", "audio s/s a core", "to plain", *(f"cores: {name}" for name in NEEDED)],
            compare(side, numbers, plain, options.repeats),
        ),
        "",
    ]
    if not options.no_wall:
        lines += [table(["a loader, by wall time", "by", "audio s/s"], wall_rows(side, numbers * 4, plain)), ""]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="table (CSV) or manifest of clips")
    parser.add_argument("--tokenizer", default="smollm2-135m", help="weights whose tokenizer is used")
    parser.add_argument("--mels", type=int, default=128, help="mel bins")
    parser.add_argument("--mean-s", type=float, default=18.0, help="mean length of the joined clips")
    parser.add_argument("--clips", type=int, default=200, help="joined clips")
    parser.add_argument("--tokens", type=int, default=8000, help="cost of a batch, as in BatchConfig")
    parser.add_argument("--batches", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=5, help="passes; the median counts")
    parser.add_argument("--no-wall", action="store_true", help="measure processor time alone")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/feed_*.md")
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    real = [clip for clip in read_clips(options.data) if clip.split == "train"]
    tokenizer = AutoTokenizer.from_pretrained(resolve(options.tokenizer))
    lines = [f"{hardware()}; one thread a process; {options.mels} mel bins", ""]
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "joined").mkdir()
        lengths_s = mixture_lengths(options.mean_s, options.clips).tolist()
        sets = {"long": joined_clips(real, lengths_s, folder / "joined"), "own": real[:: max(1, len(real) // 1500)]}
        for name, clips in sets.items():
            write_shards(clips, folder / name, workers=1)
            side = Side(open_shards(folder / name), tokenizer, n_mels=options.mels, tokens=options.tokens)
            (folder / f"{name}-files").mkdir()
            lines.append(measure(side, options, folder / f"{name}-files"))
    lines += [f"Needed, audio s/s: {', '.join(f'{name} {need:.0f}' for name, need in NEEDED.items())}"]
    print("\n".join(lines))
    if options.write:
        print(write_result("feed", "\n".join(lines)))


if __name__ == "__main__":
    sys.exit(main())
