"""The embedding cache: exact round trips, keys that tell everything apart, and survival of crowds, kills and damage."""

from __future__ import annotations

import os
import pickle
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from uniwhisper import cache
from uniwhisper.cache import EmbeddingCache, array_hash, audio_hash, embedding_key
from uniwhisper.errors import AudioError, EncoderError, UniWhisperError


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingCache:
    return EmbeddingCache(tmp_path / "sub" / "cache.sqlite")


def vectors(count: int, width: int = 8, seed: int = 0) -> dict[str, np.ndarray]:
    values = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return {f"{seed}-{i}": row for i, row in enumerate(values)}


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for key, embedding in expected.items():
        assert found[key].dtype == np.float32
        np.testing.assert_array_equal(found[key], embedding)


def test_round_trip(store: EmbeddingCache) -> None:
    expected = vectors(1201) | {
        "frames": np.arange(12, dtype=np.float32).reshape(3, 4),
        "one frame": np.ones((1, 5), np.float32),
        "no frames": np.zeros((0, 5), np.float32),
        "strided": np.arange(20, dtype=np.float32)[::2],
    }
    store.put_many(expected)
    assert len(store) == 1205
    assert_same(store.get_many([*expected, "absent"]), expected)
    found = store.get_many(["frames"])["frames"]
    found[:] = 0  # what is returned belongs to the caller
    assert_same(store.get_many(["strided"]), {"strided": expected["strided"]})


def test_an_unused_store_makes_no_file(store: EmbeddingCache) -> None:
    assert store.get_many(["a"]) == {}
    assert len(store) == store.size_bytes() == store.clear() == 0
    store.put_many({})
    assert not store.path.exists()


def test_default_path_is_in_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNIWHISPER_HOME", str(tmp_path))
    assert EmbeddingCache().path == tmp_path.resolve() / "embeddings.sqlite"


def test_put_replaces(store: EmbeddingCache) -> None:
    store.put_many({"a": np.zeros(3, np.float32)})
    store.put_many({"a": np.ones((2, 2), np.float32)})
    assert_same(store.get_many(["a"]), {"a": np.ones((2, 2), np.float32)})
    assert len(store) == 1


def test_size_and_clear(store: EmbeddingCache) -> None:
    store.put_many(vectors(100, width=1000))
    assert store.size_bytes() >= 400_000
    freed = store.clear()
    assert freed >= 390_000
    assert store.size_bytes() <= 20_000
    assert len(store) == 0
    store.put_many(vectors(2))
    assert_same(store.get_many(list(vectors(2))), vectors(2))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(3),
        np.zeros((1, 2, 3), np.float32),
        np.array(1.0, np.float32),
        np.array([1.0, np.nan], np.float32),
    ],
)
def test_what_no_encoder_should_make_is_refused_whole(store: EmbeddingCache, bad: np.ndarray) -> None:
    with pytest.raises(EncoderError, match="under key bad"):
        store.put_many({"good": np.zeros(3, np.float32), "bad": bad})
    assert len(store) == 0


def test_key_depends_on_every_part() -> None:
    parts = {"encoder": "e", "preprocessing": "p", "kind": "k", "audio": "a"}
    keys = {embedding_key(**parts)} | {embedding_key(**(parts | {name: "other"})) for name in parts}
    keys.add(embedding_key(encoder="p", preprocessing="e", kind="k", audio="a"))
    assert len(keys) == 6
    assert all(len(key) == 64 and set(key) <= set("0123456789abcdef") for key in keys)
    assert embedding_key(**parts) == embedding_key(**dict(reversed(parts.items())))


def test_array_hash_depends_on_values_shape_and_type() -> None:
    wave = np.arange(6, dtype=np.float32)
    others = [wave[::-1], wave.reshape(2, 3), wave.reshape(3, 2), wave.astype(np.float64), wave[:5]]
    assert len({array_hash(wave), *map(array_hash, others)}) == 6
    assert array_hash(np.repeat(wave, 2)[::2]) == array_hash(wave)


def test_audio_hash_is_of_the_content_and_computed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    real = cache.sha256_file
    monkeypatch.setattr(cache, "sha256_file", lambda path: (calls.append(path), real(path))[1])
    first, copy = tmp_path / "a.wav", tmp_path / "b.wav"
    first.write_bytes(b"abc")
    copy.write_bytes(b"abc")
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert audio_hash(first) == audio_hash(str(first)) == audio_hash(copy) == expected
    assert len(calls) == 2
    first.write_bytes(b"abd")
    os.utime(first, ns=(1, 1))
    assert audio_hash(first) != expected
    first.write_bytes(b"abc")
    os.utime(first, ns=(2, 2))  # same size, other time
    assert audio_hash(first) == expected
    with pytest.raises(AudioError, match="missing"):
        audio_hash(tmp_path / "missing.wav")


