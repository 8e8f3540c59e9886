from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from uniwhisper import audio
from uniwhisper.clips import clip_bytes, read_clip
from uniwhisper.shards import open_shards, verify_shards, write_shards
from uniwhisper.types import DOMAINS, Annotation, Clip

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
PER_DOMAIN = 16


@pytest.fixture
def clips() -> list[Clip]:
    """Some dozens of real clips of all three domains, Ogg at 16 kHz, spread over the corpora they come from."""
    table = DATA / "train.csv"
    if not table.is_file():
        pytest.skip(f"needs the reference pack: no {table.name}")
    with table.open(encoding="utf-8", newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    found = []
    for domain in DOMAINS:
        mine = [row for row in rows.values() if row["domain"] == domain]
        for row in mine[:: max(1, len(mine) // PER_DOMAIN)][:PER_DOMAIN]:
            found.append(
                Clip(
                    id=row["path"],
                    source=row["dataset"],
                    path=str(DATA / row["path"]),
                    split="train",
                    duration_s=float(row["duration"]),
                    domain=domain,
                    annotation=Annotation(captions=(row["text"],)),
                    language=row["language"],
                )
            )
    return found


@pytest.mark.shared
def test_real_clips_come_back_sample_by_sample(clips: list[Clip], tmp_path: Path) -> None:
    done = write_shards(clips, tmp_path, shard_mb=2.0, workers=1)
    assert sum(tally.num_clips for tally in done.sources.values()) == len(clips) == 3 * PER_DOMAIN
    assert verify_shards(tmp_path, workers=1) == []
    found = {clip.id: clip for source in open_shards(tmp_path).sources.values() for clip in source}
    for clip in clips:
        stored = found[clip.id]
        heard = audio.read(clip.path)
        pcm, rate = soundfile.read(io.BytesIO(clip_bytes(stored)), dtype="int16")
        assert rate == audio.SAMPLE_RATE
        # 16 bits, rounded: equal to the samples that the decoder gives for its own 16-bit output, and within half a
        # step of the float samples wherever those can be said in 16 bits at all.
        expected = np.clip(np.rint(heard * 32768), -32768, 32767)
        assert np.array_equal(pcm, expected)
        assert np.abs(read_clip(stored) - heard).max() <= 2**-15
        assert stored.annotation == clip.annotation
        assert abs(stored.duration_s - clip.duration_s) <= 0.02
