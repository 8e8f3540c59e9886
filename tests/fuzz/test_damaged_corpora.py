"""Damaged corpora end in one of three ways: an error of ours, a listed drop, or clips that are valid; never otherwise.

Every file of every fixture is damaged by turns, taken away, or replaced by something that is no file; the real slices
of annotation files are damaged too. `cases.py` says how often.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from sources.conversion import FIXTURES, layouts, lenient
from sources.test_slices import SLICES, place
from uniwhisper.errors import UniWhisperError
from uniwhisper.files import read_json, read_jsonl
from uniwhisper.instructions import families, render
from uniwhisper.manifest import check_unique, read_manifest
from uniwhisper.sources import dry_run, get_source, list_sources
from uniwhisper.sources._context import AUDIO_SUFFIXES
from uniwhisper.sources._convert import run_source

from .cases import CASES, EXAMPLES, SLICE_CASES
from .mutations import mutate
from .readers import NUM_READERS

pytestmark = pytest.mark.slow

FIXTURE_LAYOUTS = [(name, layout) for name in list_sources() for layout in layouts(name)]
SLICED = [name for name in list_sources() if (FIXTURES / name / "slice.json").is_file()]
_LONGEST_MESSAGE = 3100


def files_of(root: Path) -> list[Path]:
    """Return the files below `root`, sorted."""
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def in_turns(files: list[Path]) -> list[Path]:
    """Return the files in the order to damage them: after every file of audio one of annotations."""
    notes = [path for path in files if path.suffix.lower() not in (*AUDIO_SUFFIXES, ".g722")]
    rest = [path for path in files if path not in notes]
    return [
        path
        for turn in range(max(len(notes), len(rest)))
        for part in (notes, rest)
        if part
        for path in [part[turn % len(part)]]
    ]


def damaged(files: list[Path], cases: int, salt: int) -> Iterator[tuple[int, Path]]:
    """Damage one file after the other, yield the case's number and the file, and put the file back."""
    contents = {path: path.read_bytes() for path in files}
    turns = in_turns(files)
    for case in range(cases):
        path = turns[case % len(turns)]
        path.write_bytes(mutate(contents[path], salt * 1_000_003 + case))
        yield case, path
        path.write_bytes(contents[path])


def check(name: str, root: Path, out: Path) -> str:
    """Convert `root`; return how it ended: refused or converted."""
    try:
        conversion = run_source(cast(Any, lenient(name)), out, root)
    except UniWhisperError as e:
        refusal = str(e)
    else:
        refusal = ""
    if refusal:
        assert len(refusal) > 20, "an error says what, where and what to do"
        assert len(refusal) < _LONGEST_MESSAGE, "an error is read by people"
        assert str(root) in refusal or name in refusal, f"an error says where: {refusal}"
        assert not (out / "DONE").exists()
        return "refused"
    clips = read_manifest(conversion.manifest)
    assert len(clips) == conversion.num_clips
    assert all(row["reason"] for row in read_jsonl(out / "dropped.jsonl"))
    if "own" not in get_source(name).SPEC.uses:
        places = (f"{root}{os.sep}", f"{out}{os.sep}")
        assert all(os.path.normpath(clip.path).startswith(places) for clip in clips), "audio lies in the corpus"
    return "converted"


@pytest.mark.parametrize(("name", "layout"), FIXTURE_LAYOUTS)
def test_a_damaged_fixture(name: str, layout: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="G.722 is decoded by the starter extra")
    root = tmp_path / layout
    shutil.copytree(FIXTURES / name / layout, root)
    ends: set[str] = set()
    for case, path in damaged([path for path in files_of(root) if path.stat().st_size], CASES, salt=1):
        try:
            ends.add(check(name, root, tmp_path / "out"))
        except Exception as e:
            raise AssertionError(f"case {case}, {path.relative_to(root)} damaged: {e!r}") from e
        shutil.rmtree(tmp_path / "out", ignore_errors=True)
    assert ends, "nothing was tried"


