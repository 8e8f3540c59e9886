"""The pass over clips: what a vector is, that nothing but audio and weights decides it, and what a kill costs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from hearing import Hearing, write_clips
from tiny import tiny_whisper
from uniwhisper import audio
from uniwhisper.cache import EmbeddingCache
from uniwhisper.clips import clip_bytes, read_clip
from uniwhisper.embed import AudioEmbedder, load
from uniwhisper.errors import AudioError, EncoderError
from uniwhisper.evaluate import embeddings
from uniwhisper.evaluate.embeddings import clip_key, embed_clips
from uniwhisper.passes import plan_batches
from uniwhisper.threads import map_threads, one_thread_each

DURATIONS = [0.5, 0.31, 0.8, 0.25, 0.62, 0.5, 0.44, 0.3]


@pytest.fixture
def cache(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "cache.sqlite")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embeddings, "_CPU_BATCH_S", 1.0)


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return a function that sets the number of threads."""
    return lambda count: monkeypatch.setattr(embeddings, "map_threads", partial(map_threads, threads=count))


def test_a_vector_is_the_mean_of_the_clips_own_frames(tmp_path: Path) -> None:
    clips, encoder = write_clips(tmp_path, DURATIONS), Hearing()
    vectors = embed_clips(encoder, clips, cache=None)
    assert vectors.dtype == np.float32
    for clip, vector in zip(clips, vectors, strict=True):
        np.testing.assert_allclose(vector, encoder.frames([read_clip(clip)])[0].mean(axis=0), atol=1e-6)


def test_no_clips_give_no_vectors(cache: EmbeddingCache) -> None:
    assert embed_clips(Hearing(), [], cache=cache).shape == (0, 4)


@pytest.mark.parametrize("sample_rate", [8_000, 22_050, 48_000])
def test_an_encoder_hears_the_files_own_rate(tmp_path: Path, sample_rate: int) -> None:
    """A tone that 16 kHz cannot hold reaches an encoder at 48 kHz, and none at a lower rate."""
    times = np.arange(48_000) / 48_000
    soundfile.write(tmp_path / "c0.wav", 0.5 * np.sin(2 * np.pi * 15_000 * times), 48_000, subtype="FLOAT")
    clip = replace(write_clips(tmp_path / "other", [1.0])[0], path=str(tmp_path / "c0.wav"))
    encoder = Hearing(sample_rate=sample_rate)
    deviation = embed_clips(encoder, [clip], cache=None)[0, 1]
    assert encoder.batches == [[sample_rate]]
    assert deviation > 0.3 if sample_rate == 48_000 else deviation < 0.01


def test_a_second_run_hears_nothing_and_returns_the_same_bits(tmp_path: Path, cache: EmbeddingCache) -> None:
    clips, encoder, done = write_clips(tmp_path, DURATIONS), Hearing(), []
    first = embed_clips(encoder, clips, cache=cache)
    again = Hearing()
    np.testing.assert_array_equal(embed_clips(again, clips[::-1], cache=cache, on_done=done.append)[::-1], first)
    assert (again.batches, sum(done)) == ([], len(clips))


def test_keys_tell_audio_and_weights_apart_and_nothing_else(tmp_path: Path, cache: EmbeddingCache) -> None:
    clip = write_clips(tmp_path / "a", [0.5])[0]
    moved = replace(write_clips(tmp_path / "b", [0.5])[0], id="other", source="elsewhere", duration_s=0.5004)
    assert clip_key(Hearing(), clip) == clip_key(Hearing(), moved)
    others = [
        clip_key(Hearing("hearing-2"), clip),  # the same class with other weights
        clip_key(Hearing(sample_rate=8_000), clip),
        clip_key(Hearing(), clip, kind="frames"),
        clip_key(Hearing(), replace(clip, duration_s=0.3)),
        clip_key(Hearing(), replace(clip, start_s=0.1, duration_s=0.3)),
        clip_key(Hearing(), write_clips(tmp_path / "c", [0.5, 0.5])[1]),
    ]
    assert len({clip_key(Hearing(), clip), *others}) == 7
    before = embed_clips(Hearing(), [clip], cache=cache)
    soundfile.write(clip.path, -read_clip(clip), audio.SAMPLE_RATE, subtype="FLOAT")
    assert not np.allclose(embed_clips(Hearing(), [clip], cache=cache), before)


def test_spans_and_members_of_tars_are_heard_as_the_audio_that_they_are(tmp_path: Path, cache: EmbeddingCache) -> None:
    clips = write_clips(tmp_path, [0.5, 0.9])
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        for clip in clips:
            tar.add(clip.path, Path(clip.path).name)
    with tarfile.open(tmp_path / "all.tar") as tar:
        members = [
            replace(clip, path=str(tmp_path / "all.tar"), offset_bytes=member.offset_data, num_bytes=member.size)
            for clip, member in zip(clips, tar.getmembers(), strict=True)
        ]
    assert clip_bytes(members[1]) == Path(clips[1].path).read_bytes()
    encoder = Hearing()
    crops = [replace(members[1], duration_s=0.4), replace(members[1], start_s=0.4, duration_s=0.4)]
    vectors = embed_clips(encoder, [*clips, *members, *crops], cache=cache)
    assert sorted(n for batch in encoder.batches for n in batch) == [6400, 6400, 8000, 14400]  # a member is its file
    np.testing.assert_array_equal(vectors[2:4], vectors[:2])
    parts = [encoder.frames([read_clip(clips[1])[a:b]])[0].mean(axis=0) for a, b in ((0, 6400), (6400, 12800))]
    np.testing.assert_allclose(vectors[4:], parts, atol=1e-6)


