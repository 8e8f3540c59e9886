"""Slakh2100: the publisher's real list of duplicates, the layout of BabySlakh, and files that are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.files import read_json
from uniwhisper.sources import dry_run

from .conversion import FIXTURES

SLICES = Path(__file__).parents[3] / "shared" / "metadata" / "Slakh2100"
needs_slices = pytest.mark.skipif(not SLICES.is_dir(), reason="needs the real slices in ../shared/metadata")


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "slakh2100" / "root", folder / "corpus"))


def test_without_the_publishers_list_the_first_of_the_same_midi_file_stays(tmp_path: Path) -> None:
    root = copied(tmp_path)
    (root / "redux.json").unlink()
    shutil.move(root / "omitted/Track00049", root / "test/Track00049")
    found = dry_run("slakh2100", root)
    assert [clip.id for clip in found.clips] == ["Track00001", "Track00020", "Track00049", "Track01503"]
    assert {item.id: item.reason for item in found.dropped} == {
        "Track01501": "duplicate MIDI file: as Track00049",
        "Track01502": "duplicate MIDI file: as Track00001",
        "Track01876": "notes missing: no MIDI/S01.mid",
    }


def test_a_piece_without_metadata_is_listed(tmp_path: Path) -> None:
    root = copied(tmp_path)
    (root / "train/Track00001/metadata.yaml").unlink()
    dropped = {item.id: item.reason for item in dry_run("slakh2100", root).dropped}
    assert dropped["Track00001"] == "metadata.yaml missing"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("inst_class: Guitar", "inst_class: Lute", r"metadata\.yaml: stem S00: inst_class: expected .* found 'Lute'"),
        ("UUID: 1a81", "UUID:", r"metadata\.yaml: expected a text 'UUID', found None"),
        (
            "midi_program_name: Distortion Guitar",
            "x: 1",
            r"metadata\.yaml: stem S00: expected a text 'midi_program_name'",
        ),
    ],
)
def test_metadata_that_make_no_sense_are_named(before: str, after: str, message: str, tmp_path: Path) -> None:
    root = copied(tmp_path)
    path = root / "train/Track00001/metadata.yaml"
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after), "utf-8")
    with pytest.raises(LayoutError, match=message):
        dry_run("slakh2100", root)


def test_a_broken_midi_file_is_named(tmp_path: Path) -> None:
    root = copied(tmp_path)
    path = root / "train/Track00001/MIDI/S03.mid"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(LayoutError, match=r"Track00001/MIDI/S03\.mid: expected a Standard MIDI File"):
        dry_run("slakh2100", root)


@pytest.mark.shared
@needs_slices
def test_the_publishers_list_leaves_one_piece_of_every_midi_file() -> None:
    actions, duplicates = read_json(SLICES / "redux.json"), read_json(SLICES / "duplicates.json")
    kept = [name for name in duplicates if actions[name]["action"] != "omit"]
    assert len(kept) == 1710
    assert len({duplicates[name]["midi_md5"] for name in kept}) == 1710


@pytest.mark.shared
@needs_slices
def test_both_releases_of_a_real_piece_give_the_same_notes(tmp_path: Path) -> None:
    for release, place in (("babyslakh_16k", "."), ("slakh2100_flac_redux__train", "train")):
        for path in SLICES.glob(f"{release}__Track00001__*"):
            target = tmp_path / release / place / path.name.removeprefix(f"{release}__").replace("__", "/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    baby, redux = (dry_run("slakh2100", folder).clips[0] for folder in sorted(tmp_path.iterdir()))
    assert baby.annotation == redux.annotation
    assert len(baby.annotation.notes) == 2020
    assert baby.annotation.metadata["drum_hits"] == "1076"
    assert baby.annotation.labels == ("bass", "drums", "ensemble", "guitar", "organ", "piano"), "S06 was not rendered"
