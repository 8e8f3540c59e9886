from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.dedup import scanning
from uniwhisper.dedup.leakage import Leakage, LeakageConfig, find_leakage
from uniwhisper.dedup.twins import Stage
from uniwhisper.errors import DedupError, ManifestError
from uniwhisper.files import read_json, read_jsonl
from uniwhisper.manifest import read_manifest
from uniwhisper.types import Annotation, Clip

from .corpora import clip, corpus, named, sound, write

FILES = ("manifest.jsonl", "identifier.jsonl", "hash.jsonl", "fingerprint.jsonl", "unheard.jsonl", "summary.json")


def rows(found: Leakage, name: str) -> list[dict[str, Any]]:
    return list(read_jsonl(found.folder / f"{name}.jsonl"))


def pairs(found: Leakage, stage: Stage) -> dict[str, str]:
    return {row["removed_id"]: row["kept_id"] for row in rows(found, stage)}


def left(found: Leakage) -> list[str]:
    return [clip.id for clip in read_manifest(found.folder / "manifest.jsonl")]


def outcome(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in FILES}


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Clip], list[Clip]]:
    """Four evaluation clips, and training clips that share a name, a file, samples or sound with one, or nothing."""
    folder = tmp_path_factory.mktemp("both")
    kept = corpus(folder, "kept", [1, 2, 3, 4], split="test")
    kept[0] = named(kept[0], "freesound:1")
    first = corpus(folder, "train", [11, 12])
    copied = folder / "train" / "copied.wav"
    copied.write_bytes(Path(kept[1].path).read_bytes())
    padded = np.concatenate([np.zeros(4000, np.float32), soundfile.read(kept[2].path, dtype="float32")[0]])
    sounding = np.concatenate([sound(99, 0.7), 0.4 * soundfile.read(kept[3].path, dtype="float32")[0]])
    train = [
        named(first[0], "freesound:1"),
        clip("train", "copied", copied),
        clip("train", "padded", write(folder / "train" / "padded.flac", padded, subtype="PCM_16")),
        clip("train", "sounding", write(folder / "train" / "sounding.ogg", sounding)),
        first[1],
    ]
    return train, kept


