from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tiny import tone
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.dedup.leakage import LeakageConfig, find_leakage
from uniwhisper.errors import ManifestError
from uniwhisper.files import read_json, write_json, write_jsonl
from uniwhisper.report.leakage import MAX_PAIRS, write_leakage
from uniwhisper.types import Annotation, Clip

from .test_browser import open_page
from .test_page import HOSTILE, Strict
from .test_preview import check_safe, players, sounds, waves

STAGES = ("identifier", "hash", "fingerprint")


def a_clip(folder: Path, source: str, name: str, *, seconds: float = 0.5, **fields: Any) -> Clip:
    path = folder / f"{zlib.crc32(repr((source, name)).encode())}.wav"
    soundfile.write(path, tone(seconds, 300, seed=len(name)), SAMPLE_RATE)
    return Clip(
        id=name,
        source=source,
        path=str(path),
        split="train",
        duration_s=seconds,
        domain="sound",
        annotation=Annotation(labels=("bell",)),
        **fields,
    )


def a_pair(removed: Clip, kept: Clip | None, stage: str, **fields: Any) -> dict[str, Any]:
    return {
        "removed_id": removed.id,
        "removed_source": removed.source,
        "removed_path": removed.path,
        "kept_id": kept.id if kept else "",
        "kept_source": kept.source if kept else "esc50",
        "kept_path": kept.path if kept else "",
        "stage": stage,
        "reason": "both come from fma:1",
        "score": 1.0,
        "corpora": [kept.source if kept else "esc50"],
        "removed_at_s": 0.0,
        "kept_at_s": 0.0,
        "overlap_s": 0.0,
        "evidence": 0.0,
        "agreement": 0.0,
        **fields,
    }


def a_search(folder: Path, pairs: Sequence[dict[str, Any]], unheard: Sequence[dict[str, Any]] = ()) -> Path:
    """Write what a search of 1,000 training clips would have written."""
    removed = {stage: sum(pair["stage"] == stage for pair in pairs) for stage in STAGES}
    by_corpus: dict[str, dict[str, int]] = {}
    for pair in pairs:
        found = by_corpus.setdefault(pair["removed_source"], {})
        for corpus in pair["corpora"]:
            found[corpus] = found.get(corpus, 0) + 1
    for stage in STAGES:
        write_jsonl(folder / f"{stage}.jsonl", (pair for pair in pairs if pair["stage"] == stage))
    write_jsonl(folder / "unheard.jsonl", unheard)
    summary = {
        "num_train": 1000,
        "num_eval": 50,
        "num_left": 1000 - len(pairs),
        "removed": removed,
        "by_corpus": by_corpus,
        "num_identified": {"train": 7, "eval": 50},
        "num_unheard": {side: sum(row["side"] == side for row in unheard) for side in ("train", "eval")},
        "num_unreadable": sum(row["unreadable"] for row in unheard),
        "stages": list(STAGES),
    }
    write_json(folder / "summary.json", summary)
    return folder


def page_of(folder: Path, train: Sequence[Clip], kept: Sequence[Clip]) -> tuple[str, Strict]:
    out = write_leakage(folder / "leakage.html", folder, train, kept)
    text = out.read_text(encoding="utf-8")
    page = Strict(text)
    check_safe(text, page)
    return text, page


def cells(page: Strict) -> list[str]:
    return [text for text in page.texts if text.strip()]


def test_a_real_search(tmp_path: Path) -> None:
    train = [a_clip(tmp_path, "train", name, upstream_ids=("fma:1",) * (name == "a")) for name in ("a", "bb", "ccc")]
    kept = [a_clip(tmp_path, "kept", "a", upstream_ids=("fma:1",)), a_clip(tmp_path, "kept", "xx", seconds=0.6)]
    kept[1] = replace(kept[1], path=train[1].path, duration_s=0.5)
    find_leakage(train, kept, tmp_path / "out", config=LeakageConfig(stages=("identifier", "hash")))
    _, page = page_of(tmp_path / "out", train, kept)
    assert "2 of 3 training clips are among the 2 evaluation clips, and were taken out." in page.texts
    assert len(players(page)) == 4
    assert "both come from fma:1" in page.texts
    place = page.texts.index("By fingerprint")
    assert page.texts[place + 1] == "not run"


