"""The store of frames: what is in it, that it belongs to its encoder and audio, and that a stopped one goes on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile

from hearing import Hearing, write_clips
from uniwhisper import audio
from uniwhisper.clips import read_clip
from uniwhisper.errors import AudioError, EncoderError
from uniwhisper.evaluate import embeddings, frames
from uniwhisper.evaluate.frames import FrameStore, frame_bytes, store_frames
from uniwhisper.threads import map_threads
from uniwhisper.types import Clip

DURATIONS = [0.5, 0.31, 0.8, 0.25, 0.62, 0.5, 0.44, 0.3]


@pytest.fixture
def clips(tmp_path: Path) -> list[Clip]:
    return write_clips(tmp_path / "audio", DURATIONS)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three shards, of several batches each."""
    monkeypatch.setattr(frames, "_SHARD_S", 1.5)
    monkeypatch.setattr(embeddings, "_CPU_BATCH_S", 0.7)


def expected(clips: Sequence[Clip], encoder: Hearing | None = None) -> list[np.ndarray]:
    return [(encoder or Hearing()).frames([read_clip(clip)])[0] for clip in clips]


def test_the_store_holds_every_clips_frames_to_float16(tmp_path: Path, clips: list[Clip]) -> None:
    done: list[int] = []
    store = store_frames(Hearing(), clips, tmp_path / "store", on_done=done.append)
    assert (len(store), store.dim, store.hop_ms, sum(done)) == (8, 4, 20.0, 8)
    assert store.lengths.dtype == np.int64
    assert len(list((tmp_path / "store").glob("*.npy"))) == 3
    for n, values in enumerate(expected(clips)):
        assert store[n].dtype == np.float32
        np.testing.assert_array_equal(store[n], values.astype(np.float16).astype(np.float32))
        assert store.lengths[n] == len(values)
    assert 0 < store.rounding < 2**-11
    assert store.num_bytes == 2 * 4 * store.lengths.sum() == frame_bytes(Hearing(), clips)


def test_rows_are_the_frames_of_any_clips_in_any_order(tmp_path: Path, clips: list[Clip]) -> None:
    store = store_frames(Hearing(), clips, tmp_path / "store")
    for indices in ([7, 0, 3, 3], np.array([2]), np.arange(8)):
        values, lengths = store.rows(indices)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, np.concatenate([store[int(n)] for n in indices]))
        np.testing.assert_array_equal(lengths, store.lengths[indices])
    values, lengths = store.rows([])
    assert (values.shape, lengths.shape) == ((0, 4), (0,))
    with pytest.raises(IndexError):
        store[8]


