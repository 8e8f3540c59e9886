from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from uniwhisper import identifiers
from uniwhisper.dedup.identifying import Identifiers, read_blacklist, shipped_blacklists
from uniwhisper.errors import DedupError, ManifestError
from uniwhisper.types import Clip

from .corpora import clip, named


def a_clip(name: str, *upstream_ids: str, source: str = "mine") -> Clip:
    return named(clip(source, name, Path(f"/data/{source}/{name}.wav"), duration_s=1.0), *upstream_ids)


@pytest.mark.parametrize(
    ("train", "kept"),
    [
        # (training corpus, identifier), (evaluation corpus, identifier): the overlaps that are known to exist
        (("libri_adhoc40", identifiers.librispeech("60-121082-3")), ("librispeech", "librispeech:60-121082-0003")),
        (("urban_sed", identifiers.freesound(518)), ("urbansound8k", identifiers.freesound("00518"))),
        (("wavcaps", identifiers.freesound(137)), ("esc50", "freesound:137")),
        (("clotho", identifiers.freesound(64760)), ("fsd50k", identifiers.freesound("64760"))),
        (("laion_audio", identifiers.freesound(1)), ("fsdkaggle2018", identifiers.freesound(1))),
        (("wavcaps", identifiers.freesound(9)), ("vocal_imitation", identifiers.freesound(9))),
        (("audioset", "youtube:-6p32k2WUCs@0-10"), ("desed", "youtube:-6p32k2WUCs@5-15")),
        (("wavcaps", "youtube:-6p32k2WUCs"), ("desed", "youtube:-6p32k2WUCs@0-10")),
        (("vggsound", "youtube:-6p32k2WUCs@30-40"), ("voxceleb1", "youtube:-6p32k2WUCs")),
        (("mtg_jamendo", identifiers.jamendo("track_0000214")), ("song_describer", identifiers.jamendo(214))),
        (("mine", identifiers.fma("000140")), ("fma_small", identifiers.fma(140))),
        (("libri_adhoc40", identifiers.librispeech("61-70968-0")), ("libricount", "librispeech_speaker:61")),
    ],
)
def test_corpora_meet_by_the_recordings_that_they_share(train: tuple[str, str], kept: tuple[str, str]) -> None:
    known = Identifiers([a_clip("other", "freesound:4"), a_clip("kept", kept[1], source=kept[0])])
    pair = known.twin_of(a_clip("removed", "freesound:5", train[1], source=train[0]))
    assert pair is not None
    assert (pair.removed_source, pair.removed_id, pair.kept_source, pair.kept_id) == (
        train[0],
        "removed",
        kept[0],
        "kept",
    )
    assert (pair.stage, pair.score, pair.corpora) == ("identifier", 1.0, (kept[0],))
    assert pair.reason == f"both come from {kept[1].partition('@')[0]}"


@pytest.mark.parametrize(
    ("train", "kept"),
    [
        ("freesound:137", "jamendo:137"),
        ("freesound:137", "freesound:1370"),
        ("youtube:-6p32k2WUCs@0-10", "youtube:-6p32k2WUCs@10-20"),
        ("librispeech:60-121082-0003", "librispeech:60-121082-0004"),
    ],
)
def test_what_only_looks_alike_is_no_twin(train: str, kept: str) -> None:
    assert Identifiers([a_clip("kept", kept)]).twin_of(a_clip("removed", train)) is None


def test_a_clip_without_identifiers_is_never_found() -> None:
    assert Identifiers([a_clip("a")], [("freesound:1", "esc50")]).twin_of(a_clip("a")) is None


def test_the_same_clip_of_a_published_corpus_is_found_without_identifiers() -> None:
    known = Identifiers([a_clip("03-01-01", source="ravdess")])
    pair = known.twin_of(a_clip("03-01-01", source="ravdess"))
    assert pair is not None
    assert pair.reason == "both are 03-01-01 of ravdess"
    assert known.twin_of(a_clip("03-01-02", source="ravdess")) is None
    assert known.twin_of(a_clip("03-01-01", source="crema_d")) is None


@pytest.mark.parametrize("source", ["table", "folder", "webdataset", "my_clips"])
def test_equal_names_in_tables_of_ones_own_prove_nothing(source: str) -> None:
    assert Identifiers([a_clip("001.wav", source=source)]).twin_of(a_clip("001.wav", source=source)) is None


def test_the_very_same_clip_on_both_sides_is_found() -> None:
    both = a_clip("a", "freesound:7")
    assert Identifiers([both]).twin_of(both) is not None


def test_clips_come_before_blacklists_and_all_corpora_are_named() -> None:
    known = Identifiers(
        [a_clip("x", "freesound:2", source="fsd50k"), a_clip("y", "freesound:2", source="desed")],
        [("freesound:1", "esc50"), ("freesound:2", "esc50")],
    )
    pair = known.twin_of(a_clip("removed", "freesound:1", "freesound:2"))
    assert pair is not None
    assert (pair.kept_source, pair.kept_id) == ("fsd50k", "x")
    assert pair.corpora == ("desed", "esc50", "fsd50k")


def test_a_blacklist_alone_names_no_clip() -> None:
    pair = Identifiers([], [("freesound:1", "esc50")]).twin_of(a_clip("removed", "freesound:1"))
    assert pair is not None
    assert (pair.kept_id, pair.kept_path, pair.kept_source) == ("", "", "esc50")
    assert pair.reason == "freesound:1 is on the blacklist of esc50"
    assert pair.to_json() == {**pair.to_json(), "corpora": ["esc50"], "stage": "identifier"}
    assert type(pair).from_json(json.loads(json.dumps(pair.to_json()))) == pair


