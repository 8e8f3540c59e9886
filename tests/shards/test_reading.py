from __future__ import annotations

import os
import pickle
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from uniwhisper.clips import read_clip
from uniwhisper.errors import AudioError, ShardError
from uniwhisper.shards import ShardClips, Sharding, open_shards, reading, write_shards
from uniwhisper.types import Clip

from .conftest import SHARD_MB, MakeClip


@pytest.fixture
def copied(sharded: Sharding, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sharded.folder, tmp_path / "copy"))


def test_sources_are_sequences_of_clips(sharded: Sharding) -> None:
    found = open_shards(sharded.folder)
    assert list(found.sources) == ["band", "talk", "yard"]
    assert found.num_clips == 12
    yard = found.sources["yard"]
    assert isinstance(yard, Sequence)
    assert len(yard) == 8
    assert [clip.id for clip in yard] == [yard[index].id for index in range(8)]
    assert yard[-1] == yard[7] == list(yard)[7]
    assert [clip.id for clip in yard[1:6:2]] == [yard[1].id, yard[3].id, yard[5].id]
    assert [clip.id for clip in yard[::-3]] == [yard[7].id, yard[4].id, yard[1].id]
    assert len(yard[3:3]) == 0
    with pytest.raises(IndexError):
        yard[8]
    assert "8 clips of 'yard'" in repr(yard)


def test_durations_are_views_of_one_mapped_file(sharded: Sharding) -> None:
    found = open_shards(sharded.folder)
    for source, clips in found.sources.items():
        durations = found.durations(source)
        assert durations.dtype == np.float64
        assert durations.tolist() == [clip.duration_s for clip in clips]
        assert not durations.flags.owndata
        assert not durations.flags.writeable
    yard = found.sources["yard"]
    for part in (yard[2:5], yard[::2], yard[::-1], yard[6:1:-2], yard[4:4]):
        assert part.durations.tolist() == [clip.duration_s for clip in part]
    assert np.shares_memory(found.durations("yard"), open_shards(sharded.folder).durations("yard"))


def test_one_split(sharded: Sharding) -> None:
    train = open_shards(sharded.folder, split="train")
    assert list(train.sources) == ["talk", "yard"]
    assert {clip.split for clips in train.sources.values() for clip in clips} == {"train"}
    assert [clip.id for clip in open_shards(sharded.folder, split="test").sources["yard"]] == ["eval"]
    assert train.key != open_shards(sharded.folder).key
    with pytest.raises(ShardError, match=r"expected clips of split 'valid' in .*, found none"):
        open_shards(sharded.folder, split="valid")


def test_several_sets_side_by_side(sharded: Sharding, make_clip: MakeClip, tmp_path: Path) -> None:
    write_shards([make_clip("park", "duck")], tmp_path, shard_mb=SHARD_MB, workers=1)
    both = open_shards([sharded.folder, tmp_path])
    assert list(both.sources) == ["band", "park", "talk", "yard"]
    assert both.sources["park"][0].id == "duck"
    assert both.num_clips == 13
    with pytest.raises(ShardError, match="expected every source in one shard set, found 'band' in"):
        open_shards([sharded.folder, sharded.folder])
    with pytest.raises(ShardError, match="expected clips in a folder, found none"):
        open_shards([])


def test_the_key_is_that_of_the_content(sharded: Sharding, copied: Path) -> None:
    assert open_shards(copied).key == open_shards(sharded.folder).key


def ids(clips: ShardClips) -> list[str]:
    return [clip.id for clip in clips]


def test_sequences_travel_to_other_processes(sharded: Sharding, copied: Path) -> None:
    yard = open_shards(sharded.folder, split="train").sources["yard"]
    assert ids(pickle.loads(pickle.dumps(yard))) == ids(yard)
    assert len(pickle.dumps(yard)) < 500
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert pool.submit(list, yard[2:4]).result() == list(yard)[2:4]
    stale = pickle.dumps(open_shards(copied).sources["yard"])
    (copied / "shards.json").write_text((copied / "shards.json").read_text().replace('"key": "', '"key": "0'))
    os.utime(copied / "DONE", ns=(1, 1))
    with pytest.raises(ShardError, match="it was made anew"):
        pickle.loads(stale)


def test_threads_read_through_few_open_files(sharded: Sharding, monkeypatch: pytest.MonkeyPatch) -> None:
    descriptors = Path("/proc/self/fd")
    opened = len(list(descriptors.iterdir())) if descriptors.is_dir() else 0
    monkeypatch.setattr(reading, "_open", lru_cache(maxsize=1)(lambda path, content: reading._OpenFile(path)))
    clips = [clip for source in open_shards(sharded.folder).sources.values() for clip in source]
    sources = list(open_shards(sharded.folder).sources.values())
    wrong: list[object] = []

    def work() -> None:
        for _ in range(20):
            found = [clip for source in sources for clip in source]
            if found != clips:
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    if opened:
        assert len(list(descriptors.iterdir())) <= opened + 2


