"""Shards are read as they are by the libraries that people already have."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from uniwhisper.clips import clip_bytes, read_clip
from uniwhisper.shards import Sharding, open_shards
from uniwhisper.types import Clip

SCALARS = ("id", "source", "split", "domain", "language", "speaker", "group", "license", "duration_s")
ANY_WARNING = pytest.mark.filterwarnings("ignore")  # what those libraries do is theirs


def ours(sharded: Sharding, source: str) -> list[Clip]:
    return list(open_shards(sharded.folder).sources[source])


def tars(sharded: Sharding, pattern: str) -> list[str]:
    return sorted(str(path) for path in sharded.folder.glob(pattern))


def same(row: dict[str, Any], flac: bytes, clip: Clip) -> None:
    assert {name: row[name] for name in SCALARS} == {name: getattr(clip, name) for name in SCALARS}
    assert tuple(json.loads(row["upstream_ids"])) == clip.upstream_ids
    assert len(json.loads(row["annotation"]).get("events", ())) == len(clip.annotation.events)
    wave, rate = soundfile.read(io.BytesIO(flac), dtype="float32")
    assert rate == 16_000
    assert np.array_equal(wave, read_clip(clip))


@ANY_WARNING
def test_webdataset(sharded: Sharding) -> None:
    webdataset = pytest.importorskip("webdataset")
    rows = list(webdataset.WebDataset(tars(sharded, "yard-train-*.tar"), shardshuffle=False).decode())
    clips = [clip for clip in ours(sharded, "yard") if clip.split == "train"]
    assert len(rows) == len(clips) == 7
    for row, clip in zip(rows, clips, strict=True):
        assert {name for name in row if not name.startswith("__")} == {"flac", "json"}
        same(row["json"], row["flac"], clip)


def expected_of(sharded: Sharding, split: str) -> list[Clip]:
    return [clip for source in ("talk", "yard") for clip in ours(sharded, source) if clip.split == split]


@ANY_WARNING
@pytest.mark.slow
@pytest.mark.parametrize("streaming", [False, True])
def test_datasets(sharded: Sharding, tmp_path: Path, streaming: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The columns are those that `datasets` finds, but audio stays bytes: its own type for audio needs torchcodec."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    from datasets.packaged_modules.webdataset.webdataset import WebDataset

    monkeypatch.setattr(WebDataset, "AUDIO_EXTENSIONS", [])
    files = {split: tars(sharded, f"*-{split}-*.tar") for split in ("train", "test")}
    loaded = datasets.load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path), streaming=streaming)
    for split in files:
        clips = expected_of(sharded, split)
        rows = list(loaded[split])
        assert len(rows) == len(clips)
        for row, clip in zip(rows, clips, strict=True):
            same(row["json"], row["flac"], clip)


@ANY_WARNING
@pytest.mark.slow
def test_datasets_with_its_audio_type(sharded: Sharding, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    try:
        import torchcodec.decoders  # noqa: F401
    except Exception as e:  # without FFmpeg's libraries it raises RuntimeError
        pytest.skip(f"torchcodec cannot be loaded: {str(e)[:80]}")
    files = tars(sharded, "*-train-*.tar")
    loaded = datasets.load_dataset("webdataset", data_files=files, cache_dir=str(tmp_path), split="train")
    clips = expected_of(sharded, "train")
    for row, clip in zip(loaded, clips, strict=True):
        samples = row["flac"].get_all_samples()
        assert samples.sample_rate == 16_000
        assert np.abs(samples.data.numpy()[0] - read_clip(clip)).max() < 2**-15
    raw = loaded.cast_column("flac", datasets.Audio(decode=False))
    same(raw[0]["json"], raw[0]["flac"]["bytes"], clips[0])


def test_parquet_with_pyarrow_and_duckdb(sharded: Sharding) -> None:
    manifest = sharded.folder / "manifest.parquet"
    rows = pq.read_table(manifest, columns=["id", "duration_s"], filters=[("split", "==", "train")]).to_pylist()
    assert [row["id"] for row in rows] == [clip.id for clip in expected_of(sharded, "train")]
    duckdb = pytest.importorskip("duckdb")
    query = (
        f"select source, count(*), sum(duration_s) from '{manifest}' where split = 'train' group by source order by 1"
    )
    found = duckdb.sql(query).fetchall()
    assert [row[:2] for row in found] == [("talk", 2), ("yard", 7)]


def test_tarfile(sharded: Sharding) -> None:
    with tarfile.open(tars(sharded, "talk-*.tar")[0]) as tar:
        names = tar.getnames()
        assert [Path(name).suffix for name in names] == [".flac", ".json"] * 2
        for name, clip in zip(names[::2], ours(sharded, "talk"), strict=True):
            member = tar.extractfile(name)
            assert member is not None
            assert member.read() == clip_bytes(clip)
