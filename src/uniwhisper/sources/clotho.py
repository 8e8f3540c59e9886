"""Clotho 2.1: 5,929 Freesound recordings of 15 to 30 s, each with five captions by five people.

Reads `clotho_captions_<part>.csv`, `clotho_metadata_<part>.csv` and `<part>/*.wav` for the parts development (train),
validation (valid) and evaluation (test), those whose captions are there. Kept: all captions; Freesound id, uploader,
licence, keywords and place within the recording. Keywords are the uploader's and name gear and places as well as
sounds, so they are metadata and not labels. Rows without a Freesound id ("Not found") are kept without one. Nothing is
dropped by annotation.

Two oddities of the publisher's files: three names begin with a space, in the tables and in the folders; and the
metadata of development and validation is Latin-1 where the rest is UTF-8, so a table that is not UTF-8 is read as
Latin-1. (Byte 0xC1, which they hold, stands in no UTF-8 text, so neither can be taken for the other.) Recordings
86163 and 130603 are in development and in validation; that is for the identifier stage of `dedup`.

Source: https://zenodo.org/records/4783391 and its LICENSE; layout, encoding and checksums:
https://github.com/Labbeti/aac-datasets (datasets/functional/clotho.py),
https://github.com/soundata/soundata (soundata/datasets/clotho.py and its test resources).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import relative_path
from uniwhisper.sources._freesound import freesound_id, freesound_license
from uniwhisper.sources._read import Row, by_column, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_PARTS = {"development": "train", "validation": "valid", "evaluation": "test"}
_CAPTIONS = tuple(f"caption_{number}" for number in range(1, 6))
_METADATA = ("file_name", "keywords", "sound_id", "sound_link", "start_end_samples", "manufacturer", "license")
_ADDRESS = "https://zenodo.org/records/4783391/files"

SPEC = SourceSpec(
    name="clotho",
    version="2.1",
    homepage="https://zenodo.org/records/4783391",
    license="non-commercial, Tampere University (captions); Creative Commons, by recording (audio)",
    citation="K. Drossos, S. Lipping, T. Virtanen, Clotho: an Audio Captioning Dataset, ICASSP 2020",
    domain="sound",
    families=("captioning", "audio_text_matching"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="Freesound recordings of 15 to 30 s with five captions each.",
    remotes=tuple(
        Remote(url=f"{_ADDRESS}/clotho_{name}", size_bytes=size_bytes, checksum=f"md5:{md5}")
        for name, size_bytes, md5 in (
            ("audio_development.7z", 4_541_582_263, "c8b05bc7acdb13895bb3c6a29608667e"),
            ("audio_validation.7z", 1_260_701_425, "7dba730be08bada48bd15dc4e668df59"),
            ("audio_evaluation.7z", 0, "4569624ccadf96223f19cb59fe4f849f"),
            ("captions_development.csv", 1_336_762, "d4090b39ce9f2491908eebf4d5b09bae"),
            ("captions_validation.csv", 367_649, "5879e023032b22a2c930aaa0528bead4"),
            ("captions_evaluation.csv", 0, "1b16b9e57cf7bdb7f13a13802aeb57e2"),
            ("metadata_development.csv", 830_797, "170d20935ecfdf161ce1bb154118cda5"),
            ("metadata_validation.csv", 224_803, "2e010427c56b1ce6008b0f03f41048ce"),
            ("metadata_evaluation.csv", 0, "13946f054d4e1bf48079813aac61bf77"),
        )
    ),
    placement="clotho_captions_<part>.csv  captions; part is development, validation or evaluation\n"
    "clotho_metadata_<part>.csv  Freesound ids and licences\n"
    "<part>/*.wav  the unpacked clotho_audio_<part>.7z",
    num_clips=5929,
    hours=37.1,
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of the captions.

    Raises:
        LayoutError: A table is missing or lacks a column, or a recording has captions but no metadata.
    """
    parts = [part for part in _PARTS if (root / f"clotho_captions_{part}.csv").is_file()]
    if not parts:
        ctx.require(root / "clotho_captions_development.csv", root)
    for part in parts:
        facts = _facts(root / f"clotho_metadata_{part}.csv", ctx)
        files = {path.name.strip(): path for path in sorted((root / part).glob("*.wav"))}
        for row in read_csv(ctx, root / f"clotho_captions_{part}.csv", columns=("file_name", *_CAPTIONS)):
            name = row["file_name"]
            if facts is not None and name not in facts:
                raise LayoutError(f"{row.where}: expected a row for {name!r} in clotho_metadata_{part}.csv, found none")
            path = files.get(name, root / part / relative_path(name, row.where))
            yield _clip(row, facts[name] if facts else None, part, path)


def _facts(table: Path, ctx: Context) -> dict[str, Row] | None:
    """Return file name -> row of the metadata; None in a dry run without it.

    A conversion must have it: without Freesound ids, the clips that are in evaluation corpora too cannot be found.
    """
    if ctx.dry_run and not table.is_file():
        return None
    try:
        rows = list(read_csv(ctx, table, columns=_METADATA))
    except LayoutError as e:
        if not isinstance(e.__cause__, UnicodeDecodeError):
            raise
        rows = list(_read_latin1(table, ctx))
    return by_column(rows, "file_name")


def _read_latin1(table: Path, ctx: Context) -> Iterator[Row]:
    """Yield the rows of a Latin-1 table.

    Raises:
        LayoutError: It lacks a column, or a row has another number of cells.
    """
    ctx.rows[table] = 0  # the UTF-8 reader got some way
    reader = csv.reader(table.read_text(encoding="latin-1").splitlines(), strict=True)
    header = [cell.strip() for cell in next(reader, [])]
    if missing := [column for column in _METADATA if column not in header]:
        raise LayoutError(f"{table}: expected the columns {', '.join(_METADATA)}, found none named {missing}")
    try:
        for cells in reader:
            where = f"{table}:{reader.line_num}"
            if len(cells) != len(header):
                raise LayoutError(f"{where}: expected {len(header)} cells, found {len(cells)}")
            ctx.rows[table] += 1
            yield Row(dict(zip(header, map(str.strip, cells), strict=True)), where)
    except csv.Error as e:
        raise LayoutError(f"{table}:{reader.line_num}: expected a row of cells between commas, found: {e}") from e


def _clip(row: Row, facts: Row | None, part: str, path: Path) -> Clip:
    facts = facts or Row(dict.fromkeys(_METADATA, ""), row.where)
    known = facts["sound_id"] not in ("", "Not found")
    metadata = {
        "title": row["file_name"].removesuffix(".wav"),
        "uploader": facts["manufacturer"],
        "url": facts["sound_link"] if known else "",
        "keywords": facts["keywords"],
        "samples": facts["start_end_samples"],
    }
    return Clip(
        id=f"{part}/{row['file_name'].removesuffix('.wav')}",
        source=SPEC.name,
        path=str(path),
        split=_PARTS[part],
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(
            captions=tuple(row[column] for column in _CAPTIONS if row[column]),
            metadata={name: text for name, text in metadata.items() if text},
        ),
        license=freesound_license(facts["license"]),
        upstream_ids=(freesound_id(facts["sound_id"], facts.where),) if known else (),
    )
