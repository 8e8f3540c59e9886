from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from uniwhisper.errors import ConfigError, ManifestError, ShardError
from uniwhisper.manifest import write_manifest
from uniwhisper.shards.plan import make_plan, planned_clips, read_manifests, read_plan, split_order
from uniwhisper.types import Annotation, Clip, Event

from .conftest import SHARD_MB, tree


def clips_of(folder: Path, name: str) -> list[Clip]:
    return list(planned_clips(folder / f"{name}.jsonl"))


def clip(clip_id: str, duration_s: float = 10.0, annotation: Annotation | None = None, source: str = "yard") -> Clip:
    return Clip(
        id=clip_id,
        source=source,
        path=f"/audio/{clip_id}.wav",
        split="train",
        duration_s=duration_s,
        domain="sound",
        annotation=annotation or Annotation(labels=("wind",)),
    )


def test_shards_are_of_one_source_and_split_and_keep_the_order(corpus: list[Clip], tmp_path: Path) -> None:
    plan = make_plan(corpus, tmp_path, shard_mb=SHARD_MB)
    assert [shard.name for shard in plan.shards] == [
        "band-fold1-000000",
        "band-fold2-000000",
        "talk-train-000000",
        "yard-train-000000",
        "yard-train-000001",
        "yard-train-000002",
        "yard-train-000003",
        "yard-test-000000",
    ]
    ids = [clip.id for shard in plan.shards for clip in clips_of(tmp_path, shard.name) if shard.source == "yard"]
    assert ids == [*(f"yard/dog.{n}" for n in range(5)), "walk#0001", "walk#0002", "eval"]
    for shard in plan.shards:
        clips = clips_of(tmp_path, shard.name)
        assert {(clip.source, clip.split) for clip in clips} == {(shard.source, shard.split)}
        assert shard.num_clips == len(clips)
        assert shard.duration_s == pytest.approx(sum(clip.duration_s for clip in clips), abs=1e-5)
        assert max(clip.duration_s for clip in clips) <= 30.0
    assert plan.sources == {"band": 2, "talk": 2, "yard": 8}
    assert plan.dropped == {}


def test_equal_clips_give_equal_plans(corpus: list[Clip], tmp_path: Path) -> None:
    first = make_plan(corpus, tmp_path / "a", shard_mb=SHARD_MB)
    second = make_plan(iter(corpus), tmp_path / "b", shard_mb=SHARD_MB)
    assert first == second == read_plan(tmp_path / "a")
    assert tree(tmp_path / "a") == tree(tmp_path / "b")
    other = [dataclasses.replace(corpus[0], license="CC0"), *corpus[1:]]
    keys = {
        make_plan(corpus, tmp_path / "c", shard_mb=1).key,
        make_plan(corpus, tmp_path / "c", shard_mb=SHARD_MB, max_s=29.0).key,
        make_plan(corpus[::-1], tmp_path / "c", shard_mb=SHARD_MB).key,
        make_plan(other, tmp_path / "c", shard_mb=SHARD_MB).key,
        first.key,
    }
    assert len(keys) == 5


def test_shards_are_filled_to_their_size(tmp_path: Path) -> None:
    plan = make_plan((clip(f"c{n}") for n in range(100)), tmp_path, shard_mb=2.0)
    assert [shard.num_clips for shard in plan.shards] == [10] * 10
    big = make_plan([clip("a", 30.0), clip("b", 30.0)], tmp_path, shard_mb=0.01)
    assert [shard.num_clips for shard in big.shards] == [1, 1]


def test_what_is_left_out_is_listed(tmp_path: Path) -> None:
    far = Event(label="owl", onset_s=70, offset_s=71)
    clips = [
        clip("good"),
        clip("speech", 40.0, Annotation(transcript="a long talk")),
        clip("bare", 3.0, Annotation(metadata={"title": "x"}, votes={"a": 1})),
        clip("night", 80.0, Annotation(events=(far,), label_set="owls")),
    ]
    plan = make_plan(clips, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "dropped.jsonl").read_text().splitlines()]
    assert [(row["source"], row["id"]) for row in rows] == [
        ("yard", "speech"),
        ("yard", "bare"),
        ("yard", "night#0001"),
        ("yard", "night#0002"),
    ]
    assert "a transcript without times cannot be cut" in rows[0]["reason"]
    assert "nothing can be asked about it" in rows[1]["reason"]
    assert "nothing is annotated in this part" in rows[2]["reason"]
    assert plan.dropped == {"yard": 2}
    assert plan.sources == {"yard": 4}


@pytest.mark.parametrize(
    ("clips", "message"),
    [
        ([clip("a"), clip("b"), clip("a")], "found 'a' of 'yard' .* and 'a' of 'yard' .*: give each clip its own id"),
        ([clip("a", 40.0), clip("a#0001")], "found 'a#0001' of 'yard'"),
        ([dataclasses.replace(clip("a"), path="a.wav")], "clip 'a': expected an absolute audio path, found 'a.wav'"),
        ([dataclasses.replace(clip("a"), split="dev")], "expected split to be train, valid, test or foldN"),
    ],
)
def test_clips_have_to_be_valid(clips: list[Clip], message: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=message):
        make_plan(clips, tmp_path)


def test_the_same_id_in_two_sources_is_no_clash(tmp_path: Path) -> None:
    assert len(make_plan([clip("a"), clip("a", source="park")], tmp_path).shards) == 2


def test_there_has_to_be_something(tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="expected clips to put into shards, found none"):
        make_plan([], tmp_path)
    with pytest.raises(ShardError, match="found 1, all of them dropped"):
        make_plan([clip("a", 3.0, Annotation())], tmp_path)
    with pytest.raises(ConfigError, match="expected shard_mb above 0, found 0"):
        make_plan([clip("a")], tmp_path, shard_mb=0)


def test_order_of_splits() -> None:
    splits = ["fold10", "test", "fold2", "valid", "train", "fold1"]
    assert sorted(splits, key=split_order) == ["train", "valid", "test", "fold1", "fold2", "fold10"]


def test_manifests_are_read_one_row_at_a_time(corpus: list[Clip], tmp_path: Path) -> None:
    write_manifest(tmp_path / "a" / "manifest.jsonl", corpus[:3])
    write_manifest(tmp_path / "b" / "rows.jsonl", corpus[3:])
    assert list(read_manifests([tmp_path / "a", tmp_path / "b" / "rows.jsonl"])) == corpus
    (tmp_path / "b" / "rows.jsonl").write_text('{"id": "x"}\n')
    with pytest.raises(ManifestError, match=r"rows\.jsonl:1: expected a clip with"):
        list(read_manifests([tmp_path / "b" / "rows.jsonl"]))
    with pytest.raises(ManifestError, match=r"manifest\.jsonl"):
        list(read_manifests([tmp_path / "b"]))