def test_audio_listed_twice_is_heard_once(tmp_path: Path, cache: EmbeddingCache) -> None:
    clips, encoder, done = write_clips(tmp_path, [0.5, 0.3]), Hearing(), []
    twice = [*clips, replace(clips[0], id="again", source="another task")]
    vectors = embed_clips(encoder, twice, cache=cache, on_done=done.append)
    assert encoder.num_heard == 2
    assert sum(done) == 3
    np.testing.assert_array_equal(vectors[2], vectors[0])
    embed_clips(encoder, [clips[0], *write_clips(tmp_path / "more", [0.5, 0.3, 0.7])], cache=cache)
    assert encoder.num_heard == 3


def test_embed_and_embed_clips_are_one_way(tmp_path: Path) -> None:
    clips = write_clips(tmp_path, [0.5, 0.3])
    encoder = load(tiny_whisper(tmp_path / "whisper", width=32, heads=2))
    encoder._cache = EmbeddingCache(tmp_path / "cache.sqlite")
    vectors = embed_clips(encoder, clips, cache=encoder._cache)
    assert len(encoder._cache) == 2
    np.testing.assert_array_equal(encoder.embed([clip.path for clip in clips]), vectors)
    assert len(encoder._cache) == 2


@pytest.mark.usefixtures("small_batches")
def test_batches_do_not_depend_on_threads(tmp_path: Path, threads: Callable[[int], None]) -> None:
    clips, found = write_clips(tmp_path, DURATIONS * 3), []
    for count in (1, 2, 5):
        threads(count)
        encoder = Hearing()
        vectors = embed_clips(encoder, clips, cache=None)
        found.append((sorted(encoder.batches), vectors.tobytes()))
        assert (len(encoder.threads) > 1) == (count > 1)
    assert found[0] == found[1] == found[2]
    assert len(found[0][0]) > 5


def test_similar_lengths_share_a_batch_and_the_budget_closes_it() -> None:
    assert plan_batches([5, 1, 1, 9, 1, 5], budget_s=10) == [[3, 0], [5, 1, 2, 4]]
    assert plan_batches([30, 40], budget_s=10) == [[1], [0]]
    assert plan_batches([], budget_s=10) == []


@pytest.mark.parametrize("attributes", [{"device": "cuda:0"}, {"thread_safe": False}])
@pytest.mark.usefixtures("small_batches")
def test_one_stream_encodes_in_one_thread(
    tmp_path: Path, threads: Callable[[int], None], attributes: dict[str, object], cache: EmbeddingCache
) -> None:
    threads(3)
    clips, encoder = write_clips(tmp_path, DURATIONS * 3), Hearing()
    vars(encoder).update(attributes)
    vectors = embed_clips(encoder, clips, cache=cache)
    assert len(encoder.threads) == 1
    assert len(encoder.batches) == (1 if "device" in attributes else 10)  # an accelerator gets larger batches
    np.testing.assert_array_equal(vectors, embed_clips(Hearing(), clips, cache=None))


@pytest.mark.usefixtures("small_batches")
def test_a_stopped_run_goes_on_with_the_batches_of_an_undisturbed_one(tmp_path: Path, cache: EmbeddingCache) -> None:
    clips, whole = write_clips(tmp_path, [0.3 + 0.01 * n for n in range(20)]), Hearing()
    expected = embed_clips(whole, clips, cache=None)
    stopped = Hearing()
    hear = stopped.frames

    def stop_at_the_third(waves: list[np.ndarray]) -> list[np.ndarray]:
        if len(stopped.batches) == 2:
            raise KeyboardInterrupt
        return hear(waves)

    stopped.frames = stop_at_the_third  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        embed_clips(stopped, clips, cache=cache)
    assert len(cache) == sum(map(len, stopped.batches)) > 0
    rest = Hearing()
    np.testing.assert_array_equal(embed_clips(rest, clips, cache=cache), expected)
    assert sorted(stopped.batches + rest.batches) == sorted(whole.batches)


@pytest.mark.parametrize(
    ("damage", "message"), [("missing", "found nothing there"), ("short", "truncated"), ("text", "notes")]
)
def test_a_clip_that_cannot_be_read_is_named(tmp_path: Path, cache: EmbeddingCache, damage: str, message: str) -> None:
    clips = write_clips(tmp_path, [0.5, 0.3, 0.4])
    file = Path(clips[1].path)
    if damage == "missing":
        file.unlink()
        message = r"c1\.wav"
    elif damage == "short":
        file.write_bytes(file.read_bytes()[:4000])
    else:
        file.write_text("notes")
    for store in (cache, None):
        with pytest.raises(AudioError, match=message) as error:
            embed_clips(Hearing(), clips, cache=store)
        assert "c1" in str(error.value)


