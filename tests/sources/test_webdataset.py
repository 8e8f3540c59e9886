from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from uniwhisper.clips import read_clip
from uniwhisper.manifest import read_manifest, write_manifest
from uniwhisper.shards import write_shards
from uniwhisper.sources import convert_source
from uniwhisper.types import Annotation, Clip, Event


def test_our_own_shards_are_read_back(tmp_path: Path) -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal(48_000)
    soundfile.write(str(tmp_path / "a.wav"), samples, 16_000)
    clip = Clip(
        id="a/1",
        source="yard",
        path=str(tmp_path / "a.wav"),
        split="valid",
        duration_s=2.0,
        start_s=1.0,
        domain="sound",
        annotation=Annotation(
            captions=("A dog.",), events=(Event(label="dog", onset_s=0.5, offset_s=1.0),), votes={"dog": 2}
        ),
        upstream_ids=("freesound:5",),
        group="g",
    )
    write_manifest(tmp_path / "manifest.jsonl", [clip])
    write_shards(read_manifest(tmp_path / "manifest.jsonl"), tmp_path / "shards", workers=1)
    done = convert_source("webdataset", tmp_path / "again", tmp_path / "shards")
    (found,) = read_manifest(done.manifest)
    assert (found.id, found.source, found.split, found.group) == ("a/1", "yard", "valid", "g")
    assert (found.annotation, found.upstream_ids) == (clip.annotation, clip.upstream_ids)
    assert found.start_s == 0.0, "the member is the clip, whole"
    assert np.abs(read_clip(found) - read_clip(clip)).max() <= 1 / 32768


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("a-train-000000", "train"),
        ("x_test", "test"),
        ("wds-audio-fold-3-000", "fold3"),
        ("dev", "valid"),
        ("z", "train"),
    ],
)
def test_the_split_is_in_the_name(name: str, split: str) -> None:
    from uniwhisper.sources.webdataset import _split

    assert _split(name) == split
