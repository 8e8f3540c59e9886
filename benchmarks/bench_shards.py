"""Shards: how fast audio is packed per core, against the same libraries used directly, and how fast any clip is found.

Packing: real clips are written as wav, flac and mp3 files at the rates of corpora; "ours" is everything that becomes of
a clip on its way into a shard (decoding, resampling, rounding, FLAC, hashes, JSON, tar), "direct" is soundfile, soxr
and soundfile again, with webdataset's TarWriter at the end where it is installed. Checks that both store the same
samples. Finding: a set of real shards is listed many times over, under as many file names (hard links), until its index
has the wanted number of rows; a fresh process opens it, reads every duration and looks up random clips.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from clips import read_clips, read_waves
from timing import hardware, interleave, table, write_result
from uniwhisper import audio
from uniwhisper.clips import read_clip
from uniwhisper.files import write_json
from uniwhisper.shards import open_shards, verify_shards, write_shards
from uniwhisper.shards.members import encode_flac, to_pcm
from uniwhisper.shards.table import INDEX_DTYPE, shard_rows, write_arrays, write_joined, write_rows
from uniwhisper.types import Annotation, Clip

FORMATS = {
    "wav 44.1 kHz stereo": ("wav", "PCM_16", 44_100, 2),
    "flac 44.1 kHz stereo": ("flac", "PCM_16", 44_100, 2),
    "mp3 44.1 kHz stereo": ("mp3", "MPEG_LAYER_III", 44_100, 2),
    "flac 48 kHz mono": ("flac", "PCM_16", 48_000, 1),
    "wav 16 kHz mono": ("wav", "PCM_16", 16_000, 1),
    "flac 16 kHz mono": ("flac", "PCM_16", 16_000, 1),
    "mp3 16 kHz mono": ("mp3", "MPEG_LAYER_III", 16_000, 1),
}
CLIP_S = 10.0
CLIPS_PER_SHARD = 5_000
SOURCES = 23
LOOKUPS = 20_000


def make_files(waves: Sequence[np.ndarray], folder: Path, form: tuple[str, str, int, int]) -> list[Clip]:
    """Write the waves as files of one form and return their clips."""
    suffix, subtype, rate, channels = form
    found = []
    for number, wave in enumerate(waves):
        path = folder / f"{number:04d}.{suffix}"
        samples = soxr.resample(wave, audio.SAMPLE_RATE, rate, quality="HQ") if rate != audio.SAMPLE_RATE else wave
        samples = np.stack([samples, 0.8 * samples], axis=1) if channels == 2 else samples
        soundfile.write(path, np.clip(0.9 * samples, -1, 1), rate, format=suffix.upper(), subtype=subtype)
        found.append(
            Clip(
                id=path.stem,
                source="bench",
                path=str(path),
                split="train",
                duration_s=soundfile.info(str(path)).duration,
                domain="sound",
                annotation=Annotation(captions=("A sound that is described in a dozen words or a few more.",)),
            )
        )
    return found


def direct_flac(clip: Clip) -> bytes:
    """Return the clip as FLAC, by the libraries alone."""
    wave, rate = soundfile.read(clip.path, dtype="float32", always_2d=True)
    mono = wave.mean(axis=1)
    if rate != audio.SAMPLE_RATE:
        mono = soxr.resample(mono, rate, audio.SAMPLE_RATE, quality="HQ")
    stream = io.BytesIO()
    pcm = np.clip(np.rint(mono * 32768), -32768, 32767).astype(np.int16)
    soundfile.write(stream, pcm, audio.SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return stream.getvalue()


def pack_direct(clips: Sequence[Clip], folder: Path) -> None:
    """Write a tar of the clips with webdataset, or their files' bytes one after the other where it is not installed."""
    folder.mkdir(exist_ok=True)
    try:
        from webdataset import TarWriter
    except ImportError:
        (folder / "all").write_bytes(b"".join(direct_flac(clip) for clip in clips))
        return
    with TarWriter(str(folder / "direct.tar")) as writer:
        for clip in clips:
            writer.write({"__key__": clip.id, "flac": direct_flac(clip), "json": {"id": clip.id}})


def fresh(folder: Path) -> Iterator[Path]:
    """Yield names of folders that do not exist yet."""
    for number in range(1_000_000):
        yield folder / f"set-{number}"


