from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tiny import tone
from uniwhisper import inputs
from uniwhisper import lint as module
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.errors import LayoutError, ManifestError
from uniwhisper.lint import LintReport, lint
from uniwhisper.sources import Context, SourceSpec, list_sources
from uniwhisper.types import Annotation, Clip, Event, Note

FIXTURES = Path(__file__).parent / "fixtures"
WITH_FIXTURE = [name for name in list_sources() if (FIXTURES / name / "root").is_dir()]

SPEC = SourceSpec(
    name="toy",
    version="1",
    homepage="https://example.org/",
    license="CC0-1.0",
    citation="nobody",
    domain="sound",
    families=("tagging", "audio_text_matching"),
    languages=(),
    splits=("train", "test"),
    description="A toy.",
)


class Toy:
    """A source of the clips and drops that a test puts into it, in a folder with audio."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.SPEC = SPEC
        self.clips: list[Clip] = []
        self.dropped: list[tuple[str, str]] = []

    def convert(self, root: Path, ctx: Context) -> Iterator[Clip]:
        ctx.rows[root / "toy.csv"] += len(self.clips) + len(self.dropped)
        for item in self.dropped:
            ctx.drop(*item)
        yield from self.clips

    def add(self, name: str, *, seconds: float = 0.5, **fields: Any) -> Path:
        """Add a clip with a file of so many seconds (0: no file) and return the file's path."""
        path = self.root / f"{name}.wav"
        if seconds:
            soundfile.write(path, tone(seconds, 300), SAMPLE_RATE)
        values: dict[str, Any] = {"split": "train", "annotation": Annotation(labels=("bell",)), **fields}
        self.clips.append(
            Clip(id=name, source="toy", path=str(path), **{"duration_s": 0.0, "domain": "sound", **values})
        )
        return path

    def lint(self, **options: Any) -> LintReport:
        return lint("toy", self.root, **options)

    def faults(self, **options: Any) -> dict[str, tuple[str, int, str]]:
        """Return what lint finds -> level, count, first example."""
        found = self.lint(**options).findings
        return {finding.what: (finding.level, finding.count, finding.examples[0]) for finding in found}


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A toy source with one good clip."""
    source = Toy(tmp_path)
    for place in (inputs, module):
        monkeypatch.setattr(place, "get_source", lambda name: source)
    source.add("good")
    return source


def test_a_good_corpus(toy: Toy) -> None:
    toy.add("better", seconds=1.5, split="test")
    report = toy.lint()
    assert report == LintReport(
        source="toy", rows={"toy.csv": 2}, num_clips=2, num_dropped=0, hours=pytest.approx(2 / 3600), findings=()
    )
    assert not report.failed


def test_missing_audio(toy: Toy) -> None:
    path = toy.add("gone", seconds=0)
    assert toy.faults() == {
        "audio missing": ("warning", 1, f"gone: nothing at {path}"),
        "too many clips are left out or cannot be heard": ("error", 1, "1 of 2 (50.0%), at most 0.0% may be"),
    }
    assert toy.lint().failed
    toy.SPEC = replace(SPEC, drop_tolerance=0.5)
    assert not toy.lint().failed
    assert toy.lint().hours == pytest.approx(0.5 / 3600)


def test_broken_audio(toy: Toy) -> None:
    toy.add("broken").write_bytes(b"RIFF nothing")
    level, count, example = toy.faults()["audio broken"]
    assert (level, count) == ("warning", 1)
    assert example.startswith("broken: ")
    assert "broken.wav" in example


def test_audio_shorter_than_annotated(toy: Toy) -> None:
    toy.add("short", duration_s=0.6)
    toy.add("late", duration_s=0.4, start_s=0.6)
    toy.add("rounded", duration_s=0.52)
    level, count, example = toy.faults()["audio shorter than annotated"]
    assert (level, count) == ("warning", 2)
    assert example == f"short: 0.50 s of 0.60 s in {toy.root / 'short.wav'}"


def test_samples_are_broken_where_the_header_is_not(toy: Toy) -> None:
    path = toy.root / "noisy.flac"
    toy.add("noisy", seconds=0)
    toy.clips[-1] = replace(toy.clips[-1], path=str(path))
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLE_RATE), SAMPLE_RATE)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 2000] = bytes(2000)
    path.write_bytes(data)
    assert toy.faults() == {}
    assert toy.faults(decode=True)["audio broken"][:2] == ("warning", 1)


def test_spans_and_members_of_tars(toy: Toy) -> None:
    toy.add("long", seconds=3.0)
    for number in range(3):
        toy.clips.append(replace(toy.clips[-1], id=f"span {number}", start_s=float(number), duration_s=1.0))
    container = toy.root / "a.tar"
    data = Path(toy.clips[0].path).read_bytes()
    container.write_bytes(b"x" * 512 + data)
    toy.clips.append(replace(toy.clips[0], id="member", path=str(container), offset_bytes=512, num_bytes=len(data)))
    for decode in (False, True):
        assert toy.faults(decode=decode) == {}
        assert toy.lint(decode=decode).hours == pytest.approx((0.5 + 3 + 3 * 1 + 0.5) / 3600)
    toy.clips.append(replace(toy.clips[-1], id="cut off", num_bytes=len(data) + 1))
    assert toy.faults()["audio broken"][2].startswith("cut off: ")


def test_annotations_that_cannot_be_rendered(toy: Toy) -> None:
    toy.add("semicolon", annotation=Annotation(labels=("a;b", "c")))
    found = {finding.what: finding for finding in toy.lint().findings}["the annotation cannot be rendered or read back"]
    assert (found.level, found.count) == ("error", 1)
    assert found.examples[0].startswith("semicolon: tagging: ")


def test_clips_about_which_nothing_can_be_asked(toy: Toy) -> None:
    toy.add("silence", annotation=Annotation(metadata={"title": "x"}))
    assert toy.faults() == {
        "nothing can be asked about it": ("warning", 1, "silence: it supports no task family"),
    }


def test_a_clip_without_audio_is_looked_at_too(toy: Toy) -> None:
    toy.add("gone", seconds=0, annotation=Annotation(labels=("a;b", "c")))
    assert toy.faults()["the annotation cannot be rendered or read back"][1] == 1


def test_malformed_identifiers(toy: Toy) -> None:
    toy.add("odd", upstream_ids=("freesound:1", "137"))
    assert toy.faults()["an upstream identifier is malformed"] == (
        "error",
        1,
        "odd: expected an identifier like freesound:123, found '137'",
    )


def test_times_outside_the_clip(toy: Toy) -> None:
    families = ("event_detection", "note_transcription", "tagging", "classification", "audio_text_matching")
    toy.SPEC = replace(SPEC, families=families)
    toy.add("late", annotation=Annotation(events=(Event(label="dog", onset_s=0.1, offset_s=1.2),)))
    toy.add("note", annotation=Annotation(notes=(Note(pitch=60, onset_s=0.0, offset_s=2.0),)))
    toy.add("rounded", annotation=Annotation(events=(Event(label="dog", onset_s=0.1, offset_s=0.9),)))
    level, count, example = toy.faults()["an event or note lies outside the clip"]
    assert (level, count) == ("warning", 2)
    assert example == "late: Event(label='dog', onset_s=0.1, offset_s=1.2) in a clip of 0.50 s"


def test_clips_that_are_too_long_and_cannot_be_cut(toy: Toy) -> None:
    toy.SPEC = replace(SPEC, families=("asr", "tagging", "audio_text_matching"))
    toy.add("cut", seconds=31)
    toy.add("speech", seconds=31, annotation=Annotation(transcript="a long speech"))
    level, count, example = toy.faults()["it is too long for one clip and cannot be cut"]
    assert (level, count) == ("warning", 1)
    assert example.startswith("speech: 31.0 s are too long")


def test_what_the_source_does_not_declare(toy: Toy) -> None:
    toy.add("split", split="valid")
    toy.add("domain", domain="music")
    toy.add("family", annotation=Annotation(captions=("A bell.",)))
    found = next(iter(toy.lint().findings))
    assert (found.level, found.count) == ("warning", 3)
    assert found.what == "the split, domain or family is not one that the source declares"
    assert found.examples == ("split: split 'valid'", "domain: domain 'music'", "family: families captioning")


def test_groups_in_several_splits(toy: Toy) -> None:
    for name, group, split in (("a", "one", "train"), ("b", "one", "test"), ("c", "two", "test"), ("d", "two", "test")):
        toy.add(name, group=group, split=split)
    assert toy.faults() == {"a group of clips stands in several splits": ("warning", 1, "one: test, train")}


def test_clips_that_the_source_leaves_out(toy: Toy) -> None:
    toy.dropped = [("x", "no caption"), ("y", "too short: 0.01 s"), ("z", "too short: 0.02 s")]
    toy.SPEC = replace(SPEC, drop_tolerance=0.75)
    assert toy.faults() == {
        "left out by the source: no caption": ("warning", 1, "x"),
        "left out by the source: too short": ("warning", 2, "y: 0.01 s"),
    }
    toy.SPEC = replace(SPEC, drop_tolerance=0.74)
    assert toy.lint().findings[0].what == "too many clips are left out or cannot be heard"


def test_no_clip_at_all(toy: Toy) -> None:
    toy.clips = []
    Path(toy.root / "good.wav").unlink()
    assert toy.faults() == {"no clip in the annotations": ("error", 1, "0 left out by the source")}


def test_audio_that_nobody_names(toy: Toy) -> None:
    toy.dropped = [("folder/left out", "no label"), ("folder/also.wav", "no label")]
    toy.SPEC = replace(SPEC, drop_tolerance=0.9)
    (toy.root / "folder" / ".cache").mkdir(parents=True)
    for name in ("forgotten.ogg", "left out.wav", "also.wav", ".cache/x.wav", "._y.wav", "notes.txt"):
        (toy.root / "folder" / name).touch()
    assert toy.faults()["audio that no annotation names"] == ("warning", 1, "folder/forgotten.ogg")


def test_a_conversion_that_would_stop_at_once(tmp_path: Path) -> None:
    table = tmp_path / "clips.csv"
    table.write_text("path,label\na.wav,dog\nb.wav,cat\n", encoding="utf-8")
    soundfile.write(tmp_path / "b.wav", tone(0.5, 300), SAMPLE_RATE)
    report = lint("table", table)
    assert [(finding.level, finding.what) for finding in report.findings] == [
        ("error", "it cannot be converted as it is"),
        ("error", "too many clips are left out or cannot be heard"),
        ("warning", "audio missing"),
    ]
    assert report.findings[0].examples[0].startswith(f"{table}:2: expected an audio file at ")
    assert report.num_clips == 2


def test_tables_of_ones_own_may_have_any_split(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", tone(0.5, 300), SAMPLE_RATE)
    (tmp_path / "clips.csv").write_text("path,label,split\na.wav,dog,fold3\n", encoding="utf-8")
    assert lint("table", tmp_path / "clips.csv").findings == ()


def test_an_impossible_duration(toy: Toy) -> None:
    toy.add("odd", duration_s=-1.0)
    with pytest.raises(ManifestError, match=r"clip 'odd': expected a positive duration_s.*found -1.0"):
        toy.lint()


def test_annotations_that_cannot_be_read(tmp_path: Path) -> None:
    root = tmp_path / "esc50"
    shutil.copytree(FIXTURES / "esc50" / "root", root)
    table = root / "meta" / "esc50.csv"
    table.write_text(table.read_text(encoding="utf-8").replace(",dog,", ",wolf,"), encoding="utf-8")
    with pytest.raises(LayoutError, match=r"esc50.csv:\d: expected category"):
        lint("esc50", root)
    lines = (FIXTURES / "esc50" / "root" / "meta" / "esc50.csv").read_text(encoding="utf-8").splitlines()
    table.write_text("\n".join([*lines, lines[1]]), encoding="utf-8")
    with pytest.raises(ManifestError, match="ids to be unique"):
        lint("esc50", root)


def test_examples_are_few_and_errors_come_first(toy: Toy) -> None:
    for number in range(9):
        toy.add(f"gone {number}", seconds=0)
    toy.add("odd", upstream_ids=("137",))
    found = toy.lint().findings
    assert [finding.level for finding in found] == ["error", "error", "warning"]
    assert (found[2].count, len(found[2].examples)) == (9, 5)


@pytest.mark.slow
def test_the_report_does_not_depend_on_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHUNK", 2)
    root = FIXTURES / "esc50" / "root"
    assert lint("esc50", root, workers=2) == lint("esc50", root, workers=1)


@pytest.mark.parametrize("name", WITH_FIXTURE)
def test_fixtures_have_no_fault_but_what_was_built_into_them(name: str) -> None:
    """Lint agrees with the conversion: what it calls heard is in the expected manifest, and nothing else."""
    root = FIXTURES / name / "root"
    places = [root / "clips.csv"] if name == "table" else [root]
    report = lint(name, places[0], decode=True)
    errors = {finding.what for finding in report.findings if finding.level == "error"}
    assert errors <= {"too many clips are left out or cannot be heard"}
    rows = [json.loads(line) for line in (FIXTURES / name / "expected.jsonl").read_text("utf-8").splitlines()]
    expected = [row for row in rows if "id" in row]
    unheard = sum(finding.count for finding in report.findings if finding.what in ("audio missing", "audio broken"))
    assert report.num_clips - unheard == len(expected)
    assert report.hours == pytest.approx(sum(row["duration_s"] for row in expected) / 3600, rel=0.02)
