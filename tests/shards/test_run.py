from __future__ import annotations

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from uniwhisper.errors import AudioError, ConfigError, ShardError
from uniwhisper.files import read_json
from uniwhisper.shards import (
    Sharding,
    finish_shards,
    open_shards,
    plan_shards,
    shard_tasks,
    verify_shards,
    write_shard,
    write_shards,
    writing,
)
from uniwhisper.types import Annotation, Clip

from .conftest import SHARD_MB, MakeClip, pcm_of, tree


def make(clips: list[Clip], folder: Path, **options: Any) -> Sharding:
    return write_shards(clips, folder, **{"shard_mb": SHARD_MB, "workers": 1, **options})


def dropped(folder: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (folder / "dropped.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def copied(sharded: Sharding, tmp_path: Path) -> Path:
    """Return a copy of the finished set that a test may change."""
    return Path(shutil.copytree(sharded.folder, tmp_path / "copy"))


def test_a_set_is_what_its_description_says(sharded: Sharding, corpus: list[Clip]) -> None:
    names = {path.name for path in sharded.folder.iterdir() if path.suffix != ".tar"}
    assert names == {
        "manifest.parquet",
        "index.npy",
        "durations.npy",
        "shards.json",
        "searches.json",
        "dropped.jsonl",
        "journal",
        "DONE",
    }
    assert sharded.num_shards == len(list(sharded.folder.glob("*.tar"))) == 8
    assert not sharded.reused
    assert (sharded.folder / "DONE").read_text().strip() == sharded.key
    assert {name: (tally.num_clips, tally.num_dropped) for name, tally in sharded.sources.items()} == {
        "band": (2, 0),
        "talk": (2, 0),
        "yard": (8, 0),
    }
    assert sum(tally.hours for tally in sharded.sources.values()) == pytest.approx(
        sum(clip.duration_s for clip in corpus) / 3600, rel=1e-4
    )
    assert sum(tally.num_bytes for tally in sharded.sources.values()) == sum(
        path.stat().st_size for path in sharded.folder.glob("*.tar")
    )


def test_every_clip_comes_back_with_its_samples(sharded: Sharding, corpus: list[Clip]) -> None:
    from uniwhisper.clips import read_clip
    from uniwhisper.shards.members import to_pcm

    found = {(clip.source, clip.id): clip for clips in open_shards(sharded.folder).sources.values() for clip in clips}
    for clip in corpus:
        if clip.id == "walk":
            continue
        stored = found[clip.source, clip.id]
        changed = {"path", "offset_bytes", "num_bytes", "duration_s"}
        for name in {field.name for field in dataclasses.fields(Clip)} - changed:
            assert getattr(stored, name) == getattr(clip, name), name
        assert (to_pcm(read_clip(stored)) == to_pcm(read_clip(clip))).all()
        assert len(read_clip(stored)) == round(stored.duration_s * 16_000)
        if clip.source != "band":
            assert (to_pcm(read_clip(stored)) == pcm_of(clip.path)).all()
    walk = next(clip for clip in corpus if clip.id == "walk")
    pieces = [found["yard", f"walk#{number:04d}"] for number in (1, 2)]
    joined = [to_pcm(read_clip(piece)) for piece in pieces]
    assert (pcm_of(walk.path) == [*joined[0], *joined[1]]).all()
    assert sum(len(piece.annotation.events) for piece in pieces) == len(walk.annotation.events)
    assert pieces[0].group == "walk"


def test_manifest_rows_lie_where_they_say(sharded: Sharding) -> None:
    rows = pq.read_table(sharded.folder / "manifest.parquet").to_pylist()
    assert [(row["source"], row["split"]) for row in rows] == [
        *[("band", "fold1"), ("band", "fold2"), ("talk", "train"), ("talk", "train")],
        *[("yard", "train")] * 7,
        ("yard", "test"),
    ]
    drum = rows[0]
    assert (drum["id"], drum["upstream_ids"], drum["domain"]) == ("drum", ["freesound:7", "fma:9"], "music")
    assert [row["start_s"] > 0 for row in rows if row["id"] == "walk#0002"] == [True]
    for row in rows:
        data = (sharded.folder / row["shard"]).read_bytes()
        assert data[row["offset_bytes"] :][:4] == b"fLaC"
        text = data[row["json_offset_bytes"] :][: row["json_num_bytes"]]
        stored = json.loads(text)
        assert (stored["id"], stored["annotation"]) == (row["id"], row["annotation"])
        assert stored["flac_sha256"] == row["flac_sha256"]


def test_nothing_names_this_machine(sharded: Sharding, corpus: list[Clip]) -> None:
    corpus_folder = str(Path(corpus[0].path).parent).encode()
    for name, content in tree(sharded.folder).items():
        assert corpus_folder not in content, name
        assert str(sharded.folder).encode() not in content, name


@pytest.mark.slow
def test_workers_change_nothing(corpus: list[Clip], sharded: Sharding, tmp_path: Path) -> None:
    make(corpus, tmp_path, workers=2)
    assert tree(tmp_path) == tree(sharded.folder)


def test_shards_can_be_written_one_by_one_in_any_order(corpus: list[Clip], sharded: Sharding, tmp_path: Path) -> None:
    plan_shards(corpus, tmp_path, shard_mb=SHARD_MB)
    tasks = shard_tasks(tmp_path)
    for task in tasks[1:][::-1]:
        write_shard(task)
    with pytest.raises(ShardError, match=r"expected the finished shard .*band-fold1-000000\.tar, found none"):
        finish_shards(tmp_path)
    write_shard(tasks[0])
    assert finish_shards(tmp_path).key == sharded.key
    assert tree(tmp_path) == tree(sharded.folder)


def test_a_finished_folder_is_left_alone(copied: Path, corpus: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(copied)
    monkeypatch.setattr(writing, "read_clip", lambda clip: pytest.fail("audio was read again"))
    done = make(corpus, copied)
    assert done.reused
    assert done.sources["yard"].num_clips == 8
    assert tree(copied) == before


def test_finished_shards_are_not_read_again(copied: Path, corpus: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(copied)
    (copied / "talk-train-000000.tar").unlink()
    read: list[str] = []
    original = writing.read_clip
    monkeypatch.setattr(writing, "read_clip", lambda clip: read.append(clip.id) or original(clip))
    assert not make(corpus, copied).reused
    assert read == ["spr\u00fcch-1", "spruch-2"]
    assert tree(copied) == before


def test_a_truncated_shard_is_written_again(copied: Path, corpus: list[Clip]) -> None:
    before = tree(copied)
    tar = copied / "talk-train-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-1])
    assert not make(corpus, copied).reused
    assert tree(copied) == before


def test_leftovers_of_a_killed_run_go_first(corpus: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "journal").mkdir()
    leftovers = [tmp_path / ".yard-train-000000.tar.x7.part", tmp_path / "journal" / ".yard-train-000000.json.x8.part"]
    for path in leftovers:
        path.write_text("half")
    plan_shards(corpus, tmp_path, shard_mb=SHARD_MB)
    assert not any(path.exists() for path in leftovers)


def test_a_set_of_other_clips_is_refused_or_replaced(
    copied: Path, corpus: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = tree(copied)
    others = [clip for clip in corpus if clip.source != "band" and clip.id != "eval"]
    with pytest.raises(ShardError, match=r"found a set of others .*--rebuild"):
        make(others, copied)
    assert tree(copied) == before
    (copied / "notes.txt").write_text("mine")
    monkeypatch.setattr(writing, "read_clip", lambda clip: pytest.fail("audio was read again"))
    make(others, copied, rebuild=True)
    monkeypatch.undo()
    make(others, tmp_path / "fresh")
    assert tree(copied) == {**tree(tmp_path / "fresh"), "notes.txt": b"mine"}
    assert verify_shards(copied, workers=1) == []


def test_a_stopped_replacement_is_still_refused_to_others(copied: Path, corpus: list[Clip]) -> None:
    plan_shards(corpus[:3], copied, shard_mb=SHARD_MB, rebuild=True)
    with pytest.raises(ShardError, match="found a set of others"):
        make(corpus, copied)
    assert make(corpus[:3], copied).num_shards == 2


def broken(make_clip: MakeClip, clip_id: str, content: bytes = b"RIFFnothing") -> Clip:
    clip = make_clip("yard", clip_id)
    Path(clip.path).write_bytes(content)
    return clip


def test_broken_audio_is_listed_within_the_tolerance(corpus: list[Clip], make_clip: MakeClip, tmp_path: Path) -> None:
    clips = [*corpus, broken(make_clip, "noise"), broken(make_clip, "empty", b"")]
    done = make(clips, tmp_path, tolerance=0.2)
    assert done.sources["yard"].num_dropped == 2
    assert [(row["source"], row["id"]) for row in dropped(tmp_path)] == [("yard", "noise"), ("yard", "empty")]
    assert "expected an audio file" in dropped(tmp_path)[1]["reason"]
    assert verify_shards(tmp_path, workers=1) == []


def test_more_broken_audio_is_an_error_and_repairing_it_helps(
    corpus: list[Clip], make_clip: MakeClip, tmp_path: Path
) -> None:
    bad = broken(make_clip, "noise")
    clips = [*corpus, bad]
    with pytest.raises(ShardError, match="yard: expected to drop at most 0 clips, found 1 or more: clip 'noise'"):
        make(clips, tmp_path)
    assert not (tmp_path / "DONE").exists()
    shutil.copy(make_clip("yard", "again").path, bad.path)
    assert make(clips, tmp_path).sources["yard"].num_clips == 9


def test_drops_are_counted_over_all_shards(make_clip: MakeClip, tmp_path: Path) -> None:
    bad = [broken(make_clip, f"bad {n}") for n in range(2)]
    good = [make_clip("yard", f"good {n}", 1.0) for n in range(8)]
    clips = [bad[0], *good, bad[1]]  # one in the first shard, one in the last, and one is allowed in all
    with pytest.raises(ShardError, match=r"at most 1 clips, found 2 or more: clip 'bad 0'.* clip 'bad 1'"):
        make(clips, tmp_path, tolerance=0.1)
    kept = {path.stem for path in (tmp_path / "journal").glob("*.json")}
    assert kept
    assert {"yard-train-000000", "yard-train-000004"}.isdisjoint(kept)
    assert make(clips, tmp_path, tolerance=0.2).sources["yard"].num_dropped == 2


def test_both_kinds_of_drops_are_counted_together(make_clip: MakeClip, tmp_path: Path) -> None:
    speech = make_clip("yard", "speech", 31.0, annotation=Annotation(transcript="on and on"))
    bad = [broken(make_clip, f"worse {n}") for n in range(2)]
    clips = [speech, bad[0], *(make_clip("yard", f"fine {n}", 1.0) for n in range(7)), bad[1]]
    with pytest.raises(ShardError, match="yard: expected to drop at most 1 clips, found 2 or more"):
        make(clips, tmp_path, tolerance=0.2)
    assert make(clips, tmp_path, tolerance=0.3).sources["yard"].num_dropped == 3


def test_recordings_that_cannot_be_cut_count_too(corpus: list[Clip], make_clip: MakeClip, tmp_path: Path) -> None:
    speech = make_clip("yard", "speech", 31.0, annotation=Annotation(transcript="on and on"))
    with pytest.raises(
        ShardError, match=r"yard: expected to drop at most 0 clips, found 1 .* a transcript without times"
    ):
        make([*corpus, speech], tmp_path)
    assert make([*corpus, speech], tmp_path, tolerance=0.15).sources["yard"].num_dropped == 1


@pytest.mark.parametrize(("says_s", "reason"), [(0.8, "expected 0.800 s"), (0.3, "")])
def test_audio_has_to_be_as_long_as_its_clip_says(
    make_clip: MakeClip, tmp_path: Path, says_s: float, reason: str
) -> None:
    clip = dataclasses.replace(make_clip("yard", "dog", 0.5), duration_s=says_s)
    other = make_clip("yard", "cat", 0.5)
    make([clip, other], tmp_path, tolerance=0.5)
    assert [reason in row["reason"] for row in dropped(tmp_path)] == [True] * bool(reason)
    if not reason:  # a shorter clip is the start of its file
        assert open_shards(tmp_path).sources["yard"][0].duration_s == says_s


def test_audio_that_is_longer_than_its_header_says(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [make_clip("yard", "dog", 0.5), make_clip("yard", "cat", 1.0)]
    monkeypatch.setattr(writing, "read_clip", lambda clip: np.zeros(16_000, np.float32))
    make(clips, tmp_path, tolerance=0.5)
    (row,) = dropped(tmp_path)
    assert row["id"] == "dog"
    assert "expected 0.500 s in" in row["reason"]
    assert "found 1.000 s" in row["reason"]


def test_nothing_is_longer_than_the_window(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = dataclasses.replace(make_clip("yard", "dog"), duration_s=30.0)
    monkeypatch.setattr(writing, "read_clip", lambda clip: np.zeros(round(30.4 * 16_000), np.float32))
    make([clip], tmp_path)
    assert open_shards(tmp_path).durations("yard").tolist() == [30.0]


def test_a_source_that_loses_too_much_stops_the_run_at_once(
    make_clip: MakeClip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = [make_clip("yard", f"clip {n}") for n in range(10)]
    read: list[str] = []

    def unreadable(clip: Clip) -> np.ndarray:
        read.append(clip.id)
        raise AudioError("the disk is gone")

    monkeypatch.setattr(writing, "read_clip", unreadable)
    with pytest.raises(ShardError, match="yard: expected to drop at most 2 clips, found 3 or more: the disk is gone"):
        make(clips, tmp_path, tolerance=0.2)
    assert read == ["clip 0", "clip 1", "clip 2"]


def test_times_never_lie_beyond_the_audio_that_was_found(make_clip: MakeClip, tmp_path: Path) -> None:
    from uniwhisper.types import Event

    events = tuple(Event(label="dog", onset_s=onset_s, offset_s=0.505) for onset_s in (0.1, 0.503))
    clip = dataclasses.replace(make_clip("yard", "dog", 0.5), duration_s=0.51, annotation=Annotation(events=events))
    make([clip], tmp_path)
    (stored,) = open_shards(tmp_path).sources["yard"]
    assert stored.duration_s == 0.5
    assert stored.annotation.events == (Event(label="dog", onset_s=0.1, offset_s=0.5),)


def test_all_clips_broken(make_clip: MakeClip, tmp_path: Path) -> None:
    with pytest.raises(ShardError, match="expected clips with audio that can be read, found none of 1"):
        make([broken(make_clip, "noise")], tmp_path, tolerance=1.0)


def test_missing_audio(corpus: list[Clip], tmp_path: Path) -> None:
    gone = dataclasses.replace(corpus[0], path="/nowhere/x.wav")
    with pytest.raises(ShardError, match=r"talk: expected to drop at most 0 clips.* /nowhere/x\.wav"):
        make([gone, *corpus[1:]], tmp_path)


def test_a_full_disk_says_so_and_keeps_what_is_finished(
    corpus: list[Clip], sharded: Sharding, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = writing._Tar._write

    def full(tar: Any, data: bytes) -> None:
        if len(list(tmp_path.glob("*.tar"))) == 3:
            raise OSError(28, "No space left on device")
        original(tar, data)

    monkeypatch.setattr(writing._Tar, "_write", full)
    with pytest.raises(
        ShardError, match=r"expected to write .*yard-train-000000\.tar, found: No space left .* Make room"
    ):
        make(corpus, tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*.part"))
    assert len(list((tmp_path / "journal").glob("*.json"))) == 3
    make(corpus, tmp_path)
    assert tree(tmp_path) == tree(sharded.folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission(corpus: list[Clip], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ShardError, match="Permission denied"):
        make(corpus, tmp_path / "set")


def test_a_file_where_the_folder_should_be(corpus: list[Clip], tmp_path: Path) -> None:
    (tmp_path / "set").write_text("")
    with pytest.raises(ShardError, match=r"expected to write .*set, found: Not a directory"):
        make(corpus, tmp_path / "set")


def test_an_unforeseen_failure_names_the_clip(
    corpus: list[Clip], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "to_pcm", lambda wave: 1 / 0)
    with pytest.raises(ShardError, match=r"band-fold1-000000: clip 'drum' of 'band' .*ZeroDivisionError"):
        make(corpus, tmp_path)


def test_a_plan_that_changed_under_a_task_is_noticed(corpus: list[Clip], tmp_path: Path) -> None:
    plan_shards(corpus, tmp_path, shard_mb=SHARD_MB)
    task = dataclasses.replace(shard_tasks(tmp_path)[0], plan_sha256="0" * 64)
    with pytest.raises(ShardError, match="with sha256 0000"):
        write_shard(task)


def test_settings_out_of_range(corpus: list[Clip], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a tolerance from 0 to 1, found 2"):
        make(corpus, tmp_path, tolerance=2)


def test_summary_lists_shards_in_the_order_of_the_rows(sharded: Sharding) -> None:
    facts = read_json(sharded.folder / "shards.json")
    first = 0
    for shard in facts["shards"]:
        assert shard["first_row"] == first
        first += shard["num_clips"]
    assert first == 12
