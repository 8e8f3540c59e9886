"""Damaged and missing data during training: the same clear error, whoever makes the batch."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pytest

from tiny import tiny_clips
from uniwhisper.batches import BatchConfig, BatchOrder
from uniwhisper.errors import AudioError, ShardError, UniWhisperError
from uniwhisper.instructions import InstructionConfig
from uniwhisper.shards import ShardSet, open_shards, write_shards
from uniwhisper.train.feed import Feed

from .turns import turn

EACH_WAY = pytest.mark.parametrize("workers", [0, 1])


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(tiny_clips(folder / "audio"), folder / "set", workers=1).folder


@pytest.fixture
def shards(whole: Path, tmp_path: Path) -> ShardSet:
    shutil.copytree(whole, tmp_path / "set")
    return open_shards(tmp_path / "set", split="train")


def make_feed(shards: ShardSet, **options: bool) -> Feed:
    durations = {name: shards.durations(name) for name in shards.sources}
    order = BatchOrder(durations, config=BatchConfig(tokens=120, window=16), seed=0)
    return Feed(
        shards.sources,
        order,
        turn=turn,
        n_mels=80,
        instructions=InstructionConfig(),
        family_shares={},
        cache_mb=0.0,
        **options,
    )


@EACH_WAY
@pytest.mark.parametrize("host_mels", [True, False])
def test_a_corrupt_audio_member_is_named(shards: ShardSet, workers: int, host_mels: bool) -> None:
    clip = shards.sources["bells"][3]
    with Path(clip.path).open("r+b") as file:
        file.seek(clip.offset_bytes + clip.num_bytes // 2)
        file.write(b"\x5a" * 40)
    expected = r"^clip 'bells-3' of 'bells': .* It is member 'bells-3-\w+\.flac' of .*\.tar, .*shards --verify"
    with pytest.raises(AudioError, match=expected):
        list(make_feed(shards, host_mels=host_mels).load(range(20), workers=workers))


@EACH_WAY
def test_a_corrupt_annotation_is_named(shards: ShardSet, workers: int) -> None:
    clip = shards.sources["talk"][2]
    text = Path(clip.path).read_bytes()
    with Path(clip.path).open("r+b") as file:
        file.seek(text.index(b'"talk-2"'))
        file.write(b'"talk-9"')
    with pytest.raises(ShardError, match=r"clip 'talk-2' \(row \d+\) in .*\.tar, .*damaged.*shards --verify FOLDER"):
        list(make_feed(shards).load(range(20), workers=workers))


@EACH_WAY
def test_a_missing_shard_is_named(shards: ShardSet, workers: int) -> None:
    feed = make_feed(shards)
    tar = Path(shards.sources["talk"][0].path)
    tar.unlink()
    with pytest.raises(UniWhisperError, match=rf"clip 'talk-\d'.*{tar.name}.*shards --verify"):
        list(feed.load(range(20), workers=workers))


def test_a_feed_travels_without_durations_and_samples(shards: ShardSet) -> None:
    feed = make_feed(shards)
    feed.batch(0)
    assert len(pickle.dumps(feed._maker)) < 3000
