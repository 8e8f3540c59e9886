"""Copies of real clips are found, and what merely sounds alike is not; with the reference pack only."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from dedup.sounds import RATE, stored
from uniwhisper import audio
from uniwhisper.dedup.fingerprint import fingerprint, fingerprint_query
from uniwhisper.dedup.index import FingerprintIndex

pytestmark = [pytest.mark.shared, pytest.mark.slow]

TABLES = ("eval_esc50", "eval_urbansound8k", "eval_ravdess", "eval_librispeech_asr", "eval_soundfont_notes")
PER_TABLE = 12


def paths_of(data: Path, table: str) -> list[str]:
    with (data / f"{table}.csv").open(encoding="utf-8", newline="") as rows:
        return sorted({row["path"] for row in csv.DictReader(rows)})


@pytest.fixture(scope="module")
def library() -> dict[str, np.ndarray]:
    """Return a few clips of every table by path."""
    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip(f"needs the reference pack's clips in {data}")
    chosen = {}
    for table in TABLES:
        paths = paths_of(data, table)
        chosen |= {path: audio.read(data / path) for path in paths[:: len(paths) // PER_TABLE]}
    return chosen


@pytest.fixture(scope="module")
def index(library: dict[str, np.ndarray]) -> FingerprintIndex:
    return FingerprintIndex.build((path, fingerprint(wave)) for path, wave in library.items())


def found(index, library, wave):
    return [match.key for match in index.search(fingerprint_query(wave), lambda: wave, library.__getitem__)]


COPIES = {
    "mp3": lambda wave, rng: stored(wave, "MP3"),
    "opus": lambda wave, rng: stored(wave, "OGG", "OPUS", 48_000),
    "quieter": lambda wave, rng: np.rint(wave / 4 * 32_768).astype(np.float32) / 32_768,
    "shifted": lambda wave, rng: np.concatenate([np.zeros(int(rng.integers(1, 8000)), np.float32), wave]),
}


@pytest.mark.parametrize("copy", COPIES)
def test_copies_of_real_clips_are_found(index, library, copy):
    rng = np.random.default_rng(1)
    missed, wrong = [], []
    for path, wave in library.items():
        keys = found(index, library, COPIES[copy](wave, rng))
        if path not in keys:
            missed.append(path)
        wrong += [(path, key) for key in keys if key != path]
    assert len(library) >= len(TABLES) * PER_TABLE
    assert len(missed) <= 1, missed
    assert not wrong


def test_two_seconds_are_enough(index, library):
    rng = np.random.default_rng(2)
    missed = []
    for path, wave in library.items():
        if len(wave) < 2.5 * RATE:
            continue
        start = int(rng.integers(0, len(wave) - 2 * RATE))
        crop = wave[start : start + 2 * RATE]
        if fingerprint_query(crop).is_usable and path not in found(index, library, crop):
            missed.append(path)
    assert not missed


def test_the_same_sentence_again_is_another_recording(shared):
    """RAVDESS actors say every sentence twice (the sixth number of the name), in eight emotions (the third)."""
    folder = shared / "data" / "audio" / "ravdess_speech"
    for actor in ("01", "08", "17", "24"):
        takes = {
            path.name: audio.read(path) for path in sorted(folder.glob(f"03-01-0[1-5]-01-0[12]-0[12]-{actor}.ogg"))
        }
        assert len(takes) == 20
        index = FingerprintIndex.build((name, fingerprint(wave)) for name, wave in takes.items())
        for name, wave in takes.items():
            assert found(index, takes, wave) == [name]


def test_true_leakage_is_found(shared):
    """Clips of UrbanSound8K that were cut from the recordings of ESC-50 clips, one of them at another place."""
    data = shared / "data"
    with (data / "leakage_truth.csv").open(encoding="utf-8", newline="") as rows:
        pairs = [(row["path"], row["esc50_clips"].split(";")[0]) for row in csv.DictReader(rows)]
    references = {path: audio.read(data / path) for path in sorted({other for _, other in pairs})}
    index = FingerprintIndex.build((path, fingerprint(wave)) for path, wave in references.items())
    hits = 0
    for path, _ in pairs:
        freesound_id = Path(path).stem.split("-")[0]
        keys = found(index, references, audio.read(data / path))
        assert all(Path(key).stem.split("-")[1] == freesound_id for key in keys), (path, keys)
        hits += bool(keys)
    assert hits >= 60
