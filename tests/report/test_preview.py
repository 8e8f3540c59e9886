from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from tiny import tone
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.errors import ManifestError, SourceError
from uniwhisper.report.preview import write_preview
from uniwhisper.sources import list_sources

from .test_browser import open_page
from .test_page import HOSTILE, Strict

FIXTURES = Path(__file__).parents[1] / "fixtures"
WITH_FIXTURE = [name for name in list_sources() if (FIXTURES / name / "root").is_dir()]


def players(page: Strict) -> list[dict[str, str | None]]:
    return [attributes for tag, attributes in page.tags if tag == "audio"]


def sounds(page: Strict) -> list[np.ndarray]:
    """Return the sounds in the page; soundfile decodes Opus at its own rate."""
    found = []
    for attributes in players(page):
        source = attributes["src"] or ""
        assert source.startswith("data:audio/ogg;base64,")
        wave, sample_rate = soundfile.read(io.BytesIO(base64.b64decode(source.partition(",")[2])))
        found.append(soxr.resample(wave, sample_rate, SAMPLE_RATE))
    return found


def waves(page: Strict) -> list[float]:
    """Return the durations of the sounds in the page."""
    return [len(wave) / SAMPLE_RATE for wave in sounds(page)]


def check_safe(text: str, page: Strict) -> None:
    """Fail unless the page runs nothing and loads nothing."""
    assert page.scripts == []
    assert {tag for tag, _ in page.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "header", "main", "section", "footer", "article", "div"),
        *("h1", "h2", "h3", "p", "dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td", "audio", "ul", "li"),
        *("details", "summary"),
    }
    for tag, attributes in page.tags:
        assert tag != "audio" or set(attributes) == {"controls", "preload", "aria-label", "src"}
        assert not any(name.startswith("on") for name in attributes)
        assert "href" not in attributes
        assert tag == "audio" or "src" not in attributes
    assert not re.search(r"@import|url\(", text)
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; media-src data:"


