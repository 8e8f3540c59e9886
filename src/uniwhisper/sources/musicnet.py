"""MusicNet: 330 recordings of classical chamber music with every note and its instrument.

Reads `musicnet_metadata.csv` and, of each recording, `train_labels/<id>.csv` or `test_labels/<id>.csv` (columns
start_time, end_time, instrument, note and others), in the folder itself or in `musicnet/`, as the archive unpacks.
Times are samples at 44.1 kHz; instruments are General MIDI programs counted from 1. Kept: notes with their instruments,
the ensemble as an attribute, instruments as labels; composer, composition, movement, performers, transcriber and
catalogue number as metadata. Not kept: positions in beats and note values of the score. Which part a recording belongs
to is where its labels lie; it is a group of its own, since the publisher's parts share compositions. Dropped:
recordings without a file of labels. A dry run of the table alone, without any label folder, lists the recordings
without notes.

Source: https://zenodo.org/records/5120004 (version 1.0, layout, checksums); Thickstun, Harchaoui, Kakade,
arXiv 1611.09827 (labels and times).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import plain_name
from uniwhisper.sources._read import Row, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._vocabulary import Vocabulary, listed_vocabulary
from uniwhisper.types import Annotation, Clip, Note

__all__ = ["SPEC", "convert"]

_ZENODO = "https://zenodo.org/records/5120004/files"

SPEC = SourceSpec(
    name="musicnet",
    version="1.0",
    homepage="https://zenodo.org/records/5120004",
    license="CC-BY-4.0",
    citation="J. Thickstun, Z. Harchaoui, S. Kakade, Learning Features of Music from Scratch, ICLR 2017",
    domain="music",
    families=(
        "tagging",
        "classification",
        "note_transcription",
        "question_answering",
        "audio_text_matching",
        "attribute_prediction",
    ),
    languages=(),
    splits=("train", "test"),
    uses=("training",),
    description="Classical chamber music and solos with all notes and their instruments.",
    remotes=(
        Remote(url=f"{_ZENODO}/musicnet.tar.gz", checksum="md5:844764911fa0d5b97c97da944a057590"),
        Remote(url=f"{_ZENODO}/musicnet_metadata.csv", checksum="md5:1caef62cee9c875235e62aac368b49d8"),
    ),
    placement="musicnet_metadata.csv  the table of recordings\n"
    "musicnet/<train|test>_data/, musicnet/<train|test>_labels/  .wav and .csv files, as musicnet.tar.gz unpacks",
    num_clips=330,
    hours=34.0,
)

_SAMPLE_RATE = 44_100
"""Samples per second of the labels' times. Source: arXiv 1611.09827, section 3."""
_COLUMNS = ("id", "composer", "composition", "movement", "ensemble", "source", "transcriber", "catalog_name")
_METADATA = ("composer", "composition", "movement", "source", "transcriber", "catalog_name")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per recording.

    Raises:
        LayoutError: The table or all labels are missing, or a row has a reversed time, a pitch or an instrument that
            there is not.
    """
    table = ctx.require(root / "musicnet_metadata.csv", root)
    folder = root / "musicnet" if (root / "musicnet").is_dir() else root
    table_only = ctx.dry_run and not any((folder / f"{part}_labels").is_dir() for part in SPEC.splits)
    if not table_only:
        ctx.require(folder / "train_labels", folder)
    instruments = listed_vocabulary(SPEC.name)
    for row in read_csv(ctx, table, columns=_COLUMNS):
        name = f"{plain_name(row['id'], row.where)}.csv"
        labels = [(part, folder / f"{part}_labels" / name) for part in SPEC.splits]
        part, path = next(((part, path) for part, path in labels if path.is_file()), ("train", None))
        if path is None and not table_only:
            ctx.drop(row["id"], f"notes missing: no <train|test>_labels/{row['id']}.csv")
            continue
        notes = () if path is None else tuple(_notes(path, ctx, instruments))
        yield _clip(row, part, notes, folder, ctx)


def _clip(row: Row, part: str, notes: tuple[Note, ...], folder: Path, ctx: Context) -> Clip:
    if not row["ensemble"]:
        raise LayoutError(f"{row.where}: expected an ensemble, found none")
    instruments = tuple(sorted({note.instrument for note in notes}))
    return Clip(
        id=row["id"],
        source=SPEC.name,
        path=str(ctx.audio(folder / f"{part}_data", row["id"])),
        split=part,
        duration_s=0.0,
        domain="music",
        annotation=Annotation(
            labels=instruments,
            label_set=SPEC.name if instruments else "",
            attributes={"ensemble": row["ensemble"].lower()},
            notes=notes,
            metadata={name: row[name] for name in _METADATA if row[name]},
        ),
        group=row["id"],
        license=SPEC.license,
    )


def _notes(path: Path, ctx: Context, instruments: Vocabulary) -> Iterator[Note]:
    """Yield the notes of one recording, in the file's order, which is that of their onsets."""
    for row in read_csv(ctx, path, columns=("start_time", "end_time", "instrument", "note")):
        start = row.number("start_time", low=0)
        yield Note(
            pitch=row.whole("note", high=127),
            onset_s=round(start / _SAMPLE_RATE, 4),
            offset_s=round(row.number("end_time", low=start) / _SAMPLE_RATE, 4),
            instrument=instruments.label(row["instrument"], f"{row.where}: instrument"),
        )
