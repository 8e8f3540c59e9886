"""Shards: audio and annotations of many clips in a few large files that everybody can read.

A set is a folder:

    <source>-<split>-000000.tar ...   plain WebDataset tars: `<key>.flac` (16 kHz, mono, 16 bit) and `<key>.json` a clip
    manifest.parquet                  one row per clip: where it lies, what is known about it, hashes (`table.py`)
    index.npy, durations.npy          the same rows as arrays, for random access without reading the Parquet file
    shards.json                       the tars in the order of the rows: size, sha256, source, split, number of clips
    searches.json                     keys of the searches for leakage that the clips went through
    dropped.jsonl                     every clip that was left out: `source`, `id`, `reason`
    journal/                          what each tar was made from; lets a stopped or changed run keep finished tars
    DONE                              the hash of clips and settings, written last

While a set is being made there is also `plan/`. Tars, manifest and arrays name neither the machine, nor the time, nor
the folders that the audio came from, so equal clips give equal bytes. Texts for the model are rendered when clips are
read: templates can change without new shards. With `webdataset` and `datasets` the tars are read as they are; lists
and objects within a clip's JSON are JSON text there (`members.py` says why).
"""

from __future__ import annotations

from uniwhisper.shards.plan import Plan, PlannedShard, read_manifests
from uniwhisper.shards.reading import ShardClips, ShardSet, open_shards
from uniwhisper.shards.run import Sharding, SourceTally, finish_shards, plan_shards, shard_tasks, write_shards
from uniwhisper.shards.verify import Damage, verify_shards
from uniwhisper.shards.writing import ShardRecord, ShardTask, write_shard

__all__ = [
    "Damage",
    "Plan",
    "PlannedShard",
    "ShardClips",
    "ShardRecord",
    "ShardSet",
    "ShardTask",
    "Sharding",
    "SourceTally",
    "finish_shards",
    "open_shards",
    "plan_shards",
    "read_manifests",
    "shard_tasks",
    "verify_shards",
    "write_shard",
    "write_shards",
]