def a_table(folder: Path, rows: list[str], header: str = "path,label,split") -> Path:
    for name in {row.partition(",")[0].strip('"') for row in rows}:
        soundfile.write(folder / name, tone(0.4, 300), SAMPLE_RATE)
    (folder / "clips.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder / "clips.csv"


@pytest.mark.parametrize("name", WITH_FIXTURE)
def test_every_source_has_a_page(name: str, tmp_path: Path) -> None:
    root = FIXTURES / name / "root"
    shown = write_preview(tmp_path / "page.html", name, root / "clips.csv" if name == "table" else root)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Strict(text)
    check_safe(text, page)
    cards = [attributes for tag, attributes in page.tags if tag == "article"]
    assert shown.page == tmp_path / "page.html"
    assert 0 < len(cards) == shown.num_shown == min(12, shown.num_clips)
    assert "class" in cards[0]
    assert waves(page)
    assert sum(tag == "div" and attributes.get("class") == "turn" for tag, attributes in page.tags) >= len(cards) - 1


def test_a_card_shows_sound_annotation_prompt_and_answer(tmp_path: Path) -> None:
    table = a_table(tmp_path, ["a.wav,dog,train"])
    write_preview(tmp_path / "page.html", "table", table)
    page = Strict((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert waves(page) == [pytest.approx(0.4, abs=0.03)]
    assert players(page)[0]["aria-label"] == "a.wav"
    for text in ("a.wav", "split", "train", "duration", "0.40 s", "labels", "dog (of clips)", "classification"):
        assert text in page.texts
    answers = [page.texts[place] for place, text in enumerate(page.texts) if text == "dog"]
    assert answers
    assert any("dog" not in text and text.startswith("[") for text in page.texts)


def test_every_attribute_is_asked_for(tmp_path: Path) -> None:
    header = "path,kind,text,domain,language"
    rows = ["a.wav,tag,gender: male; emotion: calm,speech,de", "a.wav,asr,Guten Tag,speech,de"]
    table = a_table(tmp_path, [*rows, "a.wav,translation,Good day,speech,de"], header=header)
    write_preview(tmp_path / "page.html", "table", table)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    answers = re.findall(r'<p class="answer">(.*?)</p>', text)
    assert answers == ["Guten Tag", "Good day", "calm", "male", "German"]
    assert "<h1>table: clips.csv</h1>" in text


def test_clips_come_from_all_splits_and_the_seed_picks_them(tmp_path: Path) -> None:
    table = a_table(tmp_path, [f"{number}.wav,dog,{('train', 'train', 'test')[number % 3]}" for number in range(30)])

    def ids(seed: int, num_clips: int = 6) -> list[str]:
        shown = write_preview(tmp_path / "page.html", "table", table, num_clips=num_clips, seed=seed)
        assert (shown.num_shown, shown.num_clips) == (num_clips, 30)
        return re.findall(r"<h3>(.*?)</h3>", (tmp_path / "page.html").read_text(encoding="utf-8"))

    first = ids(0)
    assert ids(0) == first != ids(1)
    assert sorted(int(name.removesuffix(".wav")) % 3 == 2 for name in first) == [False] * 3 + [True] * 3
    assert len(set(ids(0, 30))) == 30
    drawn = {int(name.removesuffix(".wav")) for seed in range(12) for name in ids(seed, 2)}
    assert min(drawn) < 10
    assert max(drawn) > 20  # late rows are drawn as well as early ones


def test_texts_are_escaped(tmp_path: Path) -> None:
    hostile = HOSTILE.replace("/", "|")
    quoted = hostile.replace('"', '""')
    for number in range(2):
        soundfile.write(tmp_path / f"{hostile}{number}.wav", tone(0.4, 300), SAMPLE_RATE)
    rows = ["path,caption,speaker,license"]
    rows += [f'"{quoted}{number}.wav","{quoted}","{quoted}","{quoted}"' for number in range(3)]
    (tmp_path / "clips.csv").write_text("\n".join(rows), encoding="utf-8")
    write_preview(tmp_path / "page.html", "table", tmp_path / "clips.csv")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Strict(text)
    check_safe(text, page)
    assert "<script" not in text
    assert {hostile, f"{hostile}0.wav"} <= set(page.texts)
    assert "Read from annotations alone" in page.texts
    assert len(players(page)) == 2


def test_a_clip_without_sound_says_so(tmp_path: Path) -> None:
    root = tmp_path / "esc50"
    shutil.copytree(FIXTURES / "esc50" / "root", root)
    shutil.rmtree(root / "audio")
    write_preview(tmp_path / "page.html", "esc50", root)
    page = Strict((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert players(page) == []
    assert sum(text.startswith("No sound: ") for text in page.texts) == 5


def test_a_long_clip_plays_its_beginning(tmp_path: Path) -> None:
    table = a_table(tmp_path, ["a.wav,dog,train"])
    soundfile.write(tmp_path / "a.wav", tone(31, 300), SAMPLE_RATE)
    write_preview(tmp_path / "page.html", "table", table)
    page = Strict((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert waves(page) == [pytest.approx(30, abs=0.03)]
    assert "The first 30 s." in page.texts


def test_long_texts_are_cut(tmp_path: Path) -> None:
    table = a_table(tmp_path, [f'a.wav,"{"word " * 400}"'], header="path,transcript")
    write_preview(tmp_path / "page.html", "table", table)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "(1,399 more characters)" in text
    assert "word " * 130 not in text


def test_annotations_alone_are_shown_with_the_reason(tmp_path: Path) -> None:
    table = a_table(tmp_path, ["a.wav,dog,train", "b.wav,cat,train"])
    (tmp_path / "a.wav").unlink()
    write_preview(tmp_path / "page.html", "table", table)
    page = Strict((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert "Read from annotations alone" in page.texts
    assert any("expected an audio file at" in text for text in page.texts)
    assert len(players(page)) == 1


def test_what_was_left_out_is_counted(tmp_path: Path) -> None:
    shown = write_preview(tmp_path / "page.html", "wavcaps", FIXTURES / "wavcaps" / "root")
    assert shown.num_dropped == 1
    page = Strict((tmp_path / "page.html").read_text(encoding="utf-8"))
    assert any(text.endswith("the source left out 1.") for text in page.texts)
    place = page.texts.index("no caption")
    assert page.texts[place : place + 3] == ["no caption", "1", "clips left out"]


def test_nothing_to_show(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"folder: expected clips in .*, found none \(0 left out"):
        write_preview(tmp_path / "page.html", "folder", tmp_path)
    with pytest.raises(SourceError, match="found 'esc51'"):
        write_preview(tmp_path / "page.html", "esc51", tmp_path)
    (tmp_path / "clips.csv").write_text("path,label\n", encoding="utf-8")
    with pytest.raises(ManifestError, match="expected rows below the header"):
        write_preview(tmp_path / "page.html", "table", tmp_path / "clips.csv")
    assert not (tmp_path / "page.html").exists()


@pytest.mark.slow
def test_a_browser_has_nothing_to_say(tmp_path: Path) -> None:
    write_preview(tmp_path / "page.html", "esc50", FIXTURES / "esc50" / "root")
    document, console = open_page(tmp_path / "page.html", tmp_path / "profile")
    assert console == []
    assert document.count("<audio") == 4
