from __future__ import annotations

import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tiny import tiny_clips, tone
from uniwhisper.errors import AudioError
from uniwhisper.shards import open_shards, write_shards
from uniwhisper.train.waves import WaveStore
from uniwhisper.types import Annotation, Clip

ZOO = Clip(
    id="c0",
    source="zoo",
    path="c0.wav",
    split="train",
    duration_s=1.0,
    domain="sound",
    annotation=Annotation(labels=("dog",), label_set="animals"),
)


def clip_at(path: Path, duration_s: float, **fields: Any) -> Clip:
    return replace(ZOO, path=str(path), duration_s=duration_s, **fields)


def test_store_gives_the_same_samples_from_memory_and_from_disk(tmp_path: Path) -> None:
    clip = clip_at(tmp_path / "c.wav", 0.5)
    soundfile.write(clip.path, tone(0.5, 300), 16_000, subtype="FLOAT")
    kept, forgetful = WaveStore(1.0), WaveStore(0.0)
    first = kept.wave(clip)
    assert first.dtype == np.float32
    np.testing.assert_allclose(first, tone(0.5, 300), atol=1 / 32767)
    np.testing.assert_array_equal(forgetful.wave(clip), first)
    Path(clip.path).unlink()
    np.testing.assert_array_equal(kept.wave(clip), first)
    with pytest.raises(AudioError, match="clip 'c0' of 'zoo'"):
        forgetful.wave(clip)


def test_store_keeps_spans_of_one_file_apart(tmp_path: Path) -> None:
    path = tmp_path / "c.wav"
    wave = tone(2.0, 300)
    soundfile.write(path, wave, 16_000, subtype="FLOAT")
    content = path.read_bytes()
    container = tmp_path / "shard.tar"
    soundfile.write(tmp_path / "other.wav", -wave, 16_000, subtype="FLOAT")
    container.write_bytes(content + (tmp_path / "other.wav").read_bytes())
    member = {"num_bytes": len(content)}
    spans = [
        (clip_at(path, 2.0), wave),
        (clip_at(path, 0.5), wave[:8000]),
        (clip_at(path, 0.5, start_s=1.0), wave[16_000:24_000]),
        (clip_at(container, 2.0, **member), wave),
        (clip_at(container, 2.0, offset_bytes=len(content), **member), -wave),
    ]
    store = WaveStore(10.0)
    for _ in range(2):  # from disk, then from memory
        for clip, expected in spans:
            np.testing.assert_allclose(store.wave(clip), expected, atol=1 / 32767)


def test_store_refuses_clips_longer_than_the_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(31 * 16_000), 16_000)
    with pytest.raises(
        AudioError, match=r"clip 'c0' of 'zoo': expected at most 30 s, found 31\.00 s: .uniwhisper shards"
    ):
        WaveStore(10.0).wave(clip_at(path, 31.0))
    assert len(WaveStore(10.0).wave(clip_at(path, 30.0, start_s=0.5))) == 30 * 16_000
    assert len(WaveStore(10.0).wave(clip_at(path, 30.3, start_s=0.5))) == 30 * 16_000  # rounding, cut off
    # A header may promise less than there is.
    monkeypatch.setattr("uniwhisper.train.waves.read_clip", lambda clip: np.zeros(31 * 16_000, dtype=np.float32))
    with pytest.raises(AudioError, match=r"expected at most 30 s, found 31\.00 s"):
        WaveStore(10.0).wave(clip_at(path, 20.0))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards")
    return write_shards(tiny_clips(folder / "audio"), folder / "set", workers=1).folder


@pytest.fixture
def shards(whole: Path, tmp_path: Path) -> dict[str, list[Clip]]:
    shutil.copytree(whole, tmp_path / "set")
    return {name: list(clips) for name, clips in open_shards(tmp_path / "set").sources.items()}


def test_samples_of_shards_are_those_that_were_stored(shards: dict[str, list[Clip]], tmp_path: Path) -> None:
    for clip in (*shards["bells"], *shards["talk"]):
        with Path(clip.path).open("rb") as file:
            data = os.pread(file.fileno(), clip.num_bytes, clip.offset_bytes)
        (tmp_path / "member.flac").write_bytes(data)
        expected, rate = soundfile.read(tmp_path / "member.flac", dtype="int16")
        found = WaveStore(1.0).samples(clip)
        assert (found.dtype, rate) == (np.int16, 16_000)
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(WaveStore(1.0).wave(clip), (expected / 32768).astype(np.float32))
        # The general reader hears the same: a second start, as if the clip were cut from a longer file.
        part = replace(clip, start_s=0.25, duration_s=clip.duration_s - 0.25)
        np.testing.assert_array_equal(WaveStore(1.0).samples(part), expected[4000:])


