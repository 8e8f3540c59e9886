"""The plan of the soundfont sources: families, splits, keys and velocities."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from uniwhisper.audio import read
from uniwhisper.errors import LayoutError
from uniwhisper.manifest import read_manifest
from uniwhisper.sources import convert_source, get_source
from uniwhisper.sources._context import Context
from uniwhisper.sources._notes import note_name, plan_notes, programs

from .conversion import FIXTURES

sys.path.insert(0, str(FIXTURES))

from make_sounds import soundfont

FAMILIES = {
    *("bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth lead", "vocal"),
}
SAME_RECORDINGS = (
    *((0, 1, 2, 3), (17, 18), (29, 30), (33, 35, 39), (40, 41), (44, 48, 49), (53, 54), (57, 60)),
    *((61, 62, 63), (75, 76), (82, 83, 85, 86)),
)
"""Programs for which TimGM6mb uses the same samples; measured on the package."""


def test_families_are_nsynths_and_each_is_in_every_split() -> None:
    table = programs()
    assert {program.family for program in table} == FAMILIES
    splits: dict[str, set[str]] = defaultdict(set)
    for program in table:
        splits[program.family].add(program.split)
    assert all(found == {"train", "valid", "test"} for found in splits.values()), splits


def test_programs_are_unique_and_their_keys_playable() -> None:
    table = programs()
    assert len({program.number for program in table}) == len({program.name for program in table}) == len(table)
    assert [program.number for program in table] == sorted(program.number for program in table)
    assert all(0 <= program.number <= 127 and 21 <= program.low < program.high <= 108 for program in table)


def test_programs_of_the_same_recordings_share_a_split() -> None:
    split = {program.number: program.split for program in programs()}
    for numbers in SAME_RECORDINGS:
        assert len({split[number] for number in numbers}) == 1, numbers


def test_numbers_of_notes_are_those_of_the_specs() -> None:
    for name, num_pitches, num_velocities in (("soundfont_fluid", 8, 2), ("soundfont_timgm", 6, 1)):
        notes = [note for program in programs() for note in plan_notes(program, num_pitches, num_velocities)]
        assert len(notes) == get_source(name).SPEC.num_clips
        velocities = Counter(velocity for _, velocity in notes)
        assert set(velocities) == {25, 50, 75, 100, 127}
        assert max(velocities.values()) < 1.1 * min(velocities.values())


def test_plan_has_every_note_once_and_spans_the_range() -> None:
    for program in programs():
        notes = plan_notes(program, 8, 2)
        assert len(set(notes)) == len(notes) == 16
        assert (min(notes)[0], max(notes)[0]) == (program.low, program.high)


@pytest.mark.parametrize(("pitch", "name"), [(21, "A0"), (60, "C4"), (69, "A4"), (70, "A#4"), (108, "C8")])
def test_note_name(pitch: int, name: str) -> None:
    assert note_name(pitch) == name


def test_clips_say_what_they_hold(tmp_path: Path) -> None:
    conversion = convert_source("soundfont_timgm", tmp_path, FIXTURES / "soundfont_timgm" / "root")
    clips = read_manifest(conversion.manifest)
    assert {clip.group for clip in clips} == {"program 0", "program 5"}, "program 127 belongs to no family"
    for clip in clips:
        (note,) = clip.annotation.notes
        assert clip.annotation.attributes["pitch"] == note_name(note.pitch)
        assert note.offset_s == 1.5
        wave = read(clip.path)
        assert len(wave) == 32_000
        assert abs(wave).max() > 0.1


def test_soundfont_without_instruments_of_a_family_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "root" / "usr/share/sounds/sf2"
    folder.mkdir(parents=True)
    (folder / "TimGM6mb.sf2").write_bytes(soundfont({126: ([], []), 127: ([], [])}))
    with pytest.raises(
        LayoutError, match=r"soundfont_timgm: expected General MIDI presets .* found programs \(126, 127"
    ):
        convert_source("soundfont_timgm", tmp_path / "out", tmp_path / "root")


def test_silent_notes_are_dropped_with_a_reason(tmp_path: Path) -> None:
    folder = tmp_path / "usr/share/sounds/sf2"
    folder.mkdir(parents=True)
    (folder / "TimGM6mb.sf2").write_bytes(soundfont({0: ([(43, 60 << 8)], [])}))  # keys 0 to 60 of 33 to 96
    ctx = Context(source="soundfont_timgm", out_dir=tmp_path / "out")
    clips = list(get_source("soundfont_timgm").convert(tmp_path, ctx))
    assert {clip.annotation.notes[0].pitch for clip in clips} == {33, 46, 58}
    assert len(ctx.dropped) == 3
    assert ctx.dropped[0].reason.startswith("silent")


def test_training_prefers_the_small_edition_and_takes_the_original(tmp_path: Path) -> None:
    original = tmp_path / "usr/share/sounds/sf2/FluidR3_GM.sf2"
    original.parent.mkdir(parents=True)
    original.write_bytes(soundfont({0: ([], [])}))
    ctx = Context(source="soundfont_fluid", out_dir=tmp_path / "out")
    clips = list(get_source("soundfont_fluid").convert(tmp_path, ctx))
    assert len(clips) == 16
    assert {clip.split for clip in clips} == {"train"}
