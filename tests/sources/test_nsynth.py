"""NSynth: records that contradict their names, and which of X-ARES's two training sets is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources import dry_run

from .damage import copied, damaged


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"pitch": 49', '"pitch": 50', "expected pitch, velocity and instrument as in the name, found"),
        ('"velocity": 25', '"velocity": 50', "expected pitch, velocity and instrument as in the name, found"),
        ('"instrument_family_str": "bass"', '"instrument_family_str": "brass"', "expected a name <instrument>"),
        ('"dark"', '"gloomy"', "expected one of the 10 labels"),
        ('"qualities_str": ["dark"]', '"qualities": []', "expected a record with qualities_str"),
    ],
)
def test_a_bad_record_is_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    root = damaged("nsynth", tmp_path, "nsynth-test/examples.json", old, new)
    with pytest.raises(LayoutError, match=rf"examples\.json: record bass_synthetic_068-049-025: {message}"):
        dry_run("nsynth", root)


def test_a_pitch_beyond_midi_is_refused(tmp_path: Path) -> None:
    root = damaged(
        "nsynth", tmp_path, "nsynth-test/examples.json", "bass_synthetic_068-049-025", "bass_synthetic_068-128-025"
    )
    with pytest.raises(LayoutError, match="found bass_synthetic_068-128-025 of family bass"):
        dry_run("nsynth", root)


def test_the_full_training_tars_are_read_rather_than_their_subset(tmp_path: Path) -> None:
    root = copied("nsynth", tmp_path, "xares")
    subset = root / "nsynth_train_sub55k_0000000.tar"
    full = root / "nsynth_train_0000000.tar"
    full.write_bytes(subset.read_bytes())
    trained = [clip for clip in dry_run("nsynth", root).clips if clip.split == "train"]
    assert [clip.path for clip in trained] == [str(full)]
    full.unlink()
    assert [clip.path for clip in dry_run("nsynth", root).clips if clip.split == "train"] == [str(subset)]


def test_no_part_at_all_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"expected nsynth-\{train,valid,test\}/examples\.json"):
        dry_run("nsynth", tmp_path)
