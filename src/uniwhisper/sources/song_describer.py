"""Song Describer: 706 excerpts of up to 2 minutes of MTG-Jamendo's tracks with 1 to 5 captions each.

Reads `song_describer.csv` (a row per caption) and `audio/<path>.2min.mp3`; and where they are there, tags
(`song_describer_14_04_23.mtg-jamendo.tsv`), titles (`audio_metadata.tsv`) and licences (`audio_licenses.txt`). Kept:
all captions, and as metadata which ones the authors validated and how familiar their writers were with the music; tags
as labels of an open vocabulary; Jamendo id, artist (group), licence, attribution. Nothing is dropped by annotation but
tracks whose captions are all blank.

The publisher means the corpus for evaluation and states no parts; the paper trains on it, so all of it is `train`. Its
tracks are the test part of MTG-Jamendo's split 0: whoever evaluates on that must leave it out (identifier stage of
`dedup`).

Source: https://zenodo.org/records/10072001 (layout, sizes, checksums), https://github.com/mulab-mir/song-describer-dataset
(README, docs/datacard.md, docs/datasheet.md); hours: arXiv 2602.21772, table 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import relative_path, upstream_at
from uniwhisper.sources._read import Row, read_csv, read_lines
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._vocabulary import listed_vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_ADDRESS = "https://zenodo.org/records/10072001/files"
_TAGS = "song_describer_14_04_23.mtg-jamendo.tsv"

SPEC = SourceSpec(
    name="song_describer",
    version="1.0.0",
    homepage="https://zenodo.org/records/10072001",
    license="CC-BY-SA-4.0 (captions); Creative Commons, by track (audio)",
    citation="I. Manco, B. Weck et al., The Song Describer Dataset: a Corpus of Audio Captions, ML4Audio 2023",
    domain="music",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train",),
    uses=("training",),
    description="Captions by listeners of 2-minute excerpts of MTG-Jamendo's tracks.",
    remotes=tuple(
        Remote(url=f"{_ADDRESS}/{name}", size_bytes=size_bytes, checksum=f"md5:{md5}")
        for name, size_bytes, md5 in (
            ("song_describer.csv", 186_208, "e90e9459c22bfbe69f5462dc1434d573"),
            ("audio.zip", 3_318_019_617, "2126b8facfe9468cf806c6154e09bbe5"),
            ("audio_metadata.tsv", 97_667, "fa5d126659b08680719d189387d61e39"),
            ("audio_licenses.txt", 162_171, "cda13a080c03e14b8319430e1486ae6e"),
            (_TAGS, 108_663, "3532f2df8b4c21a7ea85d9121eae244a"),
        )
    ),
    placement="song_describer.csv  captions\n"
    "audio/<two digits>/<track>.2min.mp3  the unpacked audio.zip (audio/audio/... does as well)\n"
    f"{_TAGS}, audio_metadata.tsv, audio_licenses.txt  tags, titles, licences; optional",
    num_clips=706,
    hours=23.0,
)

_COLUMNS = ("caption_id", "track_id", "caption", "is_valid_subset", "familiarity", "artist_id", "album_id", "path")
_TAG_COLUMNS = ("track_id", "artist_id", "album_id", "path", "duration", "tags")
_TITLE_COLUMNS = ("track_id", "artist_id", "album_id", "title", "artist", "album", "date", "url")
_LICENSE = re.compile(r".*creativecommons\.org/licenses/(?P<code>[a-z-]+)/(?P<version>[\d.]+)(/(?P<country>[a-z]+))?/?")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per track.

    Raises:
        LayoutError: The table is missing or lacks a column, or a row has a malformed track id.
    """
    tracks: dict[str, list[Row]] = {}
    for row in read_csv(ctx, ctx.require(root / "song_describer.csv", root), columns=_COLUMNS):
        rows = tracks.setdefault(_track(row["track_id"], row.where), [])
        if rows and (row["path"], row["artist_id"]) != (rows[0]["path"], rows[0]["artist_id"]):
            raise LayoutError(f"{row.where}: expected path and artist of the track as at {rows[0].where}, found others")
        rows.append(row)
    tags, titles, licenses = _tags(root, ctx), _titles(root, ctx), _licenses(root, ctx)
    unpacked = root / "audio"
    folder = unpacked / "audio" if (unpacked / "audio").is_dir() else unpacked  # `unzip audio.zip -d audio`
    for upstream_id, rows in tracks.items():
        captions = tuple(row["caption"] for row in rows if row["caption"])
        if not captions:
            ctx.drop(rows[0]["track_id"], "no caption")
            continue
        excerpt = relative_path(rows[0]["path"], rows[0].where).with_suffix(".2min")
        license_text, attribution = licenses.get(rows[0]["path"], ("", ""))
        metadata = {**_metadata(rows), **titles.get(upstream_id, {}), "attribution": attribution}
        yield Clip(
            id=rows[0]["track_id"],
            source=SPEC.name,
            path=str(ctx.audio(folder, str(excerpt))),
            split="train",
            duration_s=0.0,
            domain="music",
            annotation=Annotation(
                captions=captions,
                labels=tags.get(upstream_id, ()),
                metadata={name: text for name, text in metadata.items() if text},
            ),
            group=f"artist_{rows[0]['artist_id']}",
            license=license_text,
            upstream_ids=(upstream_id,),
        )


