"""Soundfonts: reading SF2 and SF3, and rendering notes that have the right pitch, envelope and timbre."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from uniwhisper.errors import LayoutError
from uniwhisper.sources._soundfont import SoundFont
from uniwhisper.sources._synth import _filtered, _low_pass, render_note

sys.path.insert(0, str(Path(__file__).parents[1] / "fixtures"))

from make_sounds import Generators, soundfont

TIMECENTS_PER_OCTAVE = 1200
DELAY, ATTACK, DECAY, SUSTAIN, RELEASE = 33, 34, 36, 37, 38
CUTOFF, ENVELOPE_TO_CUTOFF, ATTENUATION, FINE_TUNE, ROOT_KEY = 8, 11, 48, 52, 58


def timecents(seconds: float) -> int:
    return round(TIMECENTS_PER_OCTAVE * np.log2(seconds))


def font(tmp_path: Path, instrument: Generators, preset: Generators | None = None, **options: bool) -> SoundFont:
    path = tmp_path / "font.sf2"
    path.write_bytes(soundfont({0: (preset or [], instrument)}, **options))
    return SoundFont(path)


def note(sound: SoundFont, *, pitch: int = 69, velocity: int = 127, duration_s: float = 1.0) -> np.ndarray:
    return render_note(
        sound, program=0, pitch=pitch, velocity=velocity, duration_s=duration_s, release_at_s=0.75 * duration_s
    )


def pitch_hz(wave: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8 * len(wave)))
    return float(np.argmax(spectrum) * 16_000 / (8 * len(wave)))


@pytest.mark.parametrize(("pitch", "expected_hz"), [(45, 110.0), (57, 220.0), (69, 440.0), (76, 659.26), (93, 1760.0)])
def test_note_has_the_pitch_of_its_key(tmp_path: Path, pitch: int, expected_hz: float) -> None:
    wave = note(font(tmp_path, []), pitch=pitch)
    sample_hz = 16_000 * 11 / 396 / 440  # the fixture's loop is 1 % sharp of 440 Hz
    assert pitch_hz(wave) == pytest.approx(expected_hz * sample_hz, rel=0.004)


def test_tuning_adds_up_over_preset_and_instrument(tmp_path: Path) -> None:
    plain = pitch_hz(note(font(tmp_path, [])))
    tuned = pitch_hz(note(font(tmp_path, [(FINE_TUNE, 60)], [(FINE_TUNE, 40)])))
    assert tuned / plain == pytest.approx(2 ** (1 / 12), rel=0.003)
    lower = pitch_hz(note(font(tmp_path, [(ROOT_KEY, 81)])))
    assert lower / plain == pytest.approx(0.5, rel=0.003)


def test_sf3_with_unpadded_chunks_sounds_like_sf2(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    plain = note(font(tmp_path, []))
    vorbis = note(font(tmp_path / "a", [], vorbis=True, padded=False))
    assert pitch_hz(vorbis) == pytest.approx(pitch_hz(plain), rel=0.01)
    assert np.sqrt(np.mean(vorbis**2)) == pytest.approx(np.sqrt(np.mean(plain**2)), rel=0.1)


def test_loop_lasts_as_long_as_the_key_and_release_ends_it(tmp_path: Path) -> None:
    wave = note(font(tmp_path, [(RELEASE, timecents(0.1))]), duration_s=2.0)
    held, released = wave[: int(1.5 * 16_000)], wave[int(1.6 * 16_000) :]
    assert len(wave) == 32_000
    assert np.abs(held[-1600:]).max() == pytest.approx(0.7, rel=0.1)  # the sample itself is 0.1 s long
    assert np.abs(released).max() < 1e-4


def test_decay_falls_linearly_in_decibels_to_sustain(tmp_path: Path) -> None:
    wave = note(font(tmp_path, [(DECAY, timecents(1.0)), (SUSTAIN, 400)]), duration_s=2.0)

    def level_db(at_s: float) -> float:
        start = int(at_s * 16_000)
        return 20 * np.log10(np.abs(wave[start : start + 800]).max())

    assert level_db(0.1) - level_db(0.2) == pytest.approx(10, abs=0.5)  # 100 dB a second
    assert level_db(0.05) - level_db(1.0) == pytest.approx(35, abs=0.5)  # 5 dB lost by 0.05 s, 40 dB in all
    assert level_db(0.6) == pytest.approx(level_db(1.2), abs=0.3)


def test_attack_rises_from_nothing(tmp_path: Path) -> None:
    wave = note(font(tmp_path, [(ATTACK, timecents(0.4)), (DELAY, timecents(0.1))]))
    assert np.abs(wave[:1600]).max() < 1e-6
    assert np.abs(wave[int(0.3 * 16_000) :][:64]).max() == pytest.approx(0.35, rel=0.1)


def gain_db(filtered: np.ndarray, plain: np.ndarray, frequency_hz: float) -> float:
    index = round(frequency_hz * len(plain) / 16_000)
    spectra = [np.abs(np.fft.rfft(wave * np.hanning(len(wave)))[index]) for wave in (filtered, plain)]
    return float(20 * np.log10(spectra[0] / spectra[1]))


def test_filter_is_a_two_pole_low_pass_at_its_cutoff() -> None:
    cutoff_cents = 1200 * np.log2(500 / 8.176)
    for frequency_hz, expected_db in ((50, 0), (500, -3), (2000, -24)):
        plain = np.sin(2 * np.pi * frequency_hz * np.arange(16_000) / 16_000)
        assert gain_db(_filtered(plain, cutoff_cents, 0), plain, frequency_hz) == pytest.approx(expected_db, abs=0.3)
    resonant = _filtered(np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000), cutoff_cents, 120)
    assert gain_db(resonant, np.sin(2 * np.pi * 500 * np.arange(16_000) / 16_000), 500) == pytest.approx(9, abs=0.3)


def test_modulation_envelope_opens_the_filter() -> None:
    plain = np.sin(2 * np.pi * 2000 * np.arange(16_000) / 16_000)
    generators = {CUTOFF: round(1200 * np.log2(500 / 8.176)), 9: 0, ENVELOPE_TO_CUTOFF: 4800}
    openness = np.where(np.arange(16_000) < 8_000, 1.0, 0.0)
    wave = _low_pass(plain, generators, 127, openness)
    assert gain_db(wave[1000:7000], plain[1000:7000], 2000) == pytest.approx(0, abs=0.5)
    assert gain_db(wave[9000:15000], plain[9000:15000], 2000) == pytest.approx(-24, abs=0.5)


def test_soft_notes_are_darker() -> None:
    plain = np.sin(2 * np.pi * 7000 * np.arange(16_000) / 16_000)
    generators = {CUTOFF: 13_500, 9: 0, ENVELOPE_TO_CUTOFF: 0}
    loud, soft = (_low_pass(plain, generators, velocity, np.ones(16_000)) for velocity in (127, 25))
    assert gain_db(loud, plain, 7000) == 0
    assert gain_db(soft, plain, 7000) < -3


def test_loudness_follows_velocity_and_nothing_else(tmp_path: Path) -> None:
    for index, attenuation in enumerate((0, 300)):
        (tmp_path / str(index)).mkdir()
        sound = font(tmp_path / str(index), [(ATTENUATION, attenuation)])
        for velocity in (25, 127):
            assert np.abs(note(sound, velocity=velocity)).max() == pytest.approx(0.7 * velocity / 127, rel=1e-5)


def test_same_note_is_the_same_array(tmp_path: Path) -> None:
    first, second = note(font(tmp_path, [])), note(font(tmp_path, []))
    assert first.dtype == np.float32
    assert np.array_equal(first, second)


def test_key_outside_every_zone_is_silent(tmp_path: Path) -> None:
    path = tmp_path / "font.sf2"
    path.write_bytes(soundfont({0: ([(43, 60 << 8)], []), 3: ([], [])}))  # keys 0 to 60
    sound = SoundFont(path)
    assert sound.programs == (0, 3)
    assert note(sound, pitch=60).any()
    assert not note(sound, pitch=61).any()
    assert len(sound.regions(3, 61, 100)) == 1


@pytest.mark.parametrize("content", [b"", b"RIFF\x04\0\0\0WAVE", b"RIFF\x04\0\0\0sfbk", b"a text about soundfonts"])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "font.sf2"
    path.write_bytes(content)
    with pytest.raises(LayoutError, match=r"expected a soundfont .* at .*font\.sf2"):
        SoundFont(path)
    with pytest.raises(LayoutError, match="expected a soundfont"):
        SoundFont(tmp_path / "absent.sf2")


def test_damaged_vorbis_sample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "font.sf3"
    content = soundfont({0: ([], [])}, vorbis=True)
    path.write_bytes(content.replace(b"OggS", b"Nope"))
    with pytest.raises(LayoutError, match="expected Vorbis audio for sample 'sine'"):
        note(SoundFont(path))


def test_absurd_settings_are_taken_for_the_ends_of_their_ranges(tmp_path: Path) -> None:
    times = [(number, 32_000) for number in (DELAY, ATTACK, DECAY, RELEASE)]
    assert np.isfinite(note(font(tmp_path, [*times, (FINE_TUNE, 32_000)]), duration_s=0.1)).all()


def test_a_rate_that_cannot_be_played_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match=r"font\.sf2: .* played at a rate from 100 to 1\.67772e\+07 Hz for key 127"):
        note(font(tmp_path, [(56, 1200), (ROOT_KEY, 0)]), pitch=127)


@pytest.mark.parametrize(
    ("chunk", "place"),
    [
        (b"inst", 22 + 20),  # the second instrument's first zone, where those of the first end
        (b"igen", -6),  # the last one's sample
        (b"shdr", 36),  # the first sample's rate
    ],
)
def test_links_beyond_the_tables_are_refused(tmp_path: Path, chunk: bytes, place: int) -> None:
    content = bytearray(soundfont({0: ([], [])}))
    start = content.index(chunk) + 8
    size = int.from_bytes(content[start - 4 : start], "little")
    at = start + place % size
    content[at : at + 4] = b"\0\0\0\0" if chunk == b"shdr" else b"\xff\x7f" + content[at + 2 : at + 4]
    (tmp_path / "a.sf2").write_bytes(content)
    with pytest.raises(LayoutError, match=r"a\.sf2"):
        note(SoundFont(tmp_path / "a.sf2"))
