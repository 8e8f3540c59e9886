from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from uniwhisper.errors import ShardError
from uniwhisper.shards import Sharding, verify_shards
from uniwhisper.shards.table import SCHEMA

Row = dict[str, int | str | float]
SHARD = "yard-train-000000.tar"


@pytest.fixture
def copied(sharded: Sharding, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sharded.folder, tmp_path / "copy"))


def flip(copied: Path, place: int) -> None:
    content = bytearray((copied / SHARD).read_bytes())
    content[place] ^= 1
    (copied / SHARD).write_bytes(content)


def row_of(copied: Path, clip_id: str) -> Row:
    (row,) = (row for row in pq.read_table(copied / "manifest.parquet").to_pylist() if row["id"] == clip_id)
    return row


def test_a_sound_set(sharded: Sharding) -> None:
    assert verify_shards(sharded.folder, workers=1) == []


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        (lambda row: row["offset_bytes"] - 500, "the header of its FLAC is damaged"),
        (lambda row: row["offset_bytes"] + 50, "its FLAC is damaged"),
        (lambda row: row["json_offset_bytes"] - 500, "the header of its JSON is damaged"),
        (lambda row: row["json_offset_bytes"] + 9, "its JSON is damaged"),
    ],
)
def test_damage_is_found_and_named(copied: Path, place: Callable[[Row], int], reason: str) -> None:
    flip(copied, place(row_of(copied, "yard/dog.1")))
    (damage,) = verify_shards(copied, workers=1)
    assert (damage.shard, damage.clip_id, damage.reason) == (SHARD, "yard/dog.1", reason)


def test_damage_between_clips(copied: Path) -> None:
    flip(copied, -1)
    (damage,) = verify_shards(copied, workers=1)
    assert (damage.shard, damage.clip_id) == (SHARD, "")
    assert "every clip is whole" in damage.reason


def test_a_truncated_shard_and_a_missing_one(copied: Path) -> None:
    row = row_of(copied, "yard/dog.1")
    (copied / SHARD).write_bytes((copied / SHARD).read_bytes()[: int(row["offset_bytes"]) + 10])
    (copied / "band-fold1-000000.tar").unlink()
    damages = verify_shards(copied, workers=1)
    assert {damage.clip_id for damage in damages} == {"", "yard/dog.1", "yard/dog.2"}
    assert damages[0].reason.startswith("the tar is missing")


def test_index_and_durations_are_compared(copied: Path) -> None:
    durations = np.load(copied / "durations.npy")
    durations[0] += 1
    np.save(copied / "durations.npy", durations)
    index = np.load(copied / "index.npy")
    index["shard"][1], index["num_bytes"][2] = 0, 7
    np.save(copied / "index.npy", index)
    assert [(damage.clip_id, damage.reason.split()[0]) for damage in verify_shards(copied, workers=1)] == [
        ("drum", "durations.npy"),
        ("harp", "index.npy"),
        ("spr\u00fcch-1", "index.npy"),
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"annotation": "{}"}, "its JSON says something else than the manifest"),
        ({"pcm_sha256": "0"}, "its FLAC decodes to other samples"),
        ({"json_offset_bytes": 0}, "which is not behind its FLAC"),
        (None, "expected 3 rows in manifest.parquet, found 2"),
    ],
)
def test_the_manifest_is_compared(copied: Path, change: Row | None, reason: str) -> None:
    rows = pq.read_table(copied / "manifest.parquet").to_pylist()
    place = next(number for number, row in enumerate(rows) if row["id"] == "yard/dog.1")
    changed = [*rows[:place], *([{**rows[place], **change}] if change is not None else []), *rows[place + 1 :]]
    pq.write_table(pa.Table.from_pylist(changed, schema=SCHEMA), copied / "manifest.parquet")
    assert reason in " ".join(damage.reason for damage in verify_shards(copied, workers=1))


def test_a_damaged_manifest(copied: Path) -> None:
    (copied / "manifest.parquet").write_bytes(b"PAR1 no more PAR1")
    with pytest.raises(ShardError, match=r"expected the manifest .*manifest\.parquet, found: "):
        verify_shards(copied, workers=1)
    (copied / "manifest.parquet").unlink()
    with pytest.raises(ShardError, match=r"expected the manifest .*manifest\.parquet, found: "):
        verify_shards(copied, workers=1)


def test_an_unfinished_set(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="found no file DONE"):
        verify_shards(tmp_path)