def packing(waves: Sequence[np.ndarray], repeats: int) -> list[list[str]]:
    """Return a row per form: audio seconds per second of one core, ours and direct, and the ratio."""
    rows = []
    for name, form in FORMATS.items():
        with tempfile.TemporaryDirectory() as text:
            folder = Path(text)
            clips = make_files(waves, folder, form)
            seconds = sum(clip.duration_s for clip in clips)
            for clip in clips[:4]:
                stored = soundfile.read(io.BytesIO(direct_flac(clip)), dtype="int16")[0].astype(np.int32)
                ours = to_pcm(read_clip(clip))
                # libmpg123 sums in another order when an MP3 is read in other blocks: a float's last bit, a step of 16.
                if len(ours) != len(stored) or np.abs(ours - stored).max() > ("mp3" in name):
                    raise SystemExit(f"{name}: ours and direct give other samples")
            folders = fresh(folder)
            sides: dict[str, Callable[[Sequence[Clip]], object]] = {
                "ours": lambda cases, folders=folders: write_shards(cases, next(folders), workers=1),
                "direct": lambda cases, folder=folder: pack_direct(cases, folder / "direct"),
                "decode": lambda cases: [soundfile.read(clip.path, dtype="float32") for clip in cases],
                "read": lambda cases: [read_clip(clip) for clip in cases],
            }
            timings = interleave(sides, [clips], repeats=repeats)
            speed = {side: seconds / timing.median_cpu_s for side, timing in timings.items()}
            rows.append([name, *(f"{speed[side]:.0f}" for side in sides), f"{speed['ours'] / speed['direct']:.2f}"])
    return rows


def stages(waves: Sequence[np.ndarray], repeats: int) -> list[list[str]]:
    """Return a row per stage that comes after decoding: audio seconds per second of one core."""
    pcm = [to_pcm(wave) for wave in waves]
    high = [soxr.resample(wave, audio.SAMPLE_RATE, 44_100, quality="HQ") for wave in waves]
    flac = [encode_flac(samples) for samples in pcm]
    sides: dict[str, Callable[[object], object]] = {
        "resample 44.1 -> 16 kHz": lambda _: [soxr.resample(w, 44_100, audio.SAMPLE_RATE, quality="HQ") for w in high],
        "encode FLAC": lambda _: [encode_flac(samples) for samples in pcm],
        "decode FLAC": lambda _: [soundfile.read(io.BytesIO(data), dtype="float32") for data in flac],
    }
    timings = interleave(sides, [0], repeats=repeats)
    seconds = sum(map(len, waves)) / audio.SAMPLE_RATE
    rows = [[name, f"{seconds / timing.median_cpu_s:.0f}"] for name, timing in timings.items()]
    return [*rows, ["FLAC, kB a second of audio", f"{sum(map(len, flac)) / seconds / 1e3:.1f}"]]


