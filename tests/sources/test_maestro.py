"""MAESTRO: the two forms of its JSON table, real notes under the real pedal, and rows that are refused."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run
from uniwhisper.sources._midi import read_notes

from .conversion import FIXTURES

SLICES = Path(__file__).parents[3] / "shared" / "metadata" / "MAESTRO"
NAME = "2018/MIDI-Unprocessed_Chamber3_MID--AUDIO_10_R3_2018_wav--1"

ROW = {
    "canonical_composer": "Alban Berg",
    "canonical_title": "Sonata Op. 1",
    "split": "validation",
    "year": 2018,
    "midi_filename": "2018/one.midi",
    "audio_filename": "2018/one.wav",
}


@pytest.mark.parametrize("content", [[ROW], {name: {"0": value} for name, value in ROW.items()}])
def test_both_forms_of_the_json_table_are_read(content: object, tmp_path: Path) -> None:
    (tmp_path / "2018").mkdir()
    shutil.copy(next((FIXTURES / "maestro" / "root" / "2004").glob("*.midi")), tmp_path / "2018/one.midi")
    (tmp_path / "maestro-v2.0.0.json").write_text(json.dumps(content), "utf-8")
    found = dry_run("maestro", tmp_path)
    assert found.rows == {"maestro-v2.0.0.json": 1}
    (clip,) = found.clips
    assert (clip.id, clip.split, clip.group) == ("2018/one", "valid", "Alban Berg: Sonata Op. 1")
    assert clip.annotation.metadata["year"] == "2018"
    assert len(clip.annotation.notes) == 4


def test_of_several_tables_the_newest_is_read(tmp_path: Path) -> None:
    root = Path(shutil.copytree(FIXTURES / "maestro" / "root", tmp_path / "corpus"))
    (root / "maestro-v2.0.0.csv").write_text("of another version\n", "utf-8")
    assert dry_run("maestro", root).rows == {"maestro-v3.0.0.csv": 4}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"midi_filename": "../one.midi"}, "performance 0: expected a path below the corpus's folder"),
        ({"split": "dev"}, "performance 0: expected one of the 3 labels train, .* found 'dev'"),
        ({"canonical_title": None}, "performance 0: expected a text 'canonical_title', found None"),
    ],
)
def test_a_row_that_makes_no_sense_is_named(change: dict[str, object], message: str, tmp_path: Path) -> None:
    (tmp_path / "maestro-v3.0.0.json").write_text(json.dumps([ROW | change]), "utf-8")
    with pytest.raises(LayoutError, match=message):
        dry_run("maestro", tmp_path)


@pytest.mark.parametrize("content", ["null", "{}", '{"a": 1}', '["a"]'])
def test_a_table_of_another_form_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "maestro-v3.0.0.json").write_text(content, "utf-8")
    with pytest.raises(LayoutError, match=r"maestro-v3\.0\.0\.json: expected a list of performances"):
        dry_run("maestro", tmp_path)


@pytest.mark.shared
@pytest.mark.skipif(not SLICES.is_dir(), reason="needs the real slices in ../shared/metadata")
def test_a_real_performance_sounds_longer_than_its_keys_are_held(tmp_path: Path) -> None:
    (tmp_path / "2018").mkdir()
    shutil.copy(SLICES / "maestro-v2.0.0.json", tmp_path)
    shutil.copy(SLICES / f"{NAME.replace('/', '__')}.midi", tmp_path / f"{NAME}.midi")
    (clip,) = dry_run("maestro", tmp_path).clips
    notes, keys = clip.annotation.notes, read_notes(tmp_path / f"{NAME}.midi")
    assert (clip.id, len(notes), len(keys)) == (NAME, 4197, 4197)
    assert [(note.pitch, note.onset_s) for note in notes] == [(key.pitch, key.onset_s) for key in keys]
    assert all(note.offset_s >= key.offset_s for note, key in zip(notes, keys, strict=True))
    lengths_s = [note.offset_s - note.onset_s for note in notes]
    assert sum(lengths_s) / len(notes) == pytest.approx(1.129, abs=0.001)  # 0.398 without the pedal
    repeated = sorted((note.pitch, note.onset_s, note.offset_s) for note in notes)
    assert all(a[2] <= b[1] for a, b in itertools.pairwise(repeated) if a[0] == b[0]), "one string a key"