def test_a_finished_store_is_opened_and_lies_at_home(
    tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIWHISPER_HOME", str(tmp_path / "home"))
    first = store_frames(Hearing(), clips)
    assert first.folder.parent == tmp_path / "home" / "frames"
    again, done = Hearing(), []
    store = store_frames(again, clips, on_done=done.append)
    assert (again.batches, sum(done), store.folder) == ([], 8, first.folder)
    np.testing.assert_array_equal(store.rows(range(8))[0], first.rows(range(8))[0])


def test_other_weights_or_audio_are_never_served(tmp_path: Path, clips: list[Clip]) -> None:
    folder = tmp_path / "store"
    store_frames(Hearing(), clips, folder)
    other = Hearing("hearing-2", scale=2.0)
    store = store_frames(other, clips, folder)
    np.testing.assert_allclose(store[0], expected(clips, Hearing(scale=2.0))[0], rtol=1e-3)
    soundfile.write(clips[4].path, 0.5 * read_clip(clips[4]), audio.SAMPLE_RATE, subtype="FLOAT")
    changed = Hearing("hearing-2", scale=2.0)
    store = store_frames(changed, clips, folder)
    np.testing.assert_allclose(store[4], expected(clips, Hearing(scale=2.0))[4], rtol=1e-3, atol=1e-6)
    assert changed.num_heard == 4  # the clips of that shard
    assert len(store_frames(Hearing("hearing-2"), clips[:4], folder)) == 4
    assert len(list(folder.glob("*.npy"))) == 2


@pytest.mark.parametrize("damage", ["frames", "index", "cut"])
def test_a_damaged_shard_is_an_error_or_made_again(tmp_path: Path, clips: list[Clip], damage: str) -> None:
    folder = tmp_path / "store"
    whole = store_frames(Hearing(), clips, folder).rows(range(8))[0]
    if damage == "frames":
        (folder / "00001.npy").unlink()
    elif damage == "cut":
        (folder / "00001.npy").write_bytes((folder / "00001.npy").read_bytes()[:-8])
    else:
        (folder / "00001.json").write_text("{")
    with pytest.raises(EncoderError, match="00001"):
        FrameStore(folder, hop_ms=20.0)
    (folder / "DONE").unlink()
    again = Hearing()
    np.testing.assert_array_equal(store_frames(again, clips, folder).rows(range(8))[0], whole)
    assert again.num_heard == 4


def test_frames_do_not_depend_on_threads(tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for threads in (1, 3):
        monkeypatch.setattr(frames, "map_threads", partial(map_threads, threads=threads))
        folder = store_frames(Hearing(), clips, tmp_path / f"store{threads}").folder
        found.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("value", "message"), [(7e4, "float16 can hold, found 70000 in clip 'c3'"), (np.nan, "clip 'c3' .*not finite")]
)
def test_values_that_float16_cannot_hold_are_refused(
    tmp_path: Path, clips: list[Clip], value: float, message: str
) -> None:
    encoder = Hearing()
    hear = encoder.frames

    def loud(waves: list[np.ndarray]) -> list[np.ndarray]:
        found = hear(waves)
        for wave, values in zip(waves, found, strict=True):
            values[-1, 2] = value if len(wave) == 4000 else -6e4
        return found

    encoder.frames = loud  # type: ignore[method-assign]
    with pytest.raises(EncoderError, match=message):
        store_frames(encoder, clips, tmp_path / "store")
    assert not (tmp_path / "store" / "DONE").exists()


def test_space_is_known_before_it_is_used(tmp_path: Path, clips: list[Clip], monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 100})
    monkeypatch.setattr(frames.shutil, "disk_usage", lambda path: usage)
    encoder = Hearing()
    with pytest.raises(EncoderError, match=r"expected 0\.00 GB of free disk in .*store for the frames of hearing"):
        store_frames(encoder, clips, tmp_path / "store")
    assert encoder.batches == []
    encoder.hop_ms = 0.0
    with pytest.raises(EncoderError, match="expected hop_ms above 0"):
        frame_bytes(encoder, clips)


def test_no_clips_and_unreadable_ones_are_refused(tmp_path: Path, clips: list[Clip]) -> None:
    with pytest.raises(EncoderError, match="expected clips to store the frames of, found none"):
        store_frames(Hearing(), [], tmp_path / "store")
    Path(clips[7].path).write_text("notes")
    with pytest.raises(AudioError, match="c7"):
        store_frames(Hearing(), clips, tmp_path / "store")


WORKER = """
import sys, time
from pathlib import Path
from hearing import Hearing, write_clips
from uniwhisper.evaluate import frames
class Slow(Hearing):
    def frames(self, waves):
        time.sleep(0.05)
        return super().frames(waves)
frames._SHARD_S = 1.5
clips = write_clips(Path(sys.argv[1]), [0.5] * 60)
print("ready", flush=True)
frames.store_frames(Slow(), clips, Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_killed_run_loses_one_shard(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-c", WORKER, str(tmp_path / "many"), str(folder)]
    worker = subprocess.Popen(arguments, env=environment)
    while len(list(folder.glob("*.json"))) < 3 and worker.poll() is None:
        time.sleep(0.002)
    worker.send_signal(signal.SIGKILL)
    assert worker.wait(timeout=60) == -signal.SIGKILL
    complete = len(list(folder.glob("*.json")))
    assert 3 <= complete < 20
    clips = write_clips(tmp_path / "many", [0.5] * 60)
    rest = Hearing()
    store = store_frames(rest, clips, folder)
    assert rest.num_heard == 60 - 3 * complete
    assert [json.loads(path.read_text())["lengths"] for path in sorted(folder.glob("*.json"))] == [[25] * 3] * 20
    for n, values in enumerate(expected(clips)):
        np.testing.assert_array_equal(store[n], values.astype(np.float16))