class Broken(Hearing):
    """Breaks its protocol on the clip of 4800 samples, in one way."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way

    def frames(self, waves: list[np.ndarray]) -> list[np.ndarray]:
        found = super().frames(waves)
        bad = next((n for n, wave in enumerate(waves) if len(wave) == 4800), None)
        if bad is not None:
            if self.way == "raises":
                raise IndexError("out of range")
            wrong = {
                "nan": found[bad] * np.nan,
                "double": found[bad].astype(np.float64),
                "width": found[bad][:, :3],
                "vector": found[bad][0],
                "empty": found[bad][:0],
                "tensor": torch.zeros(3, 4),
            }
            found[bad] = wrong[self.way]
        return found


@pytest.mark.parametrize("way", ["raises", "nan", "double", "width", "vector", "empty", "tensor"])
def test_an_encoder_that_breaks_its_protocol_is_refused_with_the_clip(
    tmp_path: Path, cache: EmbeddingCache, way: str
) -> None:
    with pytest.raises(EncoderError, match=r"hearing: .*clip 'c1' of 'tones'"):
        embed_clips(Broken(way), write_clips(tmp_path, [0.5, 0.3, 0.4]), cache=cache)
    assert len(cache) == 0


def test_an_encoder_that_fails_on_a_batch_alone_is_refused_with_the_batch(tmp_path: Path) -> None:
    encoder = Hearing()
    encoder.frames = lambda waves: [] if len(waves) > 1 else Hearing().frames(waves)  # type: ignore[method-assign]
    with pytest.raises(EncoderError, match="expected the frames of 2 waves, found 0"):
        embed_clips(encoder, write_clips(tmp_path, [0.5, 0.3]), cache=None)
    encoder.frames = lambda waves: [waves[1]]  # type: ignore[method-assign]
    with pytest.raises(EncoderError, match="IndexError"):
        embed_clips(encoder, write_clips(tmp_path, [0.5]), cache=None)


WORKER = """
import hashlib, json, os, sys
from pathlib import Path
from uniwhisper.cache import EmbeddingCache
from uniwhisper.embed import load
from uniwhisper.evaluate import embeddings
from uniwhisper.threads import num_threads, one_thread_each
from uniwhisper.manifest import read_manifest
embeddings._CPU_BATCH_S = 3.0
encoder = load(sys.argv[1])
clips = list(read_manifest(Path(sys.argv[2])))
print("ready", num_threads(), flush=True)
with one_thread_each():
    found = embeddings.embed_clips(encoder, clips, cache=EmbeddingCache(sys.argv[3]))
print(hashlib.sha256(found.tobytes()).hexdigest())
"""


def start(folder: Path, store: str, threads: int) -> subprocess.Popen[str]:
    arguments = [
        sys.executable,
        "-c",
        WORKER,
        str(folder / "whisper"),
        str(folder / "clips.jsonl"),
        str(folder / store),
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_threads_and_a_kill_change_no_bit(tmp_path: Path) -> None:
    from uniwhisper.manifest import write_manifest

    tiny_whisper(tmp_path / "whisper", width=64, heads=4)
    clips = write_clips(tmp_path / "audio", [0.5 + 0.11 * (n % 13) for n in range(60)])
    write_manifest(tmp_path / "clips.jsonl", clips)
    whole = start(tmp_path, "whole.sqlite", 1).communicate(timeout=120)[0].split()
    killed = start(tmp_path, "killed.sqlite", 1)
    store = EmbeddingCache(tmp_path / "killed.sqlite")
    while len(store) == 0:
        time.sleep(0.002)
    killed.send_signal(signal.SIGKILL)
    killed.communicate(timeout=60)
    assert 0 < len(store) < len(clips)
    batches = plan_batches([clip.duration_s for clip in clips], budget_s=3.0)
    ends = np.cumsum([len(batch) for batch in batches]).tolist()
    assert len(store) in ends  # whole batches, and all but the one under way
    resumed = start(tmp_path, "killed.sqlite", 2).communicate(timeout=120)[0].split()
    assert (whole[1], resumed[1]) == ("1", "2")
    assert resumed[-1] == whole[-1]


def test_computing_side_by_side_gives_the_bits_of_one_thread(tmp_path: Path, threads: Callable[[int], None]) -> None:
    encoder = load(tiny_whisper(tmp_path / "whisper", width=64, heads=4))
    assert isinstance(encoder, AudioEmbedder)
    clips = write_clips(tmp_path, [0.4 + 0.07 * (n % 11) for n in range(40)])
    found = []
    for count in (1, 4):
        threads(count)
        with one_thread_each():
            found.append(embed_clips(encoder, clips, cache=None))
    np.testing.assert_array_equal(found[0], found[1])