def test_a_part_of_a_member_is_not_taken_for_the_whole(shards: dict[str, list[Clip]]) -> None:
    clip = shards["bells"][0]
    whole = WaveStore(1.0).samples(clip)
    half = replace(clip, duration_s=len(whole) // 2 / 16_000)
    np.testing.assert_array_equal(WaveStore(1.0).samples(half), whole[: len(whole) // 2])


def damage(clip: Clip, place: int, data: bytes) -> None:
    with Path(clip.path).open("r+b") as file:
        file.seek(clip.offset_bytes + place)
        file.write(data)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda clip: damage(clip, clip.num_bytes // 2, b"\x5a" * 40),
        lambda clip: damage(clip, clip.num_bytes - 30, b"\0" * 30),
        lambda clip: damage(clip, 0, b"JUNKJUNK"),
        lambda clip: os.truncate(clip.path, clip.offset_bytes + clip.num_bytes // 2),
    ],
    ids=["middle", "end", "start", "truncated"],
)
def test_a_damaged_member_is_named_with_what_to_do(shards: dict[str, list[Clip]], spoil: Any) -> None:
    clip = shards["bells"][3]
    spoil(clip)
    with pytest.raises(AudioError) as found:
        WaveStore(1.0).samples(clip)
    message = str(found.value)
    assert message.startswith(f"clip {clip.id!r} of 'bells': ")
    tar = Path(clip.path)
    assert "member 'bells-3-" in message
    assert f"of {tar}, {clip.num_bytes} bytes from byte {clip.offset_bytes}" in message
    assert f"`uniwhisper shards --verify {tar.parent}`" in message
    assert "--rebuild" in message
    WaveStore(1.0).samples(shards["bells"][2])  # its neighbour is whole


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_member_that_was_stored_truncated_is_named(shards: dict[str, list[Clip]], share: float) -> None:
    clip = shards["bells"][3]
    shorter = replace(clip, num_bytes=int(clip.num_bytes * share))
    with pytest.raises(AudioError, match=r"clip 'bells-3' of 'bells': .*member 'bells-3-.*--verify"):
        WaveStore(1.0).samples(shorter)


def test_a_missing_shard_is_named(shards: dict[str, list[Clip]]) -> None:
    clip = shards["talk"][1]
    Path(clip.path).unlink()
    with pytest.raises(AudioError, match=r"clip 'talk-1' of 'talk': expected a file at .*\.tar, found none.*--verify"):
        WaveStore(1.0).samples(clip)


def test_other_containers_and_files_get_other_advice(tmp_path: Path) -> None:
    tar = tmp_path / "some.tar"
    tar.write_bytes(bytes(4096))
    with pytest.raises(AudioError, match=r"clip 'c0' of 'zoo'.* of .*some\.tar, .*Fetch the tar again") as found:
        WaveStore(1.0).samples(clip_at(tar, 1.0, offset_bytes=512, num_bytes=1000))
    assert "uniwhisper shards" not in str(found.value)
    with pytest.raises(AudioError, match=r"clip 'c0' of 'zoo'.*gone\.wav.*take the clip out of the manifest"):
        WaveStore(1.0).samples(clip_at(tmp_path / "gone.wav", 1.0))


def test_a_store_travels_empty_and_is_shared_by_processes(tmp_path: Path) -> None:
    clip = clip_at(tmp_path / "c.wav", 0.5)
    soundfile.write(clip.path, tone(0.5, 300), 16_000)
    store = WaveStore(0.05)
    store.samples(clip)
    assert len(pickle.dumps(store)) < 200
    Path(clip.path).unlink()
    store.samples(clip)
    with pytest.raises(AudioError):
        pickle.loads(pickle.dumps(store)).samples(clip)
    soundfile.write(clip.path, tone(0.5, 300), 16_000)
    quarter = store.shared_by(4)  # 12.5 kB: a clip of 16 kB does not fit
    quarter.samples(clip)
    Path(clip.path).unlink()
    with pytest.raises(AudioError):
        quarter.samples(clip)
