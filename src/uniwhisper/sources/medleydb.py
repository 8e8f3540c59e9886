"""MedleyDB: 122 multitrack songs of all genres with instruments, their activity, and the melody's pitch.

Reads the multitracks (`Audio/<song>/`, with `<song>_METADATA.yaml` there or in `Metadata/`, and annotation files in any
folder below `Annotations/`, where their names tell them apart), of version 1 and 2; and the subsets MedleyDB-Melody and
MedleyDB-Pitch (`medleydb_melody_metadata.json`, `medleydb_pitch_metadata.json` and their folders). Clips:

* the mix of every song: its instruments as labels, when they play as events (`_SOURCEID.lab`), genre and vocals as
  attributes, and the notes of all melodic lines (`_MELODY3.csv`, else `_MELODY2.csv` or `_MELODY1.csv`), whose
  instrument is `melody`, because the accompaniment is not annotated;
* every stem with annotated pitch (`<song>_STEM_NN.csv`): its instrument and its notes.

Pitch is annotated as contours; `_contours.py` says how they become notes. Artist, title and the like are metadata; the
artist is the group. Not labels: `Main System` and `Unlabeled`, which are no instruments. Not kept: raw tracks, other
stems, confidence curves, rankings, and notes that software estimated. `Metadata/` also describes songs that were never
released: where there is `Audio/`, its folders say which songs there are. Dropped: stems into which other instruments
bleed; hence the tolerance.

Source: https://medleydb.weebly.com/description.html; https://github.com/marl/medleydb (names of files, fields); folders
of version 1: https://github.com/marl/jams (its parser); subsets: https://zenodo.org/records/2628782 and 2620624.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from uniwhisper.errors import LayoutError
from uniwhisper.identifiers import upstream
from uniwhisper.sources._context import Context
from uniwhisper.sources._contours import read_contours
from uniwhisper.sources._fields import plain_name, text_field, upstream_at
from uniwhisper.sources._read import read_csv, read_json
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.sources._yaml import read_yaml
from uniwhisper.types import Annotation, Clip, Event, Note

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="medleydb",
    version="1.0",
    homepage="https://medleydb.weebly.com/",
    license="CC-BY-NC-SA-4.0",
    citation="R. Bittner et al., MedleyDB: A Multitrack Dataset for Annotation-Intensive MIR Research, ISMIR 2014",
    domain="music",
    families=(
        "tagging",
        "event_detection",
        "note_transcription",
        "question_answering",
        "audio_text_matching",
        "attribute_prediction",
    ),
    languages=(),
    splits=("train",),
    uses=("training",),
    description="Songs of all genres and single stems with instruments, their activity and melodies.",
    not_downloadable="the archives: ask for access on Zenodo (records 1649325, 1715175, 2628782, 2620624); the "
    "annotations are also in https://github.com/marl/medleydb (medleydb/data)",
    placement="Audio/<song>/  <song>_MIX.wav, <song>_STEMS/ and, of version 1, <song>_METADATA.yaml\n"
    "Metadata/  <song>_METADATA.yaml of the repository, for version 2\n"
    "Annotations/  as in the archive of version 1 or in the repository\n"
    "medleydb_melody_metadata.json, audio/, melody1/, melody2/, melody3/  instead or besides: MedleyDB-Melody\n"
    "medleydb_pitch_metadata.json, audio/, pitch/  instead or besides: MedleyDB-Pitch",
    num_clips=122,
    hours=7.3,
    drop_tolerance=0.25,
)

_NO_INSTRUMENTS = ("Main System", "Unlabeled")
_YES = ("yes", True)
_MELODIES = ("MELODY3", "MELODY2", "MELODY1")
_FACTS = ("artist", "title", "album", "composer", "producer", "origin", "website", "version", "excerpt", "has_bleed")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield the mixes, and the stems with annotated pitch.

    Raises:
        LayoutError: The folder is none of the layouts, or a file in it is broken; the message names file and row.
    """
    metadata = sorted((*root.glob("Audio/*/*_METADATA.yaml"), *root.glob("Metadata/*_METADATA.yaml")))
    subsets = [path for kind in ("melody", "pitch") if (path := root / f"medleydb_{kind}_metadata.json").is_file()]
    if not (metadata or subsets):
        ctx.require(root / "Audio", root)
    files = {path.name: path for path in sorted((root / "Annotations").rglob("*_*"), reverse=True)}
    seen: set[str] = set()
    for path in metadata:
        song = path.name.removesuffix("_METADATA.yaml")
        if song not in seen and (not (root / "Audio").is_dir() or (root / "Audio" / song).is_dir()):
            seen.add(song)
            ctx.rows[path] += 1
            yield from _multitrack(song, read_yaml(path), path, root, files, ctx)
    for path in subsets:
        yield from _subset(path, root, seen, ctx)


