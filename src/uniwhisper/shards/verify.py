"""Verifying shards: every byte of a set is read and compared with what was written.

Reads a finished set; writes nothing. Guarantees: a shard that is found sound has the very bytes that were written, its
audio decodes to the very samples, and manifest and index point at them; of one that is not, every damaged clip is
named, and damage outside of any clip too.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.engine import EngineKind, map_tasks
from uniwhisper.errors import ShardError
from uniwhisper.files import sha256_file
from uniwhisper.shards.members import BLOCK_BYTES, decode_flac, json_offset, padded, tar_header
from uniwhisper.shards.reading import ShardFile, ShardFolder, open_folder
from uniwhisper.shards.table import IndexEntry, shard_rows

__all__ = ["Damage", "verify_shards"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """Something in a set that is not as it was written."""

    shard: str
    clip_id: str
    """Empty where no single clip is concerned."""
    reason: str


def verify_shards(folder: Path, *, workers: int = 0, engine: EngineKind = "local") -> list[Damage]:
    """Return all damage in a finished set; an empty list where there is none.

    Raises:
        ShardError: The folder holds no finished set.
    """
    shards = open_folder(folder).shards
    tasks = [(str(folder.resolve()), number) for number in range(len(shards))]
    found = map_tasks(_verify, tasks, workers=workers, kind=engine, label="verify", unit="shards", total=len(tasks))
    return [damage for damages in found for damage in damages]


def _verify(task: tuple[str, int]) -> list[Damage]:
    """Return the damage of one shard."""
    folder = open_folder(Path(task[0]))
    shard = folder.shards[task[1]]
    tar = folder.path / shard.name
    if not tar.is_file():
        return [Damage(shard=shard.name, clip_id="", reason=f"the tar is missing in {folder.path}")]
    rows = shard_rows(folder.path / "manifest.parquet", shard.name)
    if len(rows) != shard.num_clips:
        reason = f"expected {shard.num_clips} rows in manifest.parquet, found {len(rows)}"
        return [Damage(shard=shard.name, clip_id="", reason=reason)]
    damages = [
        Damage(shard=shard.name, clip_id=row["id"], reason=reason)
        for number, row in enumerate(rows)
        for reason in (*_index_faults(folder, shard, number, row), *_clip_faults(tar, row))
    ]
    # The tar as a whole comes last: clips have names, the bytes between them (padding, the end) have none.
    if not damages and sha256_file(tar) != shard.sha256:
        damages.append(
            Damage(shard=shard.name, clip_id="", reason="the tar has another sha256, but every clip is whole")
        )
    return damages


def _index_faults(folder: ShardFolder, shard: ShardFile, number: int, row: Mapping[str, Any]) -> Iterator[str]:
    entry = folder.entry(shard.first_row + number)
    expected = IndexEntry(*(row[name] for name in IndexEntry._fields[:-1]), shard=folder.shards.index(shard))
    for name, found, value in zip(IndexEntry._fields, entry, expected, strict=True):
        if found != value:
            yield f"index.npy has {name} {found}, the manifest {value}"
    if folder.durations[shard.first_row + number] != row["duration_s"]:
        yield f"durations.npy has {folder.durations[shard.first_row + number]} s, the manifest {row['duration_s']} s"


def _clip_faults(tar: Path, row: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a clip's two members."""
    offset_bytes, num_bytes, json_num_bytes = row["offset_bytes"], row["num_bytes"], row["json_num_bytes"]
    if row["json_offset_bytes"] != json_offset(offset_bytes, num_bytes):
        yield f"its JSON is said to begin at {row['json_offset_bytes']}, which is not behind its FLAC"
        return
    end = row["json_offset_bytes"] + padded(json_num_bytes)
    with tar.open("rb") as file:
        file.seek(offset_bytes - BLOCK_BYTES)
        data = file.read(end - offset_bytes + BLOCK_BYTES)
    flac = data[BLOCK_BYTES : BLOCK_BYTES + num_bytes]
    text = data[json_offset(BLOCK_BYTES, num_bytes) :][:json_num_bytes]
    if data[:BLOCK_BYTES] != tar_header(f"{row['key']}.flac", num_bytes):
        yield "the header of its FLAC is damaged"
    if data[BLOCK_BYTES + padded(num_bytes) :][:BLOCK_BYTES] != tar_header(f"{row['key']}.json", json_num_bytes):
        yield "the header of its JSON is damaged"
    if zlib.crc32(text) != row["json_crc32"]:
        yield "its JSON is damaged"
    elif (stored := json.loads(text))["id"] != row["id"] or stored["annotation"] != row["annotation"]:
        yield "its JSON says something else than the manifest"
    if hashlib.sha256(flac).hexdigest() != row["flac_sha256"]:
        yield "its FLAC is damaged"
        return
    try:
        pcm = decode_flac(flac)
    except ShardError as e:
        yield str(e)
        return
    if hashlib.sha256(pcm.astype("<i2").tobytes()).hexdigest() != row["pcm_sha256"]:
        yield "its FLAC decodes to other samples than were written"
    if len(pcm) != round(row["duration_s"] * SAMPLE_RATE):
        yield f"expected {row['duration_s']} s of audio, found {len(pcm) / SAMPLE_RATE} s"