def test_a_set_has_to_be_there_and_finished(sharded: Sharding, copied: Path, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match=r"expected a finished shard set in .*nothing, found no file DONE"):
        open_shards(tmp_path / "nothing")
    (copied / "index.npy").write_bytes(b"no array")
    with pytest.raises(ShardError, match=r"expected an array in .*index\.npy, found: "):
        open_shards(copied)
    (copied / "shards.json").write_text("{}")
    os.utime(copied / "DONE", ns=(1, 1))
    with pytest.raises(ShardError, match=r"expected shards\.json to list the shards"):
        open_shards(copied)
    (copied / "shards.json").write_text('{"format": "other"}')
    with pytest.raises(ShardError, match="found 'other'"):
        open_shards(copied)


def test_arrays_of_another_set(sharded: Sharding, copied: Path) -> None:
    np.save(copied / "durations.npy", np.zeros(3))
    with pytest.raises(ShardError, match=r"expected 12 rows in .*durations\.npy, found 3"):
        open_shards(copied)
    np.save(copied / "durations.npy", np.zeros(12, np.float32))
    with pytest.raises(ShardError, match=r"expected one axis of float64 in .*durations\.npy, found \(12,\) of float32"):
        open_shards(copied)
    shutil.copy(sharded.folder / "durations.npy", copied)
    np.save(copied / "index.npy", np.load(sharded.folder / "index.npy")[:3])
    with pytest.raises(ShardError, match=r"expected 12 rows in .*index\.npy, found 3"):
        open_shards(copied)


def test_a_truncated_or_missing_shard_is_named_at_once(copied: Path) -> None:
    tar = copied / "yard-train-000000.tar"
    content = tar.read_bytes()
    tar.write_bytes(content[:5000])
    with pytest.raises(
        ShardError, match=rf"expected {len(content)} bytes in .*yard-train-000000\.tar, found: 5000 bytes"
    ):
        open_shards(copied)
    tar.unlink()
    with pytest.raises(ShardError, match=r"yard-train-000000\.tar, found: No such file"):
        open_shards(copied)


def damage(tar: Path, place: int) -> None:
    content = bytearray(tar.read_bytes())
    content[place] ^= 1
    tar.write_bytes(content)


def test_damage_names_shard_and_clip(copied: Path) -> None:
    clips = open_shards(copied).sources["yard"]
    hurt = clips[1]
    tar = Path(hurt.path)
    entry = reading.open_folder(copied).entry(clips._rows[1])
    damage(tar, reading.json_offset(hurt.offset_bytes, hurt.num_bytes) + 20)
    reading._open.cache_clear()
    with pytest.raises(
        ShardError, match=r"expected clip 'yard/dog\.1' \(row 5\) in .*yard-train-000000\.tar, found its JSON"
    ):
        clips[1]
    assert clips[0].id == "yard/dog.0"
    damage(tar, hurt.offset_bytes + hurt.num_bytes // 2)
    with pytest.raises(AudioError, match=r"clip 'yard/dog\.1' of 'yard': .*yard-train-000000\.tar"):
        read_clip(hurt)
    tar.write_bytes(tar.read_bytes()[: entry.offset_bytes + 100])
    with pytest.raises(ShardError, match=r"'yard/dog\.1' .* 0 of \d+ bytes"):
        clips[1]
    with pytest.raises(AudioError, match="the container is truncated"):
        read_clip(hurt)


def test_a_set_that_is_made_anew_is_opened_anew(copied: Path, corpus: list[Clip]) -> None:
    first = open_shards(copied)
    write_shards(corpus[:6], copied, shard_mb=1.0, workers=1, rebuild=True)
    second = open_shards(copied)
    assert second.num_clips == 6
    assert [clip.id for clip in second.sources["yard"]] == [clip.id for clip in corpus[1:6]]
    assert first.key != second.key


def test_a_damaged_index_is_noticed(copied: Path) -> None:
    index = np.load(copied / "index.npy")
    index["shard"][0], index["offset_bytes"][1] = 99, 1024
    np.save(copied / "index.npy", index)
    band = open_shards(copied).sources["band"]
    with pytest.raises(ShardError, match=r"expected clip 'drum' \(row 0\) in .* index out of range"):
        band[0]
    with pytest.raises(ShardError, match=r"expected clip 'harp' \(row 1\) in .*band-fold2-000000\.tar"):
        band[1]
    (copied / "manifest.parquet").unlink()
    with pytest.raises(ShardError, match=r"expected clip '' \(row 1\)"):
        band[1]
    (copied / "index.npy").write_bytes((copied / "index.npy").read_bytes()[:140])
    with pytest.raises(ShardError, match=r"expected row 0 in .*index\.npy"):
        band[0]