def grow(small: Path, folder: Path, num_rows: int) -> None:
    """Make a set of `num_rows` rows in `folder` out of a small one: its shard under many names, its rows again."""
    facts = json.loads((small / "shards.json").read_text(encoding="utf-8"))
    (shard,) = facts["shards"]
    index, durations = (np.load(small / name) for name in ("index.npy", "durations.npy"))
    times = -(-CLIPS_PER_SHARD // len(index))
    block = np.tile(np.arange(len(index)), times)[:CLIPS_PER_SHARD]
    folder.mkdir()
    count = num_rows // CLIPS_PER_SHARD
    rows = np.lib.format.open_memmap(
        folder / "index.npy", mode="w+", dtype=INDEX_DTYPE, shape=(count * CLIPS_PER_SHARD,)
    )
    lengths = np.lib.format.open_memmap(folder / "durations.npy", mode="w+", dtype="<f8", shape=rows.shape)
    shards = []
    for number in range(count):
        place = slice(number * CLIPS_PER_SHARD, (number + 1) * CLIPS_PER_SHARD)
        rows[place], lengths[place] = index[block], durations[block]
        rows["shard"][place] = number
        source = f"source{number * SOURCES // count:02d}"
        name = f"{source}-train-{number:06d}.tar"
        os.link(small / shard["name"], folder / name)
        known = {**shard, "name": name, "source": source, "first_row": place.start, "num_clips": CLIPS_PER_SHARD}
        shards.append(known)
    rows.flush()
    lengths.flush()
    write_json(folder / "shards.json", {**facts, "shards": shards})
    (folder / "DONE").write_text(facts["key"], encoding="utf-8")


def resident_mb() -> float:
    """Return the resident memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def find(folder: Path) -> dict[str, float]:
    """Open the set in this process and look up clips; return what that took."""
    facts = {"before_mb": resident_mb()}
    began = time.perf_counter()
    found = open_shards(folder, split="train")
    facts |= {"open_s": time.perf_counter() - began, "open_mb": resident_mb(), "clips": found.num_clips}
    began = time.perf_counter()
    facts["hours"] = sum(float(clips.durations.sum()) for clips in found.sources.values()) / 3600
    facts |= {"durations_s": time.perf_counter() - began, "durations_mb": resident_mb()}
    sources = list(found.sources.values())
    places = np.random.default_rng(0).random((LOOKUPS, 2))
    began = time.perf_counter()
    for a, b in places:
        clips = sources[int(a * len(sources))]
        clips[int(b * len(clips))]
    facts |= {"lookup_us": 1e6 * (time.perf_counter() - began) / LOOKUPS, "lookup_mb": resident_mb()}
    return facts


def finding(waves: Sequence[np.ndarray], num_rows: int) -> list[list[str]]:
    """Return what a fresh process needs to open and use a set of so many rows."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        (folder / "files").mkdir()
        clips = make_files(waves, folder / "files", FORMATS["flac 16 kHz mono"])
        write_shards(clips, folder / "small", workers=1)
        grow(folder / "small", folder / "big", num_rows)
        command = [sys.executable, __file__, "--find", str(folder / "big")]
        lines = [subprocess.run(command, check=True, capture_output=True, text=True).stdout for _ in range(3)]
        facts: dict[str, float] = json.loads(lines[-1])
        began = time.process_time()
        damages = verify_shards(folder / "small", workers=1)
        verify_s = time.process_time() - began
        if damages:
            raise SystemExit(f"the set is damaged: {damages[0]}")
        joined = joining(folder / "small", folder)
    return [
        ["rows", f"{facts['clips']:.0f}"],
        ["shards", f"{num_rows // CLIPS_PER_SHARD}"],
        ["open, s", f"{facts['open_s']:.3f}"],
        ["resident before, MB", f"{facts['before_mb']:.0f}"],
        ["resident when open, MB", f"{facts['open_mb']:.0f}"],
        ["read all durations, s", f"{facts['durations_s']:.3f}"],
        ["resident then, MB", f"{facts['durations_mb']:.0f}"],
        ["a random clip, microseconds", f"{facts['lookup_us']:.0f}"],
        [f"resident after {LOOKUPS} clips, MB", f"{facts['lookup_mb']:.0f}"],
        ["verify, audio s per s of one core", f"{sum(clip.duration_s for clip in clips) / verify_s:.0f}"],
        ["join manifests and index, rows a second", f"{joined:.0f}"],
    ]


def joining(small: Path, folder: Path) -> float:
    """Return the rows a second at which the manifest and the index of many shards are made."""
    (shard,) = small.glob("*.tar")
    rows: list[dict[str, Any]] = shard_rows(small / "manifest.parquet", shard.name)
    part = folder / "part.parquet"
    write_rows(part, (rows * (-(-CLIPS_PER_SHARD // len(rows))))[:CLIPS_PER_SHARD])
    began = time.process_time()
    count = write_joined([part] * 60, folder / "manifest.parquet")
    write_arrays(folder / "manifest.parquet", folder, [shard.name])
    return count / (time.process_time() - began)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, help="table (CSV) or manifest of clips")
    parser.add_argument("--clips", type=int, default=64, help="clips of 10 s, joined from real ones")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows of the large index")
    parser.add_argument("--repeats", type=int, default=5, help="passes; the median counts")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/shards_*.md")
    parser.add_argument("--find", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.find:
        print(json.dumps(find(options.find)))
        return
    joined = np.concatenate(read_waves(read_clips(options.data), 4 * options.clips))
    size = round(CLIP_S * audio.SAMPLE_RATE)
    waves = [joined[at : at + size] for at in range(0, len(joined) - size + 1, size)][: options.clips]
    lines = [
        f"{len(waves)} clips of {CLIP_S:.0f} s; {hardware()}; rates are audio seconds per second of processor time",
        "",
        table(
            ["files", "ours", "direct", "decode alone", "read_clip", "ours / direct"], packing(waves, options.repeats)
        ),
        "",
        table(["stage", "rate"], stages(waves, options.repeats)),
        "",
        table(["a large set", ""], finding(waves, options.rows)),
    ]
    print("\n".join(lines))
    if options.write:
        print(write_result("shards", "\n".join(lines)))


if __name__ == "__main__":
    main()