def test_threads_and_pickles_share_a_store(store: EmbeddingCache) -> None:
    copy = pickle.loads(pickle.dumps(store))
    threads = [threading.Thread(target=copy.put_many, args=(vectors(50, seed=seed),)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = {key: value for seed in range(4) for key, value in vectors(50, seed=seed).items()}
    assert_same(store.get_many(list(expected)), expected)


WRITER = """
import sys
import numpy as np
from uniwhisper.cache import EmbeddingCache
path, name, batches, size, width = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
store = EmbeddingCache(path)
print("ready", flush=True)
for batch in range(batches):
    store.put_many({f"{name}-{batch}-{i}": np.full(width, batch * size + i, np.float32) for i in range(size)})
    assert len(store.get_many([f"{name}-{batch}-{i}" for i in range(size)])) == size
"""


def start_writer(store: EmbeddingCache, name: str, batches: int, size: int, width: int) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(store.path), name, *map(str, (batches, size, width))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=environment)


def test_processes_write_at_once(store: EmbeddingCache) -> None:
    writers = [start_writer(store, name, 20, 10, 64) for name in ("a", "b")]
    outputs = [writer.communicate(timeout=60)[0] for writer in writers]
    assert [writer.returncode for writer in writers] == [0, 0], outputs
    keys = [f"{name}-{batch}-{i}" for name in ("a", "b") for batch in range(20) for i in range(10)]
    found = store.get_many(keys)
    assert len(found) == len(store) == 400
    assert all(np.all(found[f"a-{batch}-{i}"] == batch * 10 + i) for batch in range(20) for i in range(10))


@pytest.mark.parametrize("delay_s", [0.05, 0.12, 0.3])
def test_a_killed_writer_leaves_whole_batches(store: EmbeddingCache, delay_s: float) -> None:
    writer = start_writer(store, "a", 100_000, 200, 500)
    assert writer.stdout is not None
    assert writer.stdout.readline() == "ready\n"
    while len(store) == 0:
        time.sleep(0.001)
    time.sleep(delay_s)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait(timeout=60) == -signal.SIGKILL
    writer.stdout.close()
    count = len(store)
    assert count % 200 == 0
    keys = [f"a-{batch}-{i}" for batch in range(count // 200) for i in range(200)]
    assert len(store.get_many(keys)) == count
    store.put_many({"after": np.ones(3, np.float32)})
    assert len(store) == count + 1
    with sqlite3.connect(store.path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_file_that_is_no_store_raises_and_can_be_cleared(store: EmbeddingCache) -> None:
    store.path.parent.mkdir()
    store.path.write_bytes(b"certainly not a database" * 100)
    for action in (lambda: store.get_many(["a"]), lambda: store.put_many(vectors(1)), lambda: len(store)):
        with pytest.raises(UniWhisperError, match=r"cache\.sqlite.*clear\(\)"):
            action()
    assert store.clear() == 2400
    store.put_many(vectors(1))
    assert len(store) == 1


def test_damage_inside_a_blob_is_noticed(store: EmbeddingCache) -> None:
    store.put_many({"a": np.full(500, 3.0, np.float32), "b": np.zeros(3, np.float32)})
    content = store.path.read_bytes()
    at = content.index(np.full(400, 3.0, np.float32).tobytes()) + 200
    store.path.write_bytes(content[:at] + b"\xff" + content[at + 1 :])
    with pytest.raises(UniWhisperError, match="wrong bytes under key a"):
        store.get_many(["a", "b"])


def test_damaged_pages_raise(store: EmbeddingCache) -> None:
    store.put_many(vectors(200, width=200))
    content = store.path.read_bytes()
    store.path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(UniWhisperError, match=r"clear\(\)"):
        store.get_many(list(vectors(200)))


def test_another_schema_is_refused(store: EmbeddingCache) -> None:
    store.put_many(vectors(1))
    with sqlite3.connect(store.path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(UniWhisperError, match="found version 99"):
        store.get_many(["0-0"])


def test_a_path_that_cannot_be_opened_raises(tmp_path: Path) -> None:
    store = EmbeddingCache(tmp_path)  # a directory
    with pytest.raises(UniWhisperError, match="expected a usable embedding cache"):
        store.get_many(["a"])
