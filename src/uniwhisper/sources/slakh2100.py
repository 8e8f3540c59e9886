"""Slakh2100: 2100 pieces of the Lakh MIDI collection, rendered with sampled instruments and mixed: 145 hours.

Reads `<part>/TrackNNNNN/metadata.yaml` and the MIDI files of its stems, with parts train, validation and test and, of
the release without duplicates (redux), omitted; or `TrackNNNNN/` alone, as BabySlakh is laid out, all of it `train`.
One clip per mix (`mix.flac`, or .wav). Kept: the notes of all stems that were rendered, each with the class of its
instrument; the classes as labels; programs, number of drum hits and the MIDI file's name in Lakh as metadata. The class
says what is heard better than the program: a Harmonica may be played by an organ. Notes last while the sustain pedal is
down, as in MT3. Drums have no pitch, so their hits are no notes; they are in the labels. Not kept: stems as recordings
of their own, velocities, pitch bends.

The same MIDI file was rendered up to six times, also in different parts. Dropped: every piece in `omitted/`, every one
that `redux.json` omits (the publisher's list, if it is put into the folder), and of any others of the same MIDI file
all but the first; hence the tolerance. Dropped too: pieces without metadata or without a stem's MIDI file.

Source: https://zenodo.org/records/4599666 (archive); https://github.com/ethman/slakh-utils (README.md: layout and
fields; splits/README.md: duplicates and parts; midi_inst_values: classes, here under their General MIDI names); pedal:
https://github.com/magenta/mt3 (its transcription preprocessors).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import plain_name, text_field
from uniwhisper.sources._midi import read_notes
from uniwhisper.sources._read import read_json
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._vocabulary import Vocabulary, listed_vocabulary
from uniwhisper.sources._yaml import read_yaml
from uniwhisper.types import Annotation, Clip, Note

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="slakh2100",
    version="2100-redux",
    homepage="https://www.slakh.com/",
    license="CC-BY-4.0",
    citation="E. Manilow et al., Cutting Music Source Separation Some Slakh: A Dataset to Study the Impact of Training "
    "Data Quality and Quantity, WASPAA 2019",
    domain="music",
    families=("tagging", "classification", "note_transcription", "question_answering", "audio_text_matching"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="Mixes of rendered MIDI files with the notes of every instrument.",
    remotes=(
        Remote(
            url="https://zenodo.org/records/4599666/files/slakh2100_flac_redux.tar.gz",
            checksum="md5:f4b71b6c45ac9b506f59788456b3f0c4",
        ),
    ),
    placement="train/, validation/, test/  folders TrackNNNNN, each with mix.flac, metadata.yaml and MIDI/\n"
    "omitted/  duplicates, which slakh2100_flac_redux also unpacks; listed as dropped\n"
    "redux.json  optional, of slakh-utils: which duplicates of the release with all 2100 pieces are left out",
    num_clips=2_100,
    hours=145.0,
    drop_tolerance=0.2,
)

_PARTS = {"train": "train", "validation": "valid", "test": "test", "omitted": ""}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stem:
    name: str
    instrument: str
    program: str
    is_drum: bool


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per piece.

    Raises:
        LayoutError: The folder holds no pieces, or a metadata or MIDI file is broken or has an unknown instrument.
    """
    omitted = _omitted(root / "redux.json", ctx)
    classes = listed_vocabulary(SPEC.name)
    first: dict[str, str] = {}
    folders = [(part, folder) for part in _PARTS for folder in (root / part).glob("Track*")]
    folders += [("train", folder) for folder in root.glob("Track*")]
    if not folders:
        ctx.require(root / "train", root)
    for part, folder in sorted(folders, key=lambda item: item[1].name):
        path = folder / "metadata.yaml"
        if not path.is_file():
            ctx.drop(folder.name, "metadata.yaml missing")
            continue
        metadata = read_yaml(path)
        ctx.rows[path] += 1
        midi_name = text_field(metadata, "UUID", str(path))
        stems = list(_stems(metadata, path, classes))
        missing = [stem.name for stem in stems if not stem.is_drum and not _midi(folder, stem).is_file()]
        if part == "omitted" or folder.name in omitted:
            ctx.drop(folder.name, "duplicate MIDI file: omitted by the publisher")
        elif midi_name in first:
            ctx.drop(folder.name, f"duplicate MIDI file: as {first[midi_name]}")
        elif missing:
            ctx.drop(folder.name, f"notes missing: no MIDI/{missing[0]}.mid")
        else:
            first[midi_name] = folder.name
            yield _clip(folder, _PARTS[part], midi_name, stems, ctx)


def _omitted(path: Path, ctx: Context) -> set[str]:
    """Return the pieces that the publisher's list leaves out; none where there is no list."""
    if not path.is_file():
        return set()
    actions = read_json(path)
    if not isinstance(actions, dict) or not all(isinstance(item, dict) for item in actions.values()):
        raise LayoutError(f"{path}: expected an object of actions by piece, found otherwise")
    ctx.rows[path] += len(actions)
    return {name for name, item in actions.items() if item.get("action") == "omit"}


def _stems(metadata: dict[str, Any], path: Path, classes: Vocabulary) -> Iterator[_Stem]:
    """Yield the stems that are in the mix."""
    stems = metadata.get("stems")
    if not isinstance(stems, dict):
        raise LayoutError(f"{path}: expected stems by name, found {type(stems).__name__}")
    for name, stem in stems.items():
        where = f"{path}: stem {name}"
        if not isinstance(stem, dict):
            raise LayoutError(f"{where}: expected an object, found {stem!r}")
        # BabySlakh denies of every stem that it was rendered, but states the loudness of those that were.
        if stem.get("audio_rendered") is True or "integrated_loudness" in stem:
            yield _Stem(
                name=plain_name(str(name), where),
                instrument=classes.label(stem.get("inst_class"), f"{where}: inst_class"),
                program=text_field(stem, "midi_program_name", where),
                is_drum=stem.get("is_drum") is True,
            )


def _midi(folder: Path, stem: _Stem) -> Path:
    return folder / "MIDI" / f"{stem.name}.mid"


def _clip(folder: Path, split: str, midi_name: str, stems: list[_Stem], ctx: Context) -> Clip:
    notes: list[Note] = []
    drum_hits = 0
    for stem in stems:
        path = _midi(folder, stem)
        if not stem.is_drum:
            ctx.rows[path] += 1
            notes += read_notes(path, instrument=stem.instrument, pedal=True)
        elif path.is_file():
            ctx.rows[path] += 1
            drum_hits += len(read_notes(path))
    notes.sort(key=lambda note: (note.onset_s, note.pitch, note.instrument, note.offset_s))
    return Clip(
        id=folder.name,
        source=SPEC.name,
        path=str(ctx.audio(folder, "mix")),
        split=split,
        duration_s=0.0,
        domain="music",
        annotation=Annotation(
            labels=tuple(sorted({stem.instrument for stem in stems})),
            label_set=SPEC.name,
            notes=tuple(notes),
            metadata={
                "lakh_midi": midi_name,
                "programs": "; ".join(sorted({stem.program for stem in stems})),
                "drum_hits": str(drum_hits),
            },
        ),
        group=midi_name,
        license=SPEC.license,
    )