def taken_away(path: Path) -> None:
    path.unlink()


def made_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def made_a_dangling_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/nowhere/at/all")


def made_a_link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def emptied(path: Path) -> None:
    path.write_bytes(b"")


FILE_FAULTS: tuple[Callable[[Path], None], ...] = (
    taken_away,
    made_a_folder,
    made_a_dangling_link,
    made_a_link_to_itself,
    emptied,
)
MAX_FILES = 24
"""Of each fixture: further ones are like those before."""


def faulty_places(layout_root: Path) -> list[tuple[Path, str]]:
    """Return (path, fault) of every file to be replaced and every folder that becomes a file, relative to the root."""
    files = [path.relative_to(layout_root) for path in in_turns(files_of(layout_root))]
    folders = sorted({folder for path in files for folder in path.parents if folder.name})
    places = [(path, fault.__name__) for path in dict.fromkeys(files[:MAX_FILES]) for fault in FILE_FAULTS]
    return places + [(folder, "made_a_file") for folder in folders]


@pytest.mark.parametrize(("name", "layout"), FIXTURE_LAYOUTS)
def test_files_that_are_missing_or_no_files(name: str, layout: str, tmp_path: Path) -> None:
    pytest.importorskip("av", reason="G.722 is decoded by the starter extra")
    faults = {fault.__name__: fault for fault in FILE_FAULTS}
    for path, fault in faulty_places(FIXTURES / name / layout):
        root = tmp_path / layout
        shutil.copytree(FIXTURES / name / layout, root)
        if fault == "made_a_file":
            shutil.rmtree(root / path)
            (root / path).write_bytes(b"not a folder")
        else:
            faults[fault](root / path)
        try:
            check(name, root, tmp_path / "out")
        except Exception as e:
            raise AssertionError(f"{path} {fault}: {e!r}") from e
        shutil.rmtree(root)
        shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.mark.shared
@pytest.mark.skipif(not SLICES.is_dir(), reason="needs the real slices in ../shared/metadata")
@pytest.mark.parametrize("name", SLICED)
def test_a_damaged_real_slice(name: str, tmp_path: Path) -> None:
    plan = read_json(FIXTURES / name / "slice.json")
    place(plan, tmp_path)
    for path in tmp_path.rglob("*"):
        # The first rows say as much about damage as all of them, in a fraction of the time.
        if path.suffix in (".csv", ".tsv", ".txt", ".trn", ".ndx") and path.stat().st_size > 20_000:
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:60]))
    files = [path for path in files_of(tmp_path) if path.stat().st_size]
    for case, path in damaged(files[:40], SLICE_CASES, salt=2):
        try:
            found = dry_run(name, tmp_path)
        except UniWhisperError:
            continue
        except Exception as e:
            raise AssertionError(f"case {case}, {path.relative_to(tmp_path)} damaged: {e!r}") from e
        for clip in found.clips[:50]:
            for family in families(clip):
                render(clip, family, 0)
        assert all(item.reason for item in found.dropped)
        list(check_unique((clip for clip in found.clips if clip.duration_s), name))


def test_there_are_ten_thousand_cases(
    capsys: pytest.CaptureFixture[str], record_property: Callable[[str, object], None]
) -> None:
    counts = {
        "damaged fixtures": len(FIXTURE_LAYOUTS) * CASES,
        "missing and impossible files": sum(len(faulty_places(FIXTURES / n / layout)) for n, layout in FIXTURE_LAYOUTS),
        "damaged real slices": len(SLICED) * SLICE_CASES if SLICES.is_dir() else 0,
        "damaged files for readers": NUM_READERS * EXAMPLES,
    }
    record_property("fuzz_cases", sum(counts.values()))
    with capsys.disabled():
        sys.stdout.write(f"\nfuzz: {sum(counts.values()):,} cases ({counts})\n")
    assert sum(counts.values()) >= 10_000 or CASES < 150