def _track(text: str, where: str) -> str:
    return upstream_at(where, identifiers.jamendo, text)


def _metadata(rows: list[Row]) -> dict[str, str]:
    """Return facts about the captions, in their order."""
    return {
        "caption_ids": " ".join(row["caption_id"] for row in rows),
        "validated": " ".join(row["is_valid_subset"] or "None" for row in rows),
        "familiarity": " ".join(row["familiarity"] or "None" for row in rows),
    }


def _tags(root: Path, ctx: Context) -> dict[str, tuple[str, ...]]:
    """Return track -> tags, spelt as words like those of the source `mtg_jamendo`, and without their kind."""
    table = root / _TAGS
    if not table.is_file():
        return {}
    words = listed_vocabulary("mtg_jamendo").labels
    found: dict[str, tuple[str, ...]] = {}
    rows = read_csv(ctx, table, names=_TAG_COLUMNS, delimiter="\t", comment="TRACK_ID", quoting=False, strict=False)
    for row in rows:
        tags = [tag.strip() for tag in row["tags"].split("\t") if tag.strip()]
        labels = (words.get(tag, tag.rpartition("---")[2]) for tag in tags)
        found[_track(row["track_id"], row.where)] = tuple(dict.fromkeys(labels))
    return found


def _titles(root: Path, ctx: Context) -> dict[str, dict[str, str]]:
    """Return track -> title, artist, album, address."""
    table = root / "audio_metadata.tsv"
    if not table.is_file():
        return {}
    rows = read_csv(ctx, table, names=_TITLE_COLUMNS, delimiter="\t", comment="TRACK_ID", quoting=False)
    kept = ("title", "artist", "album", "url")
    return {_track(row["track_id"], row.where): {name: row[name] for name in kept if row[name]} for row in rows}


def _licenses(root: Path, ctx: Context) -> dict[str, tuple[str, str]]:
    """Return path in song_describer.csv -> (licence, attribution).

    A block of `audio_licenses.txt` is the path, who made the track, and the licence with its address, then `--`.
    """
    found: dict[str, tuple[str, str]] = {}
    path = attribution = ""
    if not (root / "audio_licenses.txt").is_file():
        return found
    for _, line in read_lines(ctx, root / "audio_licenses.txt"):
        if re.fullmatch(r"\d\d/\d+(\.2min)?\.mp3", line):
            path, attribution = line.replace(".2min", ""), ""
        elif path and not attribution:
            attribution = line
        elif path and line != "--":
            match = _LICENSE.fullmatch(line)
            country = f"-{match['country'].upper()}" if match and match["country"] else ""
            name = f"CC-{match['code'].upper()}-{match['version'].rstrip('.')}{country}" if match else line
            found[path], path = (name, attribution), ""
    return found
