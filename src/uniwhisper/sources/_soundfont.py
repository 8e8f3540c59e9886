"""Soundfonts (SF2, and SF3 with Vorbis samples): from a file to the regions that sound for one note.

Reads one `.sf2` or `.sf3` file; writes nothing. A region is one sample with the settings that the note's preset and
instrument give it. Only melodic presets matter here: bank 0, programs 0 to 127. Read are samples, loops, tuning, both
envelopes, filter and attenuation; modulators, vibrato, panning, chorus and reverb are not.

Source: SoundFont Technical Specification 2.04, sections 5 (RIFF layout), 7 (the pdta chunks), 8 (generators), 9.4
(how zones add up). SF3 (MuseScore's extension): sample type bit 0x10 marks a Vorbis stream at byte offsets.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from uniwhisper.errors import LayoutError

__all__ = ["Region", "Sample", "SoundFont"]

_INSTRUMENT, _KEY_RANGE, _VELOCITY_RANGE, _SAMPLE = 41, 43, 44, 53
_DEFAULTS = {
    **dict.fromkeys((0, 1, 2, 3, 4, 9, 11, 12, 29, 31, 32, 37, 39, 40, 45, 48, 50, 51, 52, 54), 0),
    **dict.fromkeys((25, 26, 27, 28, 30, 33, 34, 35, 36, 38), -12_000),
    8: 13_500,
    56: 100,
    58: -1,
}
"""Generator number -> value where no zone sets it (section 8.1.3); others are not read."""
_NOT_ADDED = (_KEY_RANGE, _VELOCITY_RANGE, _SAMPLE, _INSTRUMENT, 54, 58)
"""Generators that a preset cannot change: ranges and links, sample modes, root key."""
_RANGES = {
    **dict.fromkeys((25, 27, 33, 35), (-12_000, 5_000)),
    **dict.fromkeys((26, 28, 30, 34, 36, 38), (-12_000, 8_000)),
    **dict.fromkeys((31, 32, 39, 40), (-1_200, 1_200)),
    51: (-120, 120),
    52: (-99, 99),
    56: (0, 1_200),
}
"""Generator number -> smallest and largest value; what lies beyond counts as the end of the range (section 8.1.3)."""
_VORBIS = 0x10
_FULL_RANGE = 0x7F00

Zone = dict[int, int]
"""Generator number -> amount."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """A recorded sample, as its header describes it."""

    name: str
    start: int
    """First sample (byte, for a Vorbis stream) in the sample chunk."""
    end: int
    loop_start: int
    """Relative to the first sample, as is `loop_end`."""
    loop_end: int
    sample_rate: int
    root_key: int
    correction_cents: int
    is_vorbis: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Region:
    """A sample with the settings for one note."""

    sample: Sample
    generators: Zone
    """Every generator of `_DEFAULTS`, added up over preset and instrument."""


class SoundFont:
    """The presets of one soundfont file."""

    def __init__(self, path: Path) -> None:
        """Read the file's tables; samples are decoded when they are asked for.

        Raises:
            LayoutError: The file is not a soundfont.
        """
        self.path = path
        """The file."""
        try:
            chunks = _chunks(path.read_bytes())
            self._smpl = chunks[b"smpl"]
            self._samples = [_sample(row) for row in _rows(chunks[b"shdr"], "<20s5IBbHH")]
            self._presets = {
                (bank, program): (first, last)
                for (_, program, bank, first, *_), (_, _, _, last, *_) in _pairs(_rows(chunks[b"phdr"], "<20sHHHIII"))
            }
            self._preset_zones = _zones(chunks[b"pbag"], chunks[b"pgen"])
            self._instruments = [(a[1], b[1]) for a, b in _pairs(_rows(chunks[b"inst"], "<20sH"))]
            self._instrument_zones = _zones(chunks[b"ibag"], chunks[b"igen"])
        except (OSError, KeyError, struct.error, ValueError) as e:
            raise LayoutError(f"expected a soundfont (SF2 or SF3) at {path}, found a file that is none: {e!r}") from e
        self.wave = cache(self._wave)

    @property
    def programs(self) -> tuple[int, ...]:
        """The General MIDI programs that bank 0 has presets for, sorted."""
        return tuple(sorted(program for bank, program in self._presets if bank == 0))

    def regions(self, program: int, key: int, velocity: int) -> list[Region]:
        """Return what sounds when `key` of the preset `program` of bank 0 is struck with `velocity` (1 to 127).

        Raises:
            LayoutError: The preset's zones, instruments or samples are not in the file.
        """
        found = []
        try:
            for preset in _matching(self._preset_zones, self._presets[0, program], _INSTRUMENT, key, velocity):
                bags = self._instruments[preset[_INSTRUMENT]]
                for zone in _matching(self._instrument_zones, bags, _SAMPLE, key, velocity):
                    generators = {
                        number: _within(number, zone.get(number, default), preset)
                        for number, default in _DEFAULTS.items()
                    }
                    found.append(Region(sample=self._samples[zone[_SAMPLE]], generators=generators))
        except IndexError as e:
            raise LayoutError(
                f"expected the zones of program {program} to be in {self.path}, found one beyond its tables: damaged"
            ) from e
        return found

    def _wave(self, sample: Sample) -> np.ndarray:
        """Return the sample's wave [samples] at its own rate, float32 in [-1, 1]; decoded once.

        Raises:
            LayoutError: A compressed sample cannot be decoded, or the sample lies outside the file.
        """
        if sample.is_vorbis:
            try:
                wave, _ = soundfile.read(io.BytesIO(self._smpl[sample.start : sample.end]), dtype="float32")
            except (soundfile.LibsndfileError, RuntimeError) as e:
                raise LayoutError(f"expected Vorbis audio for sample {sample.name!r} of {self.path}, found: {e}") from e
        else:
            content = self._smpl[2 * sample.start : 2 * sample.end]
            values = np.frombuffer(content[: len(content) // 2 * 2], dtype="<i2")
            wave = values.astype(np.float32) / 32_768
        if wave.ndim != 1 or len(wave) == 0:
            raise LayoutError(f"expected mono audio for sample {sample.name!r} of {self.path}, found {wave.shape}")
        return wave


def _within(number: int, amount: int, preset: Zone) -> int:
    """Return a generator's sum over instrument and preset, within the range of those that are times and tunings."""
    total = amount + (0 if number in _NOT_ADDED else preset.get(number, 0))
    low, high = _RANGES.get(number, (-0x8000 * 2, 0x7FFF * 2))
    return min(max(total, low), high)


