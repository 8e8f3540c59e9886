"""Notes of MIDI files: time, pairing of note-on and note-off, the pedal, and files that are refused."""

from __future__ import annotations

from pathlib import Path

import mido
import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources._midi import read_notes

SLICES = Path(__file__).parents[3] / "shared" / "metadata"

Timed = tuple[int, mido.Message | mido.MetaMessage]


def on(tick: int, key: int = 60, velocity: int = 80, channel: int = 0) -> Timed:
    return tick, mido.Message("note_on", note=key, velocity=velocity, channel=channel)


def off(tick: int, key: int = 60, channel: int = 0) -> Timed:
    return tick, mido.Message("note_off", note=key, channel=channel)


def press(tick: int, value: int, channel: int = 0) -> Timed:
    return tick, mido.Message("control_change", control=64, value=value, channel=channel)


def tempo(tick: int, us_per_beat: int) -> Timed:
    return tick, mido.MetaMessage("set_tempo", tempo=us_per_beat)


def end(tick: int) -> Timed:
    return tick, mido.MetaMessage("end_of_track")


def write(folder: Path, *tracks: list[Timed], ticks_per_beat: int = 100, kind: int = 1) -> Path:
    """Write a file; 100 ticks are a beat, and without a tempo a beat lasts half a second."""
    path = folder / "song.mid"
    made = []
    for track in tracks:
        made.append(mido.MidiTrack())
        now = 0
        for tick, message in sorted(track, key=lambda item: item[0]):
            made[-1].append(message.copy(time=tick - now))
            now = tick
    mido.MidiFile(type=kind, ticks_per_beat=ticks_per_beat, tracks=made).save(path)
    return path


def spans(path: Path, *, pedal: bool = False) -> list[tuple[int, float, float]]:
    return [(note.pitch, note.onset_s, note.offset_s) for note in read_notes(path, pedal=pedal)]


def test_time_follows_the_tempos_of_all_tracks(tmp_path: Path) -> None:
    notes = [on(0), off(100), on(150, 62), off(300, 62), on(400, 64), off(500, 64)]
    path = write(tmp_path, [tempo(200, 1_000_000)], [*notes, tempo(500, 250_000)], [tempo(400, 250_000)])
    assert spans(path) == [(60, 0.0, 0.5), (62, 0.75, 2.0), (64, 3.0, 3.25)]


def test_velocity_0_is_a_note_off_and_a_note_off_without_a_note_means_nothing(tmp_path: Path) -> None:
    assert spans(write(tmp_path, [off(0), on(10), on(110, velocity=0), off(120), off(130, 99)])) == [(60, 0.05, 0.55)]


def test_a_note_off_ends_every_note_of_its_key(tmp_path: Path) -> None:
    assert spans(write(tmp_path, [on(0), on(50), off(100), off(200)])) == [(60, 0.0, 0.5), (60, 0.25, 0.5)]


def test_a_note_that_begins_where_the_one_before_ends_goes_on(tmp_path: Path) -> None:
    assert spans(write(tmp_path, [on(0), on(100), off(100), off(200)])) == [(60, 0.0, 0.5), (60, 0.5, 1.0)]
    assert spans(write(tmp_path, [on(0), off(100), on(100), off(200)])) == [(60, 0.0, 0.5), (60, 0.5, 1.0)]


def test_a_note_that_never_ends_lasts_to_the_end_of_its_track(tmp_path: Path) -> None:
    assert spans(write(tmp_path, [on(0), on(20, 62), off(40, 62), end(300)], [on(0, 72), off(500, 72)])) == [
        (60, 0.0, 1.5),
        (72, 0.0, 2.5),
        (62, 0.1, 0.2),
    ]


def test_a_note_without_duration_is_left_out(tmp_path: Path) -> None:
    assert spans(write(tmp_path, [on(50), off(50), on(60, 62), off(70, 62)])) == [(62, 0.3, 0.35)]


def test_tracks_and_channels_do_not_end_the_notes_of_others(tmp_path: Path) -> None:
    path = write(tmp_path, [on(0), on(10, channel=1), off(100, channel=1), off(200)], [on(20), off(60)])
    assert spans(path) == [(60, 0.0, 1.0), (60, 0.05, 0.5), (60, 0.1, 0.3)]


def test_the_instrument_stands_in_every_note(tmp_path: Path) -> None:
    notes = read_notes(write(tmp_path, [on(0), off(100), on(100), off(200)]), instrument="organ")
    assert [note.instrument for note in notes] == ["organ", "organ"]


