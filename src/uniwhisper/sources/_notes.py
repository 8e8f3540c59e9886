"""Single notes of the General MIDI instruments, rendered from a soundfont: what both soundfont sources share.

Reads `labels/gm_programs.csv` beside this module: General MIDI program (counted from 0), name, NSynth family, lowest
and highest key, and the split that the program has where a soundfont is used for evaluation. Writes 2-second notes:
the key is struck at 0 s and let go at 1.5 s. Programs that fit no family (accordions, timpani, orchestra hit, pads but
for the choir, effects, ethnic, percussive) are not in the table.

The 11 families are NSynth's; which program belongs to which is ours, after the groups of General MIDI: piano is
keyboard, chromatic percussion is mallet, pipe is flute, ensemble is string or vocal. Keys are usual playing ranges.
Programs that TimGM6mb builds from the same recordings (the four pianos, violin and viola, ...) share a split.

Source: NSynth, arXiv:1704.01279, section 2.2 (families, the five velocities); General MIDI Level 1 sound set.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._soundfont import SoundFont
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.sources._synth import render_note
from uniwhisper.types import Annotation, Clip
from uniwhisper.types import Note as NoteAnnotation

__all__ = ["LABEL_SET", "Program", "note_clips", "note_name", "plan_notes", "programs"]

LABEL_SET = "instrument family"
_DURATION_S = 2.0
_RELEASE_AT_S = 1.5
_VELOCITIES = (100, 50, 127, 75, 25)
"""NSynth's five, in an order that spreads neighbouring keys."""
_PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")


@dataclass(frozen=True, kw_only=True, slots=True)
class Program:
    """A General MIDI program of one of the families."""

    number: int
    name: str
    family: str
    low: int
    """Lowest MIDI key that is rendered; `high` is the highest."""
    high: int
    split: str
    """Its split in an evaluation corpus."""


def programs() -> list[Program]:
    """Return the programs that belong to a family, in order."""
    text = files("uniwhisper.sources").joinpath("labels", "gm_programs.csv").read_text(encoding="utf-8")
    return [
        Program(
            number=int(row["program"]),
            name=row["name"],
            family=row["family"],
            low=int(row["low"]),
            high=int(row["high"]),
            split=row["split"],
        )
        for row in csv.DictReader(text.splitlines())
    ]


def note_name(pitch: int) -> str:
    """Return the name of a MIDI key, 60 being C4."""
    return f"{_PITCH_CLASSES[pitch % 12]}{pitch // 12 - 1}"


def plan_notes(program: Program, num_pitches: int, num_velocities: int) -> list[tuple[int, int]]:
    """Return (key, velocity) pairs: keys spread evenly over the range, each at `num_velocities` velocities."""
    pitches = [round(float(pitch)) for pitch in np.linspace(program.low, program.high, num_pitches)]
    offset = program.number  # so that programs do not all pair their lowest key with the same velocity
    return [
        (pitch, _VELOCITIES[(offset + index * num_velocities + turn) % len(_VELOCITIES)])
        for index, pitch in enumerate(pitches)
        for turn in range(num_velocities)
    ]


def note_clips(
    spec: SourceSpec, ctx: Context, path: Path, *, num_pitches: int, num_velocities: int, split: str = ""
) -> Iterator[Clip]:
    """Render the notes of the soundfont `path` and yield a clip for each; presets that it lacks are no part of it.

    Args:
        spec: The source's facts.
        ctx: Writes the audio and hears about notes that are silent.
        path: An SF2 or SF3 file.
        num_pitches: Keys per program.
        num_velocities: Velocities per key.
        split: Split of every note; the program's own by default.

    Raises:
        LayoutError: The file is not a soundfont.
    """
    font = SoundFont(path)
    known = [program for program in programs() if program.number in font.programs]
    if not known:
        raise LayoutError(f"{spec.name}: expected General MIDI presets in {path}, found programs {font.programs}")
    for program in known:
        for pitch, velocity in plan_notes(program, num_pitches, num_velocities):
            clip = _note_clip(spec, ctx, font, program, pitch, velocity, split or program.split)
            if clip is not None:
                yield clip


def _note_clip(
    spec: SourceSpec, ctx: Context, font: SoundFont, program: Program, pitch: int, velocity: int, split: str
) -> Clip | None:
    """Render one note; a silent one is dropped."""
    clip_id = f"{program.family}/{program.number:03d}-{pitch:03d}-{velocity:03d}"
    wave = render_note(
        font,
        program=program.number,
        pitch=pitch,
        velocity=velocity,
        duration_s=_DURATION_S,
        release_at_s=_RELEASE_AT_S,
    )
    if not wave.any():
        return ctx.drop(clip_id, "silent: the preset has no sample for this key")
    note = NoteAnnotation(pitch=pitch, onset_s=0.0, offset_s=_RELEASE_AT_S, instrument=program.name)
    return Clip(
        id=clip_id,
        source=spec.name,
        path=str(ctx.write_audio(clip_id, wave)),
        split=split,
        duration_s=len(wave) / SAMPLE_RATE,
        domain="music",
        annotation=Annotation(
            labels=(program.family,),
            label_set=LABEL_SET,
            attributes={"instrument": program.name, "pitch": note_name(pitch)},
            notes=(note,),
        ),
        group=f"program {program.number}",
        license=spec.license,
    )
