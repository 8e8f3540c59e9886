"""MAESTRO: 199 hours of piano competition, recorded together with the keys and pedals of the instrument.

Reads `maestro-v*.csv`, or where there is none `maestro-v*.json` (both of its forms: a list of objects up to version 2,
an object of columns in version 3), and the MIDI file of every performance. Kept: the notes, composer, title and year.
Notes last as long as they sound: while the sustain pedal is down a released note goes on until the pedal comes up or
the key is struck again, as in the publisher's own transcription models and in later ones (see `_midi.py`). Velocities
are not kept. Dropped: performances whose MIDI file is missing. A composition, by composer and title, is a group; the
publisher's split keeps it in one part. In a dry run of the table alone, without any MIDI file, performances are listed
without notes.

Source: https://magenta.withgoogle.com/datasets/maestro (columns, splits, sizes, hashes); Hawthorne et al.,
arXiv 1810.12247; note lengths: Hawthorne et al., arXiv 1710.11153, Kong et al., arXiv 2010.01815.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import relative_path, text_field
from uniwhisper.sources._midi import read_notes
from uniwhisper.sources._read import read_csv, read_json
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._vocabulary import Vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_ADDRESS = "https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0"

SPEC = SourceSpec(
    name="maestro",
    version="3.0.0",
    homepage="https://magenta.withgoogle.com/datasets/maestro",
    license="CC-BY-NC-SA-4.0",
    citation="C. Hawthorne et al., Enabling Factorized Piano Music Modeling and Generation with the MAESTRO Dataset, "
    "ICLR 2019",
    domain="music",
    families=("tagging", "note_transcription", "question_answering", "audio_text_matching", "attribute_prediction"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="Performances of a piano competition with all notes and pedals.",
    remotes=(
        Remote(
            url=f"{_ADDRESS}/maestro-v3.0.0.zip",
            checksum="sha256:6680fea5be2339ea15091a249fbd70e49551246ddbd5ca50f1b2352c08c95291",
        ),
    ),
    placement="maestro-v3.0.0.csv  the table (of version 1, 2 or 3; the .json does as well)\n"
    "2004/ ... 2018/  .midi and .wav files, two of each performance; the archive of 101 GB unpacks to 120 GB",
    num_clips=1_276,
    hours=198.7,
)

_COLUMNS = ("canonical_composer", "canonical_title", "split", "year", "midi_filename", "audio_filename")
_SPLITS = Vocabulary(name=SPEC.name, labels={"train": "train", "validation": "valid", "test": "test"})


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per performance.

    Raises:
        LayoutError: The table is missing or lacks a column, names a file outside the corpus, or a MIDI file is broken.
    """
    table_only = ctx.dry_run and not any(root.rglob("*.midi"))
    for row, where in _rows(root, ctx):
        values = {name: text_field(row, name, where) for name in _COLUMNS}
        midi = relative_path(values["midi_filename"], where)
        clip_id = midi.with_suffix("").as_posix()
        split = _SPLITS.label(values["split"], where)
        if not (table_only or (root / midi).is_file()):
            ctx.drop(clip_id, f"notes missing: no {midi}")
            continue
        notes = () if table_only else read_notes(root / midi, instrument="piano", pedal=True)
        yield Clip(
            id=clip_id,
            source=SPEC.name,
            path=str(root / relative_path(values["audio_filename"], where)),
            split=split,
            duration_s=0.0,
            domain="music",
            annotation=Annotation(
                labels=("piano",),
                attributes={"instrument": "piano"},
                notes=notes,
                metadata={
                    "composer": values["canonical_composer"],
                    "title": values["canonical_title"],
                    "year": values["year"],
                },
            ),
            group=f"{values['canonical_composer']}: {values['canonical_title']}",
            license=SPEC.license,
        )


def _rows(root: Path, ctx: Context) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Yield every performance and where it stands, from the newest table."""
    tables = sorted(root.glob("maestro-v*.csv"))
    if tables:
        for row in read_csv(ctx, tables[-1], columns=_COLUMNS):
            yield row, row.where
        return
    files = sorted(root.glob("maestro-v*.json"))
    if not files:
        ctx.require(root / "maestro-v3.0.0.csv", root)
    for index, row in enumerate(_objects(read_json(files[-1]), files[-1])):
        ctx.rows[files[-1]] += 1
        yield row, f"{files[-1]}: performance {index}"


def _objects(content: Any, path: Path) -> Iterator[Mapping[str, Any]]:
    """Yield the objects of a list, or of an object that holds every column as index -> value."""
    if isinstance(content, dict) and content and all(isinstance(column, dict) for column in content.values()):
        columns = cast(dict[str, dict[str, Any]], content)
        for index in next(iter(columns.values())):
            yield {name: column.get(index) for name, column in columns.items()}
    elif isinstance(content, list) and all(isinstance(row, dict) for row in content):
        yield from cast(list[dict[str, Any]], content)
    else:
        raise LayoutError(f"{path}: expected a list of performances, or columns of them, found otherwise")
