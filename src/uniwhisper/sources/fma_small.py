"""FMA small: 8,000 excerpts of 30 s from the Free Music Archive, 1,000 of each of eight genres.

Reads `fma_metadata/tracks.csv` (three header rows; the rows of subset `small`, the others are read past),
`fma_metadata/genres.csv` and `fma_small/<three digits>/<six digits>.mp3`; or X-ARES's tars, whose JSON holds the genre.
Kept: genre, finer genres, artist (a group: the published split keeps an artist's tracks together), track id, titles,
composer, tags, language, year of release and the artist's licence. Nothing is dropped by annotation; a few published
excerpts are empty or broken.

Source: https://github.com/mdeff/fma (README; usage notebook: columns, subsets, splits); Defferrard et al., ISMIR 2017;
tars: https://zenodo.org/records/14725056, https://github.com/jimbozhang/xares (freemusicarchive_genre_task.py of
src/tasks).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import Row, by_column, read_csv, read_lines
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TARS = {split: f"fma_small_{split}*.tar" for split in ("train", "valid", "test")}

SPEC = SourceSpec(
    name="fma_small",
    version="2017-05-09",
    homepage="https://github.com/mdeff/fma",
    license="CC-BY-4.0 (metadata); audio under a Creative Commons licence per track",
    citation="M. Defferrard, K. Benzi, P. Vandergheynst, X. Bresson, FMA: A Dataset For Music Analysis, ISMIR 2017",
    domain="music",
    families=("classification", "audio_text_matching", "attribute_prediction"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("evaluation",),
    description="8,000 excerpts of 30 s in eight balanced genres, split by artist.",
    remotes=(  # published with SHA-1 only: f0df49ff... and ade154f7...
        Remote(url="https://os.unil.cloud.switch.ch/fma/fma_metadata.zip"),
        Remote(url="https://os.unil.cloud.switch.ch/fma/fma_small.zip"),
        Remote(url="https://zenodo.org/api/records/14725056/files-archive"),
    ),
    placement="fma_metadata/tracks.csv, genres.csv  annotations\n"
    "fma_small/<000 ... 155>/*.mp3  audio (both as in the archives)\n"
    "or fma_small_{train,valid,test}*.tar  X-ARES's tars",
    num_clips=8000,
    hours=66.7,
    drop_tolerance=0.001,  # excerpts that are published empty or broken
)

_SPLITS = {"training": "train", "validation": "valid", "test": "test"}
_GENRES = Vocabulary(
    name=SPEC.name,
    labels={
        name: name.lower()
        for name in (
            "Electronic", "Experimental", "Folk", "Hip-Hop", "Instrumental", "International", "Pop", "Rock"
        )
    },
)  # fmt: skip
_METADATA = {
    "title": "track.title",
    "artist": "artist.name",
    "album": "album.title",
    "composer": "track.composer",
    "released": "album.date_released",
    "language": "track.language_code",
}
_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_COLUMNS = (
    "set.subset",
    "set.split",
    "track.genre_top",
    "track.genres_all",
    "track.license",
    "track.tags",
    "artist.id",
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of subset small in tracks.csv, or per sample of the tars.

    Raises:
        LayoutError: A table is missing, or a row has another split, genre or number than the publisher's.
    """
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(tar.key, tar.split, tar.json.get("genre"), tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    table = ctx.require(root / "fma_metadata" / "tracks.csv", root)
    genres = ctx.require(root / "fma_metadata" / "genres.csv", root)
    rows = by_column(read_csv(ctx, genres, columns=("genre_id", "title")), "genre_id")
    names = {number: row["title"] for number, row in rows.items()}
    for row in _tracks(table, ctx):
        if row["set.subset"] != "small":
            continue
        if row["set.split"] not in _SPLITS:
            raise LayoutError(f"{row.where}: expected a split of {', '.join(_SPLITS)}, found {row['set.split']!r}")
        stem = f"{row['track_id']:0>6}"
        clip = _clip(stem, _SPLITS[row["set.split"]], row["track.genre_top"], row.where)
        yield replace(
            clip,
            path=str(root / "fma_small" / stem[:3] / f"{stem}.mp3"),
            annotation=replace(clip.annotation, metadata=_metadata(row, names)),
            group=row["artist.id"],
            license=row["track.license"],
        )


def _tracks(table: Path, ctx: Context) -> Iterator[Row]:
    """Yield the rows of tracks.csv, columns named as in `track.genre_top`: over two header rows, then `track_id,,,`."""
    try:
        heads = [next(csv.reader([line])) for _, line in islice(read_lines(ctx, table), 2)]
    except csv.Error as e:
        raise LayoutError(f"{table}: expected two rows of headers, found: {e}") from e
    groups, columns = [*heads, [], []][:2]
    ctx.rows[table] = 0
    names = ["track_id", *(f"{group}.{column}" for group, column in zip(groups[1:], columns[1:], strict=False))]
    yield from read_csv(ctx, table, names=names, columns=(*_COLUMNS, *_METADATA.values()), skip=3)


def _metadata(row: Row, genres: dict[str, str]) -> dict[str, str]:
    """Return what is kept about a track and never asked; lists stand as `['a', 'b']` and `[21, 4]` in the table."""
    facts = {name: row[column] for name, column in _METADATA.items()}
    facts["tags"] = ", ".join(single or double for single, double in _QUOTED.findall(row["track.tags"]))
    found = re.findall(r"\d+", row["track.genres_all"])
    strangers = [number for number in found if number not in genres]
    if strangers:
        raise LayoutError(f"{row.where}: expected genres of genres.csv, found {', '.join(strangers)}")
    facts["genres"] = ", ".join(genres[number] for number in found)
    return {name: value for name, value in facts.items() if value}


def _clip(stem: str, split: str, genre: object, where: str) -> Clip:
    if not re.fullmatch(r"\d{6}", stem):
        raise LayoutError(f"{where}: expected a track number of six digits, found {stem}")
    label = _GENRES.label(genre, where)
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="music",
        annotation=Annotation(labels=(label,), label_set=SPEC.name, attributes={"genre": label}),
        upstream_ids=(identifiers.fma(stem),),
    )
