"""GuitarSet: six players comping and soloing on an acoustic guitar, with notes, tempo, key, chords and beats.

Reads `annotation/<excerpt>.jams` and, of the four recordings of every excerpt, the one through the reference
microphone (`audio_mono-mic/<excerpt>_mic.wav`), or where that folder is missing the mix of the pickup
(`audio_mono-pickup_mix/<excerpt>_mix.wav`). Notes come from the six `note_midi` annotations, one per string; their
pitches are fractional MIDI numbers and are rounded to the nearest semitone, halves up. Style, playing, tempo and key
are attributes; instructed and performed chords and beats are kept as metadata, with times in seconds of the recording.
Not kept: on which string a note is played, the pitch contours that the notes summarise, and recordings of single
strings. Dropped: two excerpts whose times the publisher declares wrong.

Source: https://zenodo.org/records/3371780 (version 1.1.0); names of files and meaning of their parts:
https://github.com/marl/GuitarSet; layout also as in https://github.com/mir-dataset-loaders/mirdata
(mirdata/datasets/guitarset.py). The corpus has no split; players are groups.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._jams import Jams, Observation, read_jams
from uniwhisper.sources._read import number
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.types import Annotation, Clip, Note

__all__ = ["SPEC", "convert"]

_ZENODO = "https://zenodo.org/records/3371780/files"

SPEC = SourceSpec(
    name="guitarset",
    version="1.1.0",
    homepage="https://guitarset.weebly.com/",
    license="CC-BY-4.0",
    citation="Q. Xi et al., GuitarSet: A Dataset for Guitar Transcription, ISMIR 2018",
    domain="music",
    families=(
        "tagging",
        "note_transcription",
        "question_answering",
        "audio_text_matching",
        "attribute_prediction",
    ),
    languages=(),
    splits=("train",),
    uses=("training",),
    description="Acoustic guitar, comping and soloing in five styles, with notes, tempo, key, chords and beats.",
    remotes=(
        Remote(url=f"{_ZENODO}/annotation.zip", size_bytes=39_132_574, checksum="md5:b39b78e63d3446f2e54ddb7a54df9b10"),
        Remote(
            url=f"{_ZENODO}/audio_mono-mic.zip",
            size_bytes=656_927_981,
            checksum="md5:275966d6610ac34999b58426beb119c3",
        ),
    ),
    placement="annotation/  the .jams files of annotation.zip\naudio_mono-mic/  the .wav files of audio_mono-mic.zip",
    num_clips=360,
    hours=3.05,
    drop_tolerance=0.01,
)

_NAME = re.compile(
    r"(?P<player>\d\d)_(?P<style>BN|Funk|Jazz|Rock|SS)(?P<progression>\d)-(?P<tempo>\d+)-(?P<key>[A-G][b#]?)"
    r"_(?P<playing>comp|solo)"
)
_STYLES = {"BN": "bossa nova", "Funk": "funk", "Jazz": "jazz", "Rock": "rock", "SS": "singer-songwriter"}
_PLAYING = {"comp": "comping", "solo": "soloing"}
_LATE_S = {"04_BN3-154-E_comp": 0.409, "04_Jazz1-200-B_comp": 0.309}
"""Excerpts whose annotation lags. Source: https://github.com/marl/GuitarSet/issues/5, taken over into the readme."""


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per excerpt.

    Raises:
        LayoutError: The folder is not laid out as published, or a name, a time or a pitch in it makes no sense.
    """
    annotations = ctx.require(root / "annotation", root)
    folder, suffix = root / "audio_mono-mic", "mic"
    if not folder.is_dir() and (root / "audio_mono-pickup_mix").is_dir():
        folder, suffix = root / "audio_mono-pickup_mix", "mix"
    for path in sorted(annotations.glob("*.jams")):
        match = _NAME.fullmatch(path.stem)
        if match is None:
            raise LayoutError(f"{path}: expected a name like 00_BN1-129-Eb_comp.jams (player, style, tempo, key, mode)")
        ctx.rows[path] += 1
        if path.stem in _LATE_S:
            ctx.drop(path.stem, f"times are late, says the publisher: by {_LATE_S[path.stem]} s")
            continue
        yield Clip(
            id=path.stem,
            source=SPEC.name,
            path=str(ctx.audio(folder, f"{path.stem}_{suffix}")),
            split="train",
            duration_s=0.0,
            domain="music",
            annotation=_annotation(read_jams(path), match),
            speaker=match["player"],
            group=f"player {match['player']}",
            license=SPEC.license,
        )


def _annotation(jams: Jams, name: re.Match[str]) -> Annotation:
    attributes = {
        "instrument": "acoustic guitar",
        "style": _STYLES[name["style"]],
        "playing": _PLAYING[name["playing"]],
        "tempo": f"{int(name['tempo'])} BPM",
    }
    keys = {_name(item) for annotation in jams.of("key_mode") for item in annotation.observations}
    if len(keys) == 1:
        attributes["key"] = keys.pop().replace(":", " ")
    metadata = {"progression": name["progression"], "key of the lead sheet": name["key"]}
    for kind, chords in zip(("instructed", "performed"), jams.of("chord"), strict=False):
        spans = [f"{_name(item)} {item.time_s:.3f}-{item.end_s:.3f}" for item in chords.observations]
        metadata |= {f"{kind} chords": "; ".join(spans)} if spans else {}
    beats = [
        f"{item.time_s:.3f}/{item.value['position']}"
        for annotation in jams.of("beat_position")
        for item in annotation.observations
        if isinstance(item.value, dict) and "position" in item.value
    ]
    metadata |= {"beats": " ".join(beats)} if beats else {}
    return Annotation(labels=("acoustic guitar",), attributes=attributes, notes=_notes(jams), metadata=metadata)


def _name(item: Observation) -> str:
    """Return the name of a key or chord."""
    if not isinstance(item.value, str) or not item.value.strip():
        raise LayoutError(f"{item.where}: expected the name of a key or chord, found {repr(item.value)[:80]}")
    return item.value


def _notes(jams: Jams) -> tuple[Note, ...]:
    """Return the notes of all strings."""
    notes = (
        Note(
            pitch=math.floor(number(item.value, f"{item.where}: pitch", low=0, high=127) + 0.5),
            onset_s=round(item.time_s, 4),
            offset_s=round(item.end_s, 4),
            instrument="guitar",
        )
        for string in jams.of("note_midi")
        for item in string.observations
    )
    return tuple(sorted(notes, key=lambda note: (note.onset_s, note.pitch, note.offset_s)))