def test_every_stage_finds_what_it_can(both: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    train, kept = both
    found = find_leakage(train, kept, tmp_path)
    assert found.removed == {"identifier": 1, "hash": 2, "fingerprint": 1}
    assert pairs(found, "identifier") == {"11": "1"}
    assert pairs(found, "hash") == {"copied": "2", "padded": "3"}
    assert pairs(found, "fingerprint") == {"sounding": "4"}
    assert left(found) == ["12"]
    assert (found.num_train, found.num_eval, found.num_left, found.num_unreadable) == (5, 4, 1, 0)
    assert found.by_corpus == {"train": {"kept": 4}}
    assert found.num_identified == {"train": 1, "eval": 1}
    assert found.num_unheard == {"train": 0, "eval": 0}
    assert not (tmp_path / "search").exists()
    reasons = [row["reason"].partition(":")[0] for row in rows(found, "hash")]
    assert reasons == ["the same file", "the same samples"]
    row = rows(found, "fingerprint")[0]
    assert row["removed_path"] == train[3].path
    assert row["kept_path"] == kept[3].path
    assert row["removed_at_s"] - row["kept_at_s"] == pytest.approx(0.7, abs=0.03)
    assert row["overlap_s"] == pytest.approx(2.5, abs=0.3)
    assert 0.8 < row["score"] <= 1
    assert row["evidence"] > 100
    assert 0.7 < row["agreement"] <= 1


@pytest.mark.parametrize("stage", ["identifier", "hash", "fingerprint"])
def test_stages_alone(both: tuple[list[Clip], list[Clip]], stage: Stage, tmp_path: Path) -> None:
    found = find_leakage(*both, tmp_path, config=LeakageConfig(stages=(stage,)))
    expected = {"identifier": {"11"}, "hash": {"copied", "padded"}, "fingerprint": {"copied", "padded", "sounding"}}
    assert set(pairs(found, stage)) == expected[stage]
    assert sum(found.removed.values()) == len(expected[stage])
    assert read_json(tmp_path / "summary.json")["stages"] == [stage]


@pytest.mark.slow
def test_the_outcome_does_not_depend_on_workers(both: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    train, kept = both
    many = [replace(found, id=f"{found.id}-{turn}") for turn in range(15) for found in train]
    for workers in (1, 2):
        find_leakage(many, kept, tmp_path / f"{workers}", workers=workers)
    assert outcome(tmp_path / "1") == outcome(tmp_path / "2")
    assert len(list(read_jsonl(tmp_path / "1" / "fingerprint.jsonl"))) == 15


def test_the_same_clips_on_both_sides(both: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    _, kept = both
    found = find_leakage(kept, kept, tmp_path)
    assert found.removed == {"identifier": 1, "hash": 3, "fingerprint": 0}
    assert left(found) == []
    assert rows(found, "hash")[0]["reason"] == "both are the same file"
    assert pairs(found, "hash") == {"2": "2", "3": "3", "4": "4"}
    found = find_leakage(kept, kept, tmp_path, config=LeakageConfig(stages=("fingerprint",)))
    assert found.removed == {"identifier": 0, "hash": 0, "fingerprint": 4}
    assert rows(found, "fingerprint")[0]["evidence"] > 0


def test_spans_of_one_file(tmp_path: Path) -> None:
    long = write(tmp_path / "long.wav", sound(5, 12.0), subtype="PCM_16")
    copy = tmp_path / "copy.wav"
    copy.write_bytes(long.read_bytes())

    def span(name: str, path: Path, start_s: float, duration_s: float = 3.0) -> Clip:
        return clip("long", name, path, start_s=start_s, duration_s=duration_s)

    kept = [span("kept", long, 3.0)]
    train = [
        span("neighbour", long, 5.9),
        span("half", long, 1.5),
        span("whole", long, 0.0, 12.0),
        span("inside", long, 4.0, 0.2),
        span("copied", copy, 3.0),
        span("copied half", copy, 4.5),
        span("copied neighbour", copy, 6.0),
        span("copied start", copy, 0.0),
    ]
    found = find_leakage(train, kept, tmp_path / "out")
    assert set(pairs(found, "hash")) == {"half", "whole", "inside", "copied"}
    assert set(pairs(found, "fingerprint")) == {"copied half"}
    assert left(found) == ["neighbour", "copied neighbour", "copied start"]
    half = next(row for row in rows(found, "hash") if row["removed_id"] == "half")
    assert (half["removed_at_s"], half["kept_at_s"], half["overlap_s"]) == (1.5, 0.0, 1.5)


def test_members_of_tars(tmp_path: Path) -> None:
    members: list[tuple[int, int]] = []
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for seed in (1, 2):
            data = io.BytesIO()
            soundfile.write(data, sound(seed), SAMPLE_RATE, format="FLAC")
            member = tarfile.TarInfo(f"{seed}.flac")
            member.size = len(data.getvalue())
            data.seek(0)
            tar.addfile(member, data)
            members.append((member.offset_data, member.size))
    with tarfile.open(tmp_path / "a.tar") as tar:
        members = [(member.offset_data, member.size) for member in tar]
    place = {"offset_bytes": members[0][0], "num_bytes": members[0][1]}
    kept = [clip("tar", "1", tmp_path / "a.tar", duration_s=2.5, **place)]
    other = {"offset_bytes": members[1][0], "num_bytes": members[1][1]}
    train = [
        clip("tar", "same", tmp_path / "a.tar", duration_s=2.5, **place),
        clip("tar", "next", tmp_path / "a.tar", duration_s=2.5, **other),
        clip("files", "sounding", write(tmp_path / "b.wav", 0.5 * sound(1))),
    ]
    found = find_leakage(train, kept, tmp_path / "out")
    assert pairs(found, "hash") == {"same": "1"}
    assert rows(found, "hash")[0]["reason"] == "both are the same file"
    assert pairs(found, "fingerprint") == {"sounding": "1"}
    assert left(found) == ["next"]


def test_a_clip_in_two_corpora_counts_for_both(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", sound(1))
    kept = [clip(name, "1", path) for name in ("one", "two")]
    listed = [named(clip(name, "2", path, start_s=0.5, duration_s=1.0), "fma:1") for name in ("one", "two")]
    train = [
        clip("train", "a", write(tmp_path / "train.wav", sound(1))),
        named(clip("train", "b", write(tmp_path / "other.wav", sound(3))), "fma:1"),
    ]
    found = find_leakage(train, [*kept, *listed], tmp_path / "out")
    # The second clip of a place is not heard again: what sounds like it is found as the first.
    assert found.by_corpus == {"train": {"one": 2, "two": 1}}
    assert found.removed == {"identifier": 1, "hash": 1, "fingerprint": 0}
    assert rows(found, "identifier")[0]["corpora"] == ["one", "two"]


@pytest.fixture
def damaged(both: tuple[list[Clip], list[Clip]], tmp_path: Path) -> tuple[list[Clip], list[Clip]]:
    """The same corpora with a broken file, a missing one, and two that can be read but not fingerprinted."""
    train, kept = both
    (tmp_path / "broken.wav").write_bytes(b"RIFF nothing")
    silent = write(tmp_path / "silent.wav", np.zeros(SAMPLE_RATE, np.float32))
    short = write(tmp_path / "short.wav", sound(21, 0.1))
    train = [
        clip("odd", "broken", tmp_path / "broken.wav", duration_s=1.0),
        clip("odd", "silent", silent),
        *train,
        clip("odd", "short", short),
    ]
    return train, [*kept, clip("kept", "gone", tmp_path / "gone.wav", duration_s=1.0)]


def test_unreadable_clips_leave_and_those_with_too_little_sound_stay(
    damaged: tuple[list[Clip], list[Clip]], tmp_path: Path
) -> None:
    found = find_leakage(*damaged, tmp_path / "out", config=LeakageConfig(tolerance=0.4))
    assert left(found) == ["silent", "12", "short"]
    assert found.num_unreadable == 1
    assert found.num_unheard == {"train": 3, "eval": 1}
    listed = {row["id"]: (row["side"], row["unreadable"], row["reason"]) for row in rows(found, "unheard")}
    assert {name: value[:2] for name, value in listed.items()} == {
        "gone": ("eval", True),
        "broken": ("train", True),
        "silent": ("train", False),
        "short": ("train", False),
    }
    assert "broken.wav" in listed["broken"][2]
    assert listed["short"][2] == "less than 0.6 s of sound: copies may go unnoticed"


@pytest.mark.parametrize(
    ("tolerance", "message"),
    [
        (
            0.0,
            r"at most 0 of the 5 eval clips of kept \(0.0%\) to be unreadable, found more; the first: gone: .*gone.wav",
        ),
        (0.3, r"at most 0 of the 3 train clips of odd \(30.0%\) to be unreadable, found more; the first: broken: "),
    ],
)
def test_too_many_unreadable_clips(
    damaged: tuple[list[Clip], list[Clip]], tolerance: float, message: str, tmp_path: Path
) -> None:
    with pytest.raises(DedupError, match=message):
        find_leakage(*damaged, tmp_path / "out", config=LeakageConfig(tolerance=tolerance))
    assert not (tmp_path / "out" / "DONE").exists()


def test_what_is_not_listened_to_may_be_missing(damaged: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    found = find_leakage(*damaged, tmp_path / "out", config=LeakageConfig(stages=("identifier",), tolerance=0))
    assert found.num_left == 7
    assert found.num_unheard == {"train": 0, "eval": 0}


def test_blacklists_without_evaluation_clips(both: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    train, _ = both
    found = find_leakage(train, [], tmp_path, config=LeakageConfig(blacklists=(("freesound:1", "esc50"),)))
    assert found.removed == {"identifier": 1, "hash": 0, "fingerprint": 0}
    assert found.by_corpus == {"train": {"esc50": 1}}
    assert found.num_left == 4


def count_hearing(monkeypatch: pytest.MonkeyPatch, *, stop_at: int = -1) -> list[str]:
    """Return the list that will name every clip heard from now on; an error stops the search after so many."""
    heard: list[str] = []
    hear: Callable[..., scanning.Heard] = scanning.hear

    def counted(number: int, clip: Clip, hearing: scanning.Hearing) -> scanning.Heard:
        if len(heard) == stop_at:
            raise KeyboardInterrupt
        heard.append(clip.id)
        return hear(number, clip, hearing)

    monkeypatch.setattr(scanning, "hear", counted)
    monkeypatch.setattr(scanning, "_CHUNK", 2)
    return heard


def test_a_stopped_search_goes_on(
    both: tuple[list[Clip], list[Clip]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, kept = both
    find_leakage(train, kept, tmp_path / "straight")
    with monkeypatch.context() as patch:
        heard = count_hearing(patch, stop_at=7)  # 4 evaluation clips, and one and a half chunks of training clips
        with pytest.raises(KeyboardInterrupt):
            find_leakage(train, kept, tmp_path / "out")
    assert heard == ["1", "2", "3", "4", "copied", "padded", "sounding"]
    with (tmp_path / "out" / "search" / "journal.jsonl").open("ab") as file:
        file.write(b'{"num_clips": 2, "outc')  # what a kill leaves of a line
    with monkeypatch.context() as patch:
        heard = count_hearing(patch)
        find_leakage(train, kept, tmp_path / "out")
    assert heard == ["sounding", "12"]
    assert outcome(tmp_path / "out") == outcome(tmp_path / "straight")


def test_a_search_that_failed_goes_on_with_another_tolerance(
    damaged: tuple[list[Clip], list[Clip]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DedupError):
        find_leakage(*damaged, tmp_path / "out", config=LeakageConfig(tolerance=0.3))
    heard = count_hearing(monkeypatch)
    find_leakage(*damaged, tmp_path / "out", config=LeakageConfig(tolerance=0.4))
    assert heard == []


def test_a_stopped_search_of_other_clips_is_forgotten(
    both: tuple[list[Clip], list[Clip]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train, kept = both
    with monkeypatch.context() as patch:
        count_hearing(patch, stop_at=7)
        with pytest.raises(KeyboardInterrupt):
            find_leakage(train, kept, tmp_path)
    heard = count_hearing(monkeypatch)
    find_leakage(train[1:], kept, tmp_path)
    assert heard == ["1", "2", "3", "4", "copied", "padded", "sounding", "12"]


def test_a_finished_search_is_reused_until_something_changes(tmp_path: Path) -> None:
    train, kept = corpus(tmp_path, "train", [1, 2]), corpus(tmp_path, "kept", [3])

    def search(train: list[Clip], kept: list[Clip], **options: Any) -> bool:
        return find_leakage(train, kept, tmp_path / "out", config=LeakageConfig(**options)).reused

    assert not search(train, kept)
    assert search(train, kept)
    assert not search(train, kept, tolerance=0.5)
    assert not search([replace(train[0], annotation=Annotation(labels=("dog",))), train[1]], kept)
    assert not search(train, kept)
    assert not search(train, [replace(kept[0], upstream_ids=("fma:1",))])
    assert not search(train, kept, blacklists=(("fma:1", "fma_small"),))
    assert not search(train, kept)
    write(Path(kept[0].path), sound(1))
    assert not search(train, kept)
    assert left(find_leakage(train, kept, tmp_path / "out")) == ["2"]
    stat = Path(train[0].path).stat()
    os.utime(train[0].path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000))
    assert not search(train, kept)
    (tmp_path / "out" / "manifest.jsonl").unlink()
    assert not search(train, kept)
    assert search(train, kept)


def test_another_search_in_the_same_folder_asks_the_other_clips(tmp_path: Path) -> None:
    train = [clip("train", f"{seed}", write(tmp_path / f"{seed}.ogg", sound(seed))) for seed in (1, 2)]
    for seed in (1, 2):
        found = find_leakage(train, corpus(tmp_path, "kept", [seed]), tmp_path / "out")
        assert pairs(found, "fingerprint") == {f"{seed}": f"{seed}"}


def test_identifiers_alone_read_no_file(tmp_path: Path) -> None:
    train = [named(clip("train", "a", tmp_path / "none.wav", duration_s=1.0), "fma:1")]
    config = LeakageConfig(stages=("identifier",))
    found = find_leakage(train, [replace(train[0], source="kept")], tmp_path / "out", config=config)
    assert found.removed["identifier"] == 1
    (tmp_path / "none.wav").touch()
    assert find_leakage(train, [replace(train[0], source="kept")], tmp_path / "out", config=config).reused


def test_a_manifest_of_somebody_else_is_not_replaced(both: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").write_text("precious", encoding="utf-8")
    with pytest.raises(
        DedupError, match=r"to be new, empty or of an earlier search, found manifest.jsonl: give another"
    ):
        find_leakage(*both, tmp_path)
    assert (tmp_path / "manifest.jsonl").read_text(encoding="utf-8") == "precious"


def test_ids_that_repeat_are_refused_at_once(both: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    train, kept = both
    with pytest.raises(ManifestError, match="ids to be unique within source 'train'"):
        find_leakage([*train, train[0]], kept, tmp_path)
    assert find_leakage(train, [*kept, *kept], tmp_path).num_eval == 8


def test_nothing_to_look_for(both: tuple[list[Clip], list[Clip]], tmp_path: Path) -> None:
    train, kept = both
    for sides in (([], kept), (train, [])):
        with pytest.raises(DedupError, match="expected training clips, and evaluation clips or blacklists; found"):
            find_leakage(*sides, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {"stages": ()},
        {"stages": ("sound",)},
        {"tolerance": 1.1},
        {"tolerance": -0.1},
        {"stages": ("hash",), "blacklists": (("fma:1", "fma_small"),)},
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any]) -> None:
    with pytest.raises(DedupError, match=r"expected (stages out of|the stage identifier)"):
        LeakageConfig(**options)