def test_nothing_found(tmp_path: Path) -> None:
    _, page = page_of(a_search(tmp_path / "out", []), [], [])
    assert "None of the 1,000 training clips was found among the 50 evaluation clips." in page.texts
    assert "Nothing." in page.texts
    assert players(page) == []
    assert "Not judged by sound" in page.texts  # a tile
    assert page.texts.count("By hash") == 1  # in the table of stages, without a section of its own


def test_numbers_of_corpora_and_stages(tmp_path: Path) -> None:
    clips = [a_clip(tmp_path, source, name) for source, name in (("one", "a"), ("one", "b"), ("two", "c"))]
    kept = a_clip(tmp_path, "kept", "k")
    pairs = [
        a_pair(clips[0], kept, "identifier", corpora=["esc50", "kept"]),
        a_pair(clips[1], kept, "hash"),
        a_pair(clips[2], kept, "fingerprint", overlap_s=0.41, evidence=1234.5, score=0.876, agreement=0.81),
    ]
    _, page = page_of(a_search(tmp_path / "out", pairs), clips, [kept])
    place = page.texts.index("clips removed")
    assert cells(page)[cells(page).index("clips removed") + 1 :][:9] == [
        *("one", "esc50", "1"),
        *("one", "kept", "2"),
        *("two", "kept", "1"),
    ]
    assert place > 0
    assert (
        "7 of 1,000 training clips and 50 of 50 evaluation clips carry an identifier; only they can be found by it."
        in (page.texts)
    )
    assert "both come from fma:1; in esc50, kept" in page.texts
    assert (
        "both come from fma:1; 0.41 s in common; 88% of the sound, evidence 1,234; 81% of the fingerprint's bits"
        in (page.texts)
    )


def test_players_hold_the_common_sound(tmp_path: Path) -> None:
    long, short = a_clip(tmp_path, "train", "long", seconds=12.0), a_clip(tmp_path, "kept", "short", seconds=2.0)
    pairs = [
        a_pair(long, short, "fingerprint", removed_at_s=3.0, kept_at_s=0.5, overlap_s=1.5, evidence=90.0),
        a_pair(replace(long, id="whole"), short, "identifier"),
        a_pair(replace(long, id="edge"), short, "hash", removed_at_s=12.0, overlap_s=1.0),
    ]
    train = [long, replace(long, id="whole"), replace(long, id="edge")]
    _, page = page_of(a_search(tmp_path / "out", pairs), train, [short])
    expected = [8.0, 2.0, 0.1, 1.0, 1.5, 1.5]
    assert waves(page) == [pytest.approx(duration_s, abs=0.03) for duration_s in expected]
    assert "3.00 s" in page.texts


def test_players_of_spans_begin_within_the_span(tmp_path: Path) -> None:
    wave = np.concatenate([np.zeros(SAMPLE_RATE), tone(1.0, 300), np.zeros(SAMPLE_RATE), tone(1.0, 900)])
    soundfile.write(tmp_path / "long.wav", wave, SAMPLE_RATE)
    span = replace(a_clip(tmp_path, "train", "a"), path=str(tmp_path / "long.wav"), start_s=1.0, duration_s=3.0)
    pair = a_pair(span, span, "fingerprint", removed_at_s=0.0, kept_at_s=2.0, overlap_s=1.0, evidence=90.0)
    _, page = page_of(a_search(tmp_path / "out", [pair]), [span], [span])
    for wave, expected_hz in zip(sounds(page), (300, 900), strict=True):
        spectrum = np.abs(np.fft.rfft(wave))
        assert np.fft.rfftfreq(len(wave), 1 / SAMPLE_RATE)[spectrum.argmax()] == pytest.approx(expected_hz, rel=0.02)


def test_a_clip_of_the_same_name_on_the_other_side_is_another(tmp_path: Path) -> None:
    train, kept = a_clip(tmp_path, "mine", "a", seconds=0.5), a_clip(tmp_path, "mine", "a", seconds=0.5)
    kept = replace(kept, path=a_clip(tmp_path, "other", "b", seconds=1.5).path, duration_s=1.5)
    _, page = page_of(a_search(tmp_path / "out", [a_pair(train, kept, "hash")]), [train], [kept])
    assert waves(page) == [pytest.approx(0.5, abs=0.03), pytest.approx(1.5, abs=0.03)]