def test_malformed_identifiers_are_refused_with_their_clip() -> None:
    with pytest.raises(ManifestError, match=r"evaluation clip 'kept' of 'mine': .* found '137'"):
        Identifiers([a_clip("kept", "137")])
    with pytest.raises(ManifestError, match="training clip 'removed' of 'mine': "):
        Identifiers([]).twin_of(a_clip("removed", "nothing"))
    with pytest.raises(ManifestError, match="blacklist of esc50: "):
        Identifiers([], [("137", "esc50")])


def test_shipped_blacklists_name_every_recording() -> None:
    by_corpus = {name: shipped_blacklists([name]) for name in ("esc50", "urbansound8k")}
    assert {name: len(set(entries)) for name, entries in by_corpus.items()} == {"esc50": 1524, "urbansound8k": 1297}
    assert shipped_blacklists() == by_corpus["esc50"] + by_corpus["urbansound8k"]
    assert shipped_blacklists(["urbansound8k", "esc50"]) == shipped_blacklists()
    assert all(entry == (identifiers.freesound(entry[0].partition(":")[2]), "esc50") for entry in by_corpus["esc50"])


def test_a_blacklist_that_is_not_shipped() -> None:
    with pytest.raises(DedupError, match="expected blacklists out of esc50, urbansound8k; found clotho"):
        shipped_blacklists(["esc50", "clotho"])


@pytest.mark.shared
def test_shipped_blacklists_are_the_publishers(shared: Path) -> None:
    with (shared / "metadata" / "eval_UrbanSound8K" / "UrbanSound8K.csv").open(encoding="utf-8") as file:
        urban = {f"freesound:{row['fsID']}" for row in csv.DictReader(file)}
    with (shared / "data" / "eval_esc50.csv").open(encoding="utf-8") as file:
        esc = {f"freesound:{row['group']}" for row in csv.DictReader(file)}
    assert {text for text, _ in shipped_blacklists(["urbansound8k"])} == urban
    assert {text for text, _ in shipped_blacklists(["esc50"])} == esc


def test_blacklist_of_wavcaps(tmp_path: Path) -> None:
    path = tmp_path / "blacklist_exclude.json"
    path.write_text('{"AudioSet": ["Y-6p32k2WUCs.wav", "YYYYYYYYYYY"], "FreeSound": ["137", 38]}', encoding="utf-8")
    assert read_blacklist(path) == [
        ("youtube:-6p32k2WUCs", "blacklist_exclude"),
        ("youtube:YYYYYYYYYYY", "blacklist_exclude"),
        ("freesound:137", "blacklist_exclude"),
        ("freesound:38", "blacklist_exclude"),
    ]


def test_blacklists_as_tables(tmp_path: Path) -> None:
    numbers = tmp_path / "clotho.csv"
    numbers.write_bytes(b"\xef\xbb\xbfid,index\r\n117790,0\r\nYr1nicOVtvkQ.wav,1\r\n")
    assert read_blacklist(numbers) == [("freesound:117790", "clotho"), ("youtube:r1nicOVtvkQ", "clotho")]
    own = tmp_path / "own.csv"
    own.write_text("upstream_id,corpus\nyoutube:r1nicOVtvkQ@0-10,theirs\nfma:3,\n", encoding="utf-8")
    assert read_blacklist(own) == [("youtube:r1nicOVtvkQ@0-10", "theirs"), ("fma:3", "own")]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"index,sound\n0,1\n", r"a.csv:1: expected the column upstream_id or id, found index, sound"),
        ("a.csv", b"", r"a.csv:1: .* found nothing"),
        ("a.csv", b"id\n", r"a.csv: expected a blacklist with at least one identifier"),
        ("a.csv", b"id\n12\nabc\n", r"a.csv:3: .*'abc'"),
        ("a.csv", b"upstream_id\n12\n", r"a.csv:2: expected an identifier like freesound:123, found '12'"),
        ("a.csv", b"corpus,id\nx\n", r"a.csv:2: .*''"),
        ("a.csv", b"id\n\xff\n", r"expected a blacklist \(CSV or JSON in UTF-8\) at .*a.csv"),
        ("a.json", b'{"FreeSound": [1,', r"a.json:1: expected JSON"),
        ("a.json", b"[1]", r"a.json: expected an object with lists of ids by AudioSet, FreeSound, found list"),
        ("a.json", b'{"BBC": ["1"]}', r"found BBC"),
        ("a.json", b'{"FreeSound": "137"}', r"a.json: expected a list of ids of FreeSound, found str"),
        ("a.json", b'{"FreeSound": [137, "x"]}', r"a.json: FreeSound\[1\]: .*'x'"),
        ("a.json", b'{"AudioSet": ["137"]}', r"a.json: AudioSet\[0\]: expected a YouTube id"),
        ("a.json", b'{"AudioSet": []}', r"a.json: expected a blacklist with at least one identifier"),
    ],
)
def test_what_is_no_blacklist(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DedupError, match=message):
        read_blacklist(path)


def test_a_missing_blacklist(tmp_path: Path) -> None:
    with pytest.raises(DedupError, match=r"at .*none.csv, found"):
        read_blacklist(tmp_path / "none.csv")


@pytest.mark.shared
def test_the_list_of_clotho_in_wavcaps_can_be_read(shared: Path) -> None:
    path = shared / "metadata" / "WavCaps" / "blacklist_clotho.full.v2.csv"
    rows = path.read_text(encoding="utf-8").split()[1:]
    found = read_blacklist(path)
    assert [text for text, _ in found] == [f"freesound:{row.partition(',')[2]}" for row in rows]
    assert found[0] == ("freesound:117790", "blacklist_clotho.full.v2")
