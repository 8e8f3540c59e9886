"""Planted copies are found in their place, sounds that are not there are not, and brute force finds no more."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import soxr

from dedup.sounds import KINDS, RATE, all_sounds, noise, note, notes, scaled, stored, voice, with_noise
from uniwhisper.dedup import index as module
from uniwhisper.dedup.fingerprint import FRAME_SPAN_S, INDEX_HOP_MS, NUM_WEAK_BITS, fingerprint, fingerprint_query
from uniwhisper.dedup.index import FingerprintIndex, Match, confirm
from uniwhisper.errors import AudioError, DedupError

SOUNDS = all_sounds(each=6)


@pytest.fixture(scope="module")
def index():
    return FingerprintIndex.build((name, fingerprint(wave)) for name, wave in SOUNDS.items())


def search(index, wave, sounds=SOUNDS):
    return index.search(fingerprint_query(wave), lambda: wave, lambda key: sounds[key])


COPIES = {
    "same": (lambda wave: wave, 0.0),
    "mp3": (lambda wave: stored(wave, "MP3"), 0.0),
    "opus": (lambda wave: stored(wave, "OGG", "OPUS", 48_000), 0.0),
    "8 kHz": (lambda wave: soxr.resample(soxr.resample(wave, RATE, 8000), 8000, RATE).astype(np.float32), 0.0),
    "quieter": (lambda wave: np.rint(wave / 4 * 32_768).astype(np.float32) / 32_768, 0.0),
    "louder, clipped": (lambda wave: np.clip(wave * 4, -1, 1), 0.0),
    "shifted": (lambda wave: np.concatenate([np.zeros(3333, np.float32), wave]), -3333 / RATE),
    "crop 1 s": (lambda wave: wave[8765 : 8765 + RATE], 8765 / RATE),
    "crop 1.5 s": (lambda wave: wave[4321 : 4321 + 24_000], 4321 / RATE),
    "crop 2 s": (lambda wave: wave[15_991 : 15_991 + 2 * RATE], 15_991 / RATE),
    "noisy": (lambda wave: with_noise(wave, 15), 0.0),
}


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("kind", KINDS)
def test_copies_are_found_in_their_place_and_nothing_else(index, kind, copy):
    make, start_s = COPIES[copy]
    for seed in range(4):
        name = f"{kind}-{seed}"
        found = search(index, make(SOUNDS[name]))
        assert [match.key for match in found] == [name]
        match = found[0]
        assert match.is_confirmed
        assert match.reference_start_s - match.query_start_s == pytest.approx(start_s, abs=0.001)
        assert match.overlap_s <= 3.0 + 0.3
        assert match.ber < 0.3


def test_sounds_that_are_not_there_are_not_found(index):
    for make in KINDS.values():
        for seed in range(200, 208):
            assert search(index, make(seed)) == []


def best_by_brute_force(prints, reference):
    """Return the largest support over all offsets on the grid of 4 ms."""
    strong = prints.strong
    best = 0.0
    first = -len(prints.words) * prints.hop_ms
    for offset in range(first - first % 4, len(reference.words) * INDEX_HOP_MS, 4):
        total = 0.0
        for frame in range(len(prints.words)):
            at = (frame * prints.hop_ms + offset + INDEX_HOP_MS // 2) // INDEX_HOP_MS
            if not 0 <= at < len(reference.words):
                continue
            if prints.informative[frame] and reference.informative[at]:
                differ = int((prints.words[frame] ^ reference.words[at]) & strong[frame]).bit_count()
                total = max(0.0, total + (32 - NUM_WEAK_BITS) * np.log(1.7) - differ * np.log(0.85 / 0.15))
            best = max(best, total)
    return best * prints.hop_ms / 36


def test_brute_force_finds_no_better_alignment():
    references = {name: fingerprint(SOUNDS[name][: 3 * RATE // 2]) for name in ("voice-0", "noise-1", "notes-2")}
    index = FingerprintIndex.build(references.items())
    queries = {
        "voice-0": with_noise(SOUNDS["voice-0"][5000 : 5000 + RATE], 15),
        "noise-1": stored(SOUNDS["noise-1"][100 : 100 + RATE], "MP3"),
        "notes-2": SOUNDS["notes-2"][7003 : 7003 + RATE],
    }
    for name, wave in queries.items():
        prints = fingerprint_query(wave)
        found = {match.key: match.support for match in index.query(prints, min_support=0.1)}
        for key, reference in references.items():
            best = best_by_brute_force(prints, reference)
            assert found.get(key, 0.0) <= best + 1e-6
            if key == name:
                assert found[key] >= 0.95 * best, "one alignment of every 16 ms is tried"
                assert best > 60


def test_the_common_stretch_is_found(index):
    wave = np.concatenate([voice(301, 2.0), SOUNDS["notes-4"][16_000:40_000], noise(302, 2.0)])
    (match,) = search(index, wave)
    assert match.key == "notes-4"
    assert match.query_start_s == pytest.approx(2.0, abs=FRAME_SPAN_S)
    assert match.overlap_s == pytest.approx(1.5, abs=2 * FRAME_SPAN_S)
    assert match.reference_start_s - match.query_start_s == pytest.approx(1.0 - 2.0, abs=0.001)


def test_several_clips_in_a_long_recording(index):
    parts = [voice(310, 40.0), SOUNDS["voice-2"], noise(311, 45.0), SOUNDS["noise-3"], notes(312, 5.0)]
    found = {match.key: match for match in search(index, np.concatenate(parts))}
    assert set(found) == {"voice-2", "noise-3"}
    for name, begins_s in (("voice-2", 40.0), ("noise-3", 88.0)):
        match = found[name]
        assert match.query_start_s - match.reference_start_s == pytest.approx(begins_s, abs=0.001)
        assert match.overlap_s == pytest.approx(3.0, abs=0.4)


def test_block_sizes_do_not_show(index, monkeypatch):
    prints = fingerprint_query(np.concatenate([SOUNDS["voice-2"], noise(320, 5.0), SOUNDS["notes-1"]]))
    whole = index.query(prints, min_support=5.0)
    assert len(whole) >= 2
    monkeypatch.setattr(module, "_QUERY_BLOCK", 7)
    monkeypatch.setattr(module, "_CELLS", 300)
    assert index.query(prints, min_support=5.0) == whole


def test_silence_is_not_compared():
    wave = np.concatenate([SOUNDS["voice-0"], np.zeros(3 * RATE, np.float32), SOUNDS["noise-0"]])
    prints = fingerprint_query(wave)
    (match,) = FingerprintIndex.build([("both", fingerprint(wave))]).query(prints)
    assert match.overlap_s > 8.5
    assert match.num_frames <= prints.num_informative
    assert prints.num_informative < 0.75 * len(prints.words)


def test_proposals_come_best_first_and_once(index):
    for name, wave in SOUNDS.items():
        found = index.query(fingerprint_query(wave), min_support=1.0)
        assert found[0].key == name
        supports = [match.support for match in found]
        assert supports == sorted(supports, reverse=True)
        assert len({match.key for match in found}) == len(found)


def test_notes_of_one_pitch_are_proposed_but_not_confirmed():
    rng = np.random.default_rng(8)
    strings = {name: scaled(note(220.0, 3 * RATE, rng) + 0.001 * rng.standard_normal(3 * RATE)) for name in "abcd"}
    index = FingerprintIndex.build((name, fingerprint(wave)) for name, wave in strings.items())
    proposed = 0
    for name, wave in strings.items():
        proposed += len(index.query(fingerprint_query(wave), min_support=10.0)) - 1
        assert [match.key for match in search(index, stored(wave, "MP3"), strings)] == [name]
    assert proposed > 0


def test_waves_are_asked_for_only_where_something_is_proposed(index):
    def never(*_):
        raise AssertionError("nobody has to listen")

    assert index.search(fingerprint_query(noise(330)), never, never) == []
    asked = []
    wave = SOUNDS["voice-1"]
    index.search(fingerprint_query(wave), lambda: wave, lambda key: asked.append(key) or SOUNDS[key])
    assert asked == ["voice-1"]


@pytest.mark.parametrize("wave", [np.zeros(0, np.float32), np.zeros(3 * RATE, np.float32), SOUNDS["voice-0"][:3000]])
def test_what_has_no_words_finds_nothing_and_is_never_found(index, wave):
    assert index.query(fingerprint_query(wave)) == []
    with_it = FingerprintIndex.build([("silent", fingerprint(wave)), ("voice", fingerprint(SOUNDS["voice-0"]))])
    assert len(with_it) == 2
    assert [match.key for match in with_it.query(fingerprint_query(SOUNDS["voice-0"]))] == ["voice"]
    alone = FingerprintIndex.build([("silent", fingerprint(wave))])
    assert alone.num_words == 0
    assert alone.query(fingerprint_query(SOUNDS["voice-0"])) == []


def test_an_empty_index_finds_nothing(tmp_path):
    empty = FingerprintIndex.build([])
    assert len(empty) == 0
    assert empty.query(fingerprint_query(SOUNDS["voice-0"])) == []
    empty.save(tmp_path / "empty.npz")
    assert len(FingerprintIndex.load(tmp_path / "empty.npz")) == 0


def test_words_that_occur_everywhere_are_not_followed(monkeypatch):
    loop = np.tile(SOUNDS["noise-0"][: round(0.144 * RATE)], 20)  # repeats with the hop: few words, many times each
    many = FingerprintIndex.build([("loop", fingerprint(loop)), ("voice", fingerprint(SOUNDS["voice-3"]))])
    assert many.query(fingerprint_query(SOUNDS["voice-3"]))
    monkeypatch.setattr(module, "_MAX_PLACES", 0)
    assert many.query(fingerprint_query(SOUNDS["voice-3"])) == []


def test_saved_and_loaded_it_is_the_same(index, tmp_path):
    index.save(tmp_path / "index.npz")
    loaded = FingerprintIndex.load(tmp_path / "index.npz")
    assert loaded.keys == index.keys
    assert (len(loaded), loaded.num_words, loaded.num_bytes) == (len(index), index.num_words, index.num_bytes)
    for name in ("voice-5", "noise-5", "notes-5"):
        prints = fingerprint_query(with_noise(SOUNDS[name], 12))
        assert loaded.query(prints, min_support=1.0) == index.query(prints, min_support=1.0)
    loaded.save(tmp_path / "again.npz")
    with np.load(tmp_path / "index.npz") as one, np.load(tmp_path / "again.npz") as other:
        assert set(one) == set(other)
        assert all((one[name] == other[name]).all() for name in one)


def test_names_keep_their_type(tmp_path):
    FingerprintIndex.build([(7, fingerprint(SOUNDS["voice-0"])), ("7", fingerprint(SOUNDS["noise-0"]))]).save(
        tmp_path / "i"
    )
    assert FingerprintIndex.load(tmp_path / "i").keys == [7, "7"]


def test_what_is_no_index_is_refused(index, tmp_path):
    with pytest.raises(DedupError, match="Build it again"):
        FingerprintIndex.load(tmp_path / "missing.npz")
    path = tmp_path / "index.npz"
    index.save(path)
    whole = path.read_bytes()
    for damaged in (b"", b"PK", whole[: len(whole) // 2], whole[:-100], b"\x00" * 100):
        path.write_bytes(damaged)
        with pytest.raises(DedupError, match=r"expected a fingerprint index at .*index\.npz"):
            FingerprintIndex.load(path)
    np.savez(tmp_path / "other.npz", words=np.zeros(3))
    with pytest.raises(DedupError):
        FingerprintIndex.load(tmp_path / "other.npz")


@pytest.mark.parametrize(
    "changed",
    [
        {"format": np.array(99)},
        {"keys": np.frombuffer(json.dumps(["a"]).encode(), np.uint8)},
        {"words": np.zeros(5, np.uint32)},
        {"words": np.array([object()] * 5, dtype=object)},
    ],
    ids=["format", "names", "words", "pickle"],
)
def test_parts_that_do_not_fit_are_refused(index, tmp_path, changed):
    index.save(tmp_path / "index.npz")
    with np.load(tmp_path / "index.npz") as file:
        parts = dict(file) | changed
    np.savez(tmp_path / "index.npz", **parts)
    with pytest.raises(DedupError):
        FingerprintIndex.load(tmp_path / "index.npz")


def test_names_are_unique():
    prints = fingerprint(SOUNDS["voice-0"])
    with pytest.raises(DedupError, match="'a' twice"):
        FingerprintIndex.build([("a", prints), ("b", prints), ("a", prints)])


def test_indexed_fingerprints_have_one_hop():
    with pytest.raises(DedupError, match="every 16 ms, found 36 ms"):
        FingerprintIndex.build([("a", fingerprint(SOUNDS["voice-0"], hop_ms=36))])


MATCH = Match(
    key="a",
    query_start_s=0.0,
    reference_start_s=0.0,
    overlap_s=2.0,
    ber=0.1,
    num_frames=40,
    support=100.0,
    evidence=15.0,
    share=0.3,
)


@pytest.mark.parametrize(
    ("changed", "confirmed"),
    [
        ({}, True),
        ({"share": 0.1}, True),
        ({"evidence": 14.9}, False),
        ({"evidence": None, "share": None}, False),
        ({"evidence": 5.0, "support": 200.0}, True),
        ({"evidence": 5.0, "support": 199.0}, False),
        ({"evidence": 5.0, "support": 200.0, "share": 0.29}, False),
        ({"evidence": 4.9, "support": 200.0}, False),
        ({"evidence": -5.0, "support": 300.0, "ber": 0.03}, True),
        ({"evidence": None, "share": None, "support": 300.0, "ber": 0.03}, True),
        ({"evidence": -5.0, "support": 300.0, "ber": 0.04}, False),
        ({"evidence": -5.0, "support": 299.0, "ber": 0.0}, False),
    ],
)
def test_what_is_confirmed(changed, confirmed):
    assert dataclasses.replace(MATCH, **changed).is_confirmed is confirmed


def test_listening_refuses_broken_waves():
    wave = SOUNDS["voice-0"].copy()
    wave[20_000] = np.inf
    with pytest.raises(AudioError):
        confirm(MATCH, wave, SOUNDS["voice-0"])
