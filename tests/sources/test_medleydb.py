"""MedleyDB: the subsets' real annotations, the two places of metadata, and files that are refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .conversion import FIXTURES

SLICES = Path(__file__).parents[3] / "shared" / "metadata"
needs_slices = pytest.mark.skipif(not SLICES.is_dir(), reason="needs the real slices in ../shared/metadata")


def copied(folder: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / "medleydb" / "root", folder / "corpus"))


def test_the_melody_with_the_most_lines_is_taken(tmp_path: Path) -> None:
    root = copied(tmp_path)
    with_three = dry_run("medleydb", root).clips[0]
    next(root.rglob("*_MELODY3.csv")).unlink()
    with_one = dry_run("medleydb", root).clips[0]
    assert [len(clip.annotation.notes) for clip in (with_three, with_one)] == [3, 2]


def test_without_audio_all_metadata_count(tmp_path: Path) -> None:
    root = copied(tmp_path)
    shutil.rmtree(root / "Audio")
    (root / "medleydb_pitch_metadata.json").unlink()
    assert [clip.id for clip in dry_run("medleydb", root).clips] == ["Famous_Unreleased", "Quartet_Second"]


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("instrument: cello", "instrument: [cello, 3]", r"Second_METADATA\.yaml: stem S01: expected an instrument"),
        ("genre: Classical", "genre: ''", r"Second_METADATA\.yaml: expected a text 'genre'"),
        ("stems:\n", "stems: none\nother:\n", r"Second_METADATA\.yaml: expected stems by name, found 'none'"),
        ("stems:\n", "stems: [\n", r"Second_METADATA\.yaml: expected YAML, found: "),
    ],
)
def test_metadata_that_make_no_sense_are_named(before: str, after: str, message: str, tmp_path: Path) -> None:
    root = copied(tmp_path)
    path = root / "Metadata/Quartet_Second_METADATA.yaml"
    path.write_text(path.read_text("utf-8").replace(before, after), "utf-8")
    with pytest.raises(LayoutError, match=message):
        dry_run("medleydb", root)


def test_a_reversed_activity_is_named(tmp_path: Path) -> None:
    root = copied(tmp_path)
    path = next(root.rglob("*_SOURCEID.lab"))
    path.write_text(path.read_text("utf-8").replace("0.1000,0.4000", "0.4000,0.1000"), "utf-8")
    with pytest.raises(
        LayoutError, match=r"SomeOne_First_SOURCEID\.lab:3: column end_time: expected a number from 0\.4"
    ):
        dry_run("medleydb", root)


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"medleydb: expected .*Audio"):
        dry_run("medleydb", tmp_path)


@pytest.mark.shared
@needs_slices
def test_the_real_subset_of_melodies(tmp_path: Path) -> None:
    shutil.copy(SLICES / "mirdata_medleydb_melody/medleydb_melody_metadata.json", tmp_path)
    for number in (1, 2, 3):
        name = f"MusicDelta_Beethoven_MELODY{number}.csv"
        (tmp_path / f"melody{number}").mkdir()
        shutil.copy(SLICES / f"mirdata_medleydb_melody/melody{number}__{name}", tmp_path / f"melody{number}" / name)
    found = dry_run("medleydb", tmp_path)
    assert found.rows == {"medleydb_melody_metadata.json": 1, "melody3/MusicDelta_Beethoven_MELODY3.csv": 3}
    (clip,) = found.clips
    assert clip.annotation.attributes == {"genre": "classical", "vocals": "no"}
    assert clip.upstream_ids == ("medleydb:MusicDelta_Beethoven",)


@pytest.mark.shared
@needs_slices
def test_the_real_subset_of_stems(tmp_path: Path) -> None:
    shutil.copy(SLICES / "mirdata_medleydb_pitch/medleydb_pitch_metadata.json", tmp_path)
    name = "AClassicEducation_NightOwl_STEM_08"
    (tmp_path / "pitch").mkdir()
    shutil.copy(SLICES / f"mirdata_medleydb_pitch/pitch__{name}.csv", tmp_path / "pitch" / f"{name}.csv")
    found = dry_run("medleydb", tmp_path)
    assert found.rows == {"medleydb_pitch_metadata.json": 1, f"pitch/{name}.csv": 2}
    (clip,) = found.clips
    assert (clip.id, clip.group, clip.annotation.labels) == (name, "AClassicEducation", ("male singer",))