def _multitrack(
    song: str, facts: dict[str, Any], path: Path, root: Path, files: dict[str, Path], ctx: Context
) -> Iterator[Clip]:
    stems = facts.get("stems")
    if not isinstance(stems, dict) or not all(isinstance(stem, dict) for stem in stems.values()):
        raise LayoutError(f"{path}: expected stems by name, found {str(stems)[:60]!r}")
    instruments = {name: _instruments(stem.get("instrument"), f"{path}: stem {name}") for name, stem in stems.items()}
    activity = files.get(f"{song}_SOURCEID.lab")
    annotation = Annotation(
        labels=tuple(sorted({label for labels in instruments.values() for label in labels})),
        attributes=_heard(facts, str(path)),
        events=tuple(_events(activity, ctx)) if activity else (),
        notes=_melody((files.get(f"{song}_{kind}.csv") for kind in _MELODIES), ctx),
        metadata=_metadata(facts),
    )
    yield _clip(song, root / "Audio" / song / f"{song}_MIX.wav", song, annotation)
    for name, stem in stems.items():
        contour = files.get(f"{song}_STEM_{str(name).removeprefix('S')}.csv")
        if contour is None:
            continue
        if facts.get("has_bleed") in _YES:
            ctx.drop(contour.stem, "other instruments bleed into the stem")
            continue
        audio = root / "Audio" / song / f"{song}_STEMS" / text_field(stem, "filename", f"{path}: stem {name}")
        yield _clip(contour.stem, audio, song, _stem(contour, instruments[name], _metadata(facts), ctx))


def _subset(path: Path, root: Path, seen: set[str], ctx: Context) -> Iterator[Clip]:
    """Yield the clips of MedleyDB-Melody or MedleyDB-Pitch that the multitracks have not given."""
    songs = read_json(path)
    if not isinstance(songs, dict) or not all(isinstance(facts, dict) for facts in songs.values()):
        raise LayoutError(f"{path}: expected an object of songs, found otherwise")
    for name, facts in songs.items():
        ctx.rows[path] += 1
        song, where = plain_name(name, str(path)).partition("_STEM_")[0], f"{path}: {name}"
        if song in seen:
            continue
        if song == name:
            notes = _melody((root / kind.lower() / f"{name}_{kind}.csv" for kind in _MELODIES), ctx)
            annotation = Annotation(attributes=_heard(facts, where), notes=notes, metadata=_metadata(facts))
            yield _clip(name, root / "audio" / f"{name}_MIX.wav", song, annotation)
        else:
            labels, pitch = _instruments(facts.get("instrument"), where), root / "pitch" / f"{name}.csv"
            annotation = _stem(pitch, labels, _metadata(facts), ctx)
            yield _clip(name, root / "audio" / f"{name}.wav", song, annotation)


def _clip(clip_id: str, audio: Path, song: str, annotation: Annotation) -> Clip:
    return Clip(
        id=clip_id,
        source=SPEC.name,
        path=str(audio),
        split="train",
        duration_s=0.0,
        domain="music",
        annotation=annotation,
        group=song.partition("_")[0],
        license=SPEC.license,
        upstream_ids=(upstream_at(str(audio), upstream, "medleydb", clip_id),),
    )


def _stem(contour: Path, labels: tuple[str, ...], metadata: dict[str, str], ctx: Context) -> Annotation:
    instrument = labels[0] if len(labels) == 1 else ""
    notes = read_contours(ctx, contour, instrument=instrument, lines=1)
    attributes = {"instrument": instrument} if instrument else {}
    return Annotation(labels=labels, attributes=attributes, notes=notes, metadata=metadata)


def _melody(paths: Iterable[Path | None], ctx: Context) -> tuple[Note, ...]:
    """Return the notes of the first annotation that is there: the one with the most lines."""
    path = next((path for path in paths if path is not None and path.is_file()), None)
    return read_contours(ctx, path, instrument="melody") if path else ()


def _events(path: Path, ctx: Context) -> Iterator[Event]:
    for row in read_csv(ctx, path, columns=("start_time", "end_time", "instrument_label")):
        if row["instrument_label"] not in _NO_INSTRUMENTS:
            onset_s = row.number("start_time", low=0)
            offset_s = row.number("end_time", low=onset_s)
            yield Event(label=row["instrument_label"], onset_s=onset_s, offset_s=offset_s)


def _instruments(value: object, where: str) -> tuple[str, ...]:
    """Return the instruments of a stem: one name or several."""
    names = value if isinstance(value, list) else [value]
    if not all(isinstance(name, str) and name.strip() for name in names):
        raise LayoutError(f"{where}: expected an instrument or a list of them, found {value!r}")
    return tuple(str(name).strip() for name in names if name not in _NO_INSTRUMENTS)


def _heard(facts: dict[str, Any], where: str) -> dict[str, str]:
    """Return what can be heard of a whole song."""
    instrumental = facts.get("instrumental", facts.get("is_instrumental"))
    return {"genre": text_field(facts, "genre", where).lower(), "vocals": "no" if instrumental in _YES else "yes"}


def _metadata(facts: dict[str, Any]) -> dict[str, str]:
    """Return the facts that are stated, as text."""
    values = {name: facts.get(name) for name in _FACTS}
    texts = {name: ", ".join(map(str, value)) if isinstance(value, list) else value for name, value in values.items()}
    return {name: str(value).strip() for name, value in texts.items() if str(value or "").strip() not in ("", "None")}
