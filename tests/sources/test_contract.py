"""What every source must fulfil; a new module in the folder is tested without being listed anywhere."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import uniwhisper.sources
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.clips import read_clip
from uniwhisper.files import read_json, read_jsonl
from uniwhisper.identifiers import parse
from uniwhisper.instructions import families, render
from uniwhisper.instructions import parse as parse_answer
from uniwhisper.manifest import read_manifest
from uniwhisper.sources import get_source, list_sources
from uniwhisper.types import FAMILIES

from .conversion import FIXTURES, convert_fixture, expected_path, layouts

SOURCES = list_sources()
GENERIC = ("folder", "table", "webdataset")
"""Sources of one's own audio: the name and the languages are the owner's."""
FIXTURE_LAYOUTS = [(name, layout) for name in SOURCES for layout in layouts(name)]


def modules() -> list[str]:
    folder = Path(uniwhisper.sources.__file__).parent
    return sorted(path.stem for path in folder.glob("*.py") if not path.name.startswith("_"))


def test_every_module_is_registered() -> None:
    assert list(SOURCES) == modules()
    assert len(SOURCES) >= 5


@pytest.mark.parametrize("name", SOURCES)
def test_spec_states_the_facts(name: str) -> None:
    spec = get_source(name).SPEC
    assert spec.name == name
    assert spec.license
    assert spec.citation
    assert spec.homepage.startswith("https://")
    assert set(spec.families) <= set(FAMILIES)
    assert len(set(spec.languages)) == len(spec.languages)
    assert all(re.fullmatch(r"[a-z]{2,3}", code) for code in spec.languages)
    if spec.packages:
        assert spec.num_clips > 0, "a packaged source has been measured"
        assert spec.hours > 0


@pytest.mark.parametrize("name", SOURCES)
def test_module_says_where_it_comes_from(name: str) -> None:
    module = importlib.import_module(f"uniwhisper.sources.{name}")
    assert module.__doc__
    assert sorted(module.__all__) == module.__all__
    if get_source(name).SPEC.packages:
        assert "Source:" in module.__doc__


@pytest.mark.parametrize("name", SOURCES)
def test_there_is_a_fixture(name: str) -> None:
    assert "root" in layouts(name), "the publisher's layout comes first"
    assert "evaluation" not in get_source(name).SPEC.uses or "xares" in layouts(name), "evaluation corpora read X-ARES"


@pytest.mark.parametrize("name", SOURCES)
def test_spec_says_how_to_get_it(name: str) -> None:
    spec = get_source(name).SPEC
    if not {"training", "evaluation"} & set(spec.uses):
        return
    assert spec.placement.strip()
    assert spec.remotes or spec.not_downloadable, "where it is downloaded, or why it cannot be"
    assert spec.num_clips > 0
    assert spec.hours > 0


@pytest.mark.parametrize(("name", "layout"), FIXTURE_LAYOUTS)
def test_fixture_converts_to_the_expected_clips(name: str, layout: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="G.722 is decoded by the starter extra")
    conversion, rows = convert_fixture(name, tmp_path, layout)
    assert rows == list(read_jsonl(expected_path(name, layout)))
    assert conversion.num_clips == sum("dropped" not in row for row in rows)
    assert conversion.num_dropped == sum("dropped" in row for row in rows)
    assert read_json(tmp_path / "spec.json")["measured"]["num_clips"] == conversion.num_clips


@pytest.mark.parametrize(("name", "layout"), FIXTURE_LAYOUTS)
def test_clips_are_what_the_spec_says(name: str, layout: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="G.722 is decoded by the starter extra")
    spec = get_source(name).SPEC
    conversion, _ = convert_fixture(name, tmp_path, layout)
    clips = read_manifest(conversion.manifest)
    assert len({(clip.source, clip.id) for clip in clips}) == len(clips)
    for clip in clips:
        assert len(read_clip(clip)) / SAMPLE_RATE == pytest.approx(clip.duration_s, abs=0.02)
        assert name in GENERIC or clip.source == name
        assert clip.split in spec.splits
        assert spec.domain in ("mixed", clip.domain)
        assert name in GENERIC or not clip.language or clip.language in spec.languages
        for text in clip.upstream_ids:
            assert parse(text).key


@pytest.mark.parametrize(("name", "layout"), FIXTURE_LAYOUTS)
def test_clips_render_in_families_that_the_spec_lists(name: str, layout: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="G.722 is decoded by the starter extra")
    spec = get_source(name).SPEC
    conversion, _ = convert_fixture(name, tmp_path, layout)
    clips = read_manifest(conversion.manifest)
    for clip in clips:
        supported = families(clip)
        if "training" in spec.uses:  # in an evaluation, a clip in which nothing happens counts
            assert supported, "a clip that gives no example belongs into dropped.jsonl"
        assert set(supported) <= set(spec.families), clip.id
        for family in supported:
            example = render(clip, family, 0)
            assert parse_answer(family, example.answer) is not None


@pytest.mark.parametrize(("name", "layout"), FIXTURE_LAYOUTS)
def test_train_and_test_share_no_group(name: str, layout: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="G.722 is decoded by the starter extra")
    conversion, _ = convert_fixture(name, tmp_path, layout)
    splits: dict[str, set[str]] = {}
    for clip in read_manifest(conversion.manifest):
        if clip.group:
            splits.setdefault(clip.group, set()).add(clip.split)
    assert all(len(found) == 1 for found in splits.values()), splits


@pytest.mark.parametrize("name", SOURCES)
def test_second_run_does_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="G.722 is decoded by the starter extra")
    first, _ = convert_fixture(name, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    second, _ = convert_fixture(name, tmp_path)
    assert not first.reused
    assert second.reused
    assert (second.num_clips, second.hours, second.num_dropped) == (first.num_clips, first.hours, first.num_dropped)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize("name", SOURCES)
def test_fixture_is_small(name: str) -> None:
    size_bytes = sum(path.stat().st_size for path in (FIXTURES / name).rglob("*") if path.is_file())
    assert size_bytes < 80_000


def test_fixtures_are_small_together() -> None:
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < 3_000_000