def test_the_pedal_holds_released_notes_until_it_comes_up(tmp_path: Path) -> None:
    path = write(
        tmp_path, [press(0, 64), on(0), off(20), on(40, 62), off(100, 62), press(80, 63), on(90, 64), off(95, 64)]
    )
    assert spans(path) == [(60, 0.0, 0.1), (62, 0.2, 0.5), (64, 0.45, 0.475)], "it is not asked for"
    held = write(
        tmp_path, [press(0, 64), on(0), off(20), on(40, 62), press(80, 63), on(90, 64), off(95, 64), off(100, 62)]
    )
    assert spans(held, pedal=True) == [(60, 0.0, 0.4), (62, 0.2, 0.5), (64, 0.45, 0.475)]


def test_under_the_pedal_a_key_that_is_struck_again_ends_its_note(tmp_path: Path) -> None:
    path = write(tmp_path, [press(0, 127), on(0), off(20), on(60), off(80), press(200, 0), end(400)])
    assert spans(path, pedal=True) == [(60, 0.0, 0.3), (60, 0.3, 1.0)]


def test_a_pedal_that_stays_down_holds_to_the_end_of_the_track(tmp_path: Path) -> None:
    path = write(tmp_path, [press(0, 127), on(0), off(20), end(400)])
    assert spans(path, pedal=True) == [(60, 0.0, 2.0)]


def test_the_pedal_of_another_channel_holds_nothing(tmp_path: Path) -> None:
    path = write(tmp_path, [press(0, 127, channel=3), on(0), off(20), end(400)])
    assert spans(path, pedal=True) == [(60, 0.0, 0.1)]


def test_files_that_count_time_in_another_way_are_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"song\.mid: expected tracks that play together .* found format 2"):
        read_notes(write(tmp_path, [on(0), off(1)], kind=2))
    with pytest.raises(LayoutError, match=r"song\.mid: expected time in ticks per beat, found SMPTE"):
        read_notes(write(tmp_path, [on(0), off(1)], ticks_per_beat=-7_640))
    with pytest.raises(LayoutError, match=r"song\.mid: expected a tempo above 0 at tick 5, found 0"):
        read_notes(write(tmp_path, [tempo(5, 0), on(6), off(7)]))


def test_files_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"expected the MIDI file .*none\.mid"):
        read_notes(tmp_path / "none.mid")
    whole = write(tmp_path, [on(0), off(100)]).read_bytes()
    broken = tmp_path / "broken.mid"
    for content in (b"", b"RIFF" + whole, whole[:-3], whole[:20], whole.replace(b"\x90", b"\xf4")):
        broken.write_bytes(content)
        with pytest.raises(LayoutError, match=r"broken\.mid: expected a Standard MIDI File, found a broken one"):
            read_notes(broken)


@pytest.mark.shared
@pytest.mark.skipif(not SLICES.is_dir(), reason="needs the real MIDI files in ../shared/metadata")
@pytest.mark.parametrize(
    ("name", "num_notes", "pitches", "onsets_s", "offsets_s"),
    [
        # Number of notes and sums of their pitches, onsets and offsets as pretty_midi 0.2.11 reads them.
        (
            "MAESTRO/2018__MIDI-Unprocessed_Chamber3_MID--AUDIO_10_R3_2018_wav--1.midi",
            4197,
            273432,
            1400539.9,
            1402208.23,
        ),
        ("Slakh2100/babyslakh_16k__Track00001__all_src.mid", 3135, 177011, 372057.66, 373877.24),
        ("Slakh2100/babyslakh_16k__Track00007__MIDI__S00.mid", 1794, 88508, 241824.57, 241908.26),
        ("Slakh2100/slakh2100_flac_redux__train__Track00001__MIDI__S05.mid", 263, 20382, 30994.38, 31582.95),
    ],
)
def test_real_files_are_read_as_by_another_library(
    name: str, num_notes: int, pitches: int, onsets_s: float, offsets_s: float
) -> None:
    notes = read_notes(SLICES / name)
    assert len(notes) == num_notes
    assert sum(note.pitch for note in notes) == pitches
    assert sum(note.onset_s for note in notes) == pytest.approx(onsets_s, abs=5e-5 * num_notes + 0.01)
    assert sum(note.offset_s for note in notes) == pytest.approx(offsets_s, abs=5e-5 * num_notes + 0.01)