def test_a_blacklist_has_no_sound(tmp_path: Path) -> None:
    train = a_clip(tmp_path, "train", "a")
    _, page = page_of(a_search(tmp_path / "out", [a_pair(train, None, "identifier")]), [train], [])
    assert "Named by a blacklist; its audio is not here." in page.texts
    assert any("evaluation clips or on a blacklist, and were taken out." in text for text in page.texts)
    assert len(players(page)) == 1


def test_sound_that_is_gone(tmp_path: Path) -> None:
    train, kept = a_clip(tmp_path, "train", "a"), a_clip(tmp_path, "kept", "b")
    Path(kept.path).unlink()
    _, page = page_of(a_search(tmp_path / "out", [a_pair(train, kept, "hash")]), [train], [kept])
    assert any(text.startswith("No sound: ") for text in page.texts)
    assert len(players(page)) == 1


def test_pairs_are_spread_and_the_least_certain_come_first(tmp_path: Path) -> None:
    kept = a_clip(tmp_path, "kept", "k")
    common = a_clip(tmp_path, "many", "m")
    many = [replace(common, id=f"m{number:03d}") for number in range(100)]
    rare = replace(common, id="rare", source="rare")
    pairs = [a_pair(clip, kept, "fingerprint", evidence=1000.0 - number) for number, clip in enumerate(many)]
    pairs.append(a_pair(rare, kept, "fingerprint", evidence=5000.0))
    pairs += [a_pair(clip, kept, "hash") for clip in many[:5]]
    _, page = page_of(a_search(tmp_path / "out", pairs), [*many, rare], [kept])
    names = [attributes["aria-label"] for attributes in players(page)][::2]
    assert len(names) == MAX_PAIRS
    assert names[:5] == ["m000", "m001", "m002", "m003", "m004"]
    assert names[5:9] == ["m099", "rare", "m098", "m097"]
    assert any("55 of 101 pairs are shown." in text for text in page.texts)


def test_clips_that_could_not_be_judged(tmp_path: Path) -> None:
    rows = [
        {"id": f"{number}", "source": "train", "side": "train", "reason": "no fingerprint: silent", "unreadable": False}
        for number in range(30)
    ]
    rows.append({"id": "x", "source": "kept", "side": "eval", "reason": "broken: x", "unreadable": True})
    _, page = page_of(a_search(tmp_path / "out", [], rows), [], [])
    place = page.texts.index("train")
    assert page.texts[place : place + 4] == ["train", "train", "no fingerprint: silent", "30"]
    assert "and 11 more in unheard.jsonl" in page.texts


def test_texts_are_escaped(tmp_path: Path) -> None:
    train, kept = a_clip(tmp_path, HOSTILE, HOSTILE), a_clip(tmp_path, HOSTILE, f"{HOSTILE}2")
    pairs = [a_pair(train, kept, stage, reason=HOSTILE) for stage in STAGES]
    unheard = [{"id": HOSTILE, "source": HOSTILE, "side": "train", "reason": HOSTILE, "unreadable": False}]
    text, page = page_of(a_search(tmp_path / "out", pairs, unheard), [train], [kept])
    assert "<script" not in text
    assert HOSTILE in page.texts
    assert "b" not in {tag for tag, _ in page.tags}


def test_a_search_that_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"expected a JSON file at .*summary.json"):
        write_leakage(tmp_path / "leakage.html", tmp_path, [], [])


@pytest.mark.slow
def test_a_browser_has_nothing_to_say(tmp_path: Path) -> None:
    train, kept = a_clip(tmp_path, "train", "a"), a_clip(tmp_path, "kept", "b")
    folder = a_search(tmp_path / "out", [a_pair(train, kept, stage) for stage in STAGES])
    page = write_leakage(folder / "leakage.html", folder, [train], [kept])
    document, console = open_page(page, tmp_path / "profile")
    assert console == []
    assert document.count("<audio") == 6
    assert read_json(folder / "summary.json")["num_train"] == 1000