def _chunks(content: bytes) -> dict[bytes, bytes]:
    """Return chunk name -> content, of all lists of the RIFF file."""
    if content[:4] != b"RIFF" or content[8:12] != b"sfbk":
        raise ValueError(f"the file begins with {content[:12]!r}")
    found: dict[bytes, bytes] = {}
    offset = 12
    while offset + 8 <= len(content):
        name, size = struct.unpack_from("<4sI", content, offset)
        if name == b"LIST":
            offset += 12  # step into the list
            continue
        found[name] = content[offset + 8 : offset + 8 + size]
        offset += 8 + size
        if size % 2 and content[offset : offset + 1] == b"\0":  # SF3 files leave out the padding of odd chunks
            offset += 1
    return found


def _rows(chunk: bytes, layout: str) -> list[tuple]:
    return list(struct.iter_unpack(layout, chunk))


def _pairs(rows: list[tuple]) -> Iterator[tuple[tuple, tuple]]:
    """Yield each row with the next: a record's zones end where those of the next begin; the last is a terminator."""
    return pairwise(rows)


def _sample(row: tuple) -> Sample:
    name, start, end, loop_start, loop_end, sample_rate, root_key, correction, _, kind = row
    is_vorbis = bool(kind & _VORBIS)
    origin = 0 if is_vorbis else start
    return Sample(
        name=name.split(b"\0")[0].decode("latin-1"),
        start=start,
        end=end,
        loop_start=loop_start - origin,
        loop_end=loop_end - origin,
        sample_rate=sample_rate,
        root_key=root_key if root_key <= 127 else 60,
        correction_cents=correction,
        is_vorbis=is_vorbis,
    )


def _zones(bags: bytes, generators: bytes) -> list[Zone]:
    """Return the generators of every zone."""
    amounts = _rows(generators, "<HH")
    zones = []
    for (first, _), (last, _) in _pairs(_rows(bags, "<HH")):
        zone = {}
        for number, amount in amounts[first:last]:
            is_link = number in (_KEY_RANGE, _VELOCITY_RANGE, _SAMPLE, _INSTRUMENT)
            zone[number] = amount if is_link or amount < 0x8000 else amount - 0x10000
        zones.append(zone)
    return zones


def _matching(zones: list[Zone], bags: tuple[int, int], link: int, key: int, velocity: int) -> Iterator[Zone]:
    """Yield the zones of one record that the note falls into, over the settings of the record's global zone."""
    shared: Zone = {}
    for index in range(*bags):
        zone = zones[index]
        if link not in zone:
            if index == bags[0]:  # only the first zone may be global; others without a link are to be ignored
                shared = zone
            continue
        merged = {**shared, **zone}
        keys, velocities = merged.get(_KEY_RANGE, _FULL_RANGE), merged.get(_VELOCITY_RANGE, _FULL_RANGE)
        if keys & 0xFF <= key <= keys >> 8 and velocities & 0xFF <= velocity <= velocities >> 8:
            yield merged
