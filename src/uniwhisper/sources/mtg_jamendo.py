"""MTG-Jamendo: 55,525 songs of jamendo.com, tagged by their uploaders with 195 genres, instruments, moods and themes.

Reads of the publisher's repository `data/autotagging.tsv` (all tags; a link to `raw_30s_cleantags_50artists.tsv`, which
systems without links unpack as a file that names it), the tables of `data/splits/split-0/`, of five splits the first,
and `audio_licenses.txt`, if it is there. Without the table of all tags, or of a part, those of genre, instrument, mood
and top-50 tags are put together. Lines end in any number of tags. Kept: all tags, spelt as words, as labels; the genre
and the mood of songs that have one of the kind as attributes; title, artist and address as metadata; the song's own
licence; Jamendo's id; the artist as the group, which no split parts. Dropped: songs that are in no part, because they
have only tags that the splits leave out.

Source: https://github.com/MTG/mtg-jamendo-dataset (README.md: tables, numbers, archives; stats: tags; data/splits);
Bogdanov et al., The MTG-Jamendo Dataset for Automatic Music Tagging, 2019.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import AUDIO_SUFFIXES, Context
from uniwhisper.sources._fields import relative_path, upstream_at
from uniwhisper.sources._read import read_csv, read_lines
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._vocabulary import Vocabulary, listed_vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="mtg_jamendo",
    version="1.0",
    homepage="https://mtg.github.io/mtg-jamendo-dataset/",
    license="CC-BY-NC-SA-4.0 (tags); Creative Commons licences by song (audio)",
    citation="D. Bogdanov et al., The MTG-Jamendo Dataset for Automatic Music Tagging, ML4MD at ICML 2019",
    domain="music",
    families=("tagging", "classification", "question_answering", "audio_text_matching", "attribute_prediction"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="Whole songs with their uploaders' tags of genre, instrument, mood and theme.",
    remotes=(
        Remote(
            url="https://zenodo.org/records/3826813/files/data.zip", checksum="md5:039ce10f267f6e4e9f72837c76d72b2f"
        ),
    ),
    placement="data/  the tables of the repository (data.zip); data/download/ has the SHA-256 of every archive\n"
    "audio_licenses.txt  of the repository\n"
    "audio/ or audio-low/  folders 00 ... 99 of .mp3 or .low.mp3 files: the 100 archives below "
    "https://cdn.freesound.org/mtg-jamendo/raw_30s/ in audio/ (508 GB) or audio-low/ (156 GB), which the repository's "
    "scripts/download/download.py fetches and checks",
    num_clips=55_525,
    hours=3_800.0,
    drop_tolerance=0.01,
)

_SPLITS = {"train": "train", "validation": "valid", "test": "test"}
_SUBSETS = ("genre", "instrument", "moodtheme", "top50tags")
_ASKED = {"genre": "genre", "mood/theme": "mood"}
_COLUMNS = ("TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS")
_FOLDERS = ("audio", "audio-low", "raw_30s/audio", "raw_30s/audio-low")
_TITLE = re.compile(r"(?P<title>.*) by (?P<artist>.*) from Jamendo: (?P<address>\S+)")
_LICENSE = re.compile(r"creativecommons\.org/licenses/(?P<kind>[a-z+-]+)/(?P<version>\d\.\d)(/(?P<port>[a-z]{2}))?")


@dataclass(kw_only=True, slots=True)
class _Song:
    where: str
    path: PurePosixPath
    artist: str
    album: str
    split: str = ""
    tags: dict[str, None] = field(default_factory=dict)
    """Tags in order, each once."""


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per song that is in a part of the split.

    Raises:
        LayoutError: There are no tables, a row is short or has an unknown tag, or a song is in two parts.
    """
    songs: dict[str, _Song] = {}
    tables = [(table, "") for table in _tables(root / "data", "")]
    parts = [
        (table, split) for name, split in _SPLITS.items() for table in _tables(root / "data/splits/split-0", f"-{name}")
    ]
    if not parts:
        ctx.require(root / "data/splits/split-0/autotagging-train.tsv", root)
    for table, split in (*tables, *parts):
        _read_table(table, split, songs, ctx)
    notices = _notices(root / "audio_licenses.txt", ctx)
    vocabulary = listed_vocabulary(SPEC.name)
    folder = next((root / name for name in _FOLDERS if (root / name).is_dir()), root / _FOLDERS[0])
    for name, song in songs.items():
        if song.split:
            yield _clip(name, song, vocabulary, notices.get(str(song.path), []), folder, ctx)
        else:
            ctx.drop(name, "in no part of split-0")


def _tables(folder: Path, part: str) -> list[Path]:
    """Return the table of all tags, or where there is none those of single kinds."""
    whole = folder / f"autotagging{part}.tsv"
    if whole.is_file() and whole.stat().st_size < 100:  # no table is that short: a link, unpacked as its target's name
        whole = folder / PurePosixPath(whole.read_text(encoding="utf-8", errors="replace").strip()).name
    if whole.is_file():
        return [whole]
    return [path for kind in _SUBSETS if (path := folder / f"autotagging_{kind}{part}.tsv").is_file()]


def _read_table(table: Path, split: str, songs: dict[str, _Song], ctx: Context) -> None:
    """Add the rows of a table to the songs."""
    for row in read_csv(ctx, table, columns=_COLUMNS, delimiter="\t", quoting=False, strict=False):
        row.number("DURATION", low=0)
        if not row["TAGS"]:
            raise LayoutError(f"{row.where}: expected tags in the 6th cell and after it, found none")
        song = songs.setdefault(
            row["TRACK_ID"],
            _Song(
                where=row.where,
                path=relative_path(row["PATH"], row.where),
                artist=row["ARTIST_ID"],
                album=row["ALBUM_ID"],
            ),
        )
        if (str(song.path), song.artist, song.album) != (
            str(relative_path(row["PATH"], row.where)),
            row["ARTIST_ID"],
            row["ALBUM_ID"],
        ):
            raise LayoutError(f"{row.where}: expected path, artist and album of the song as at {song.where}")
        if split and song.split not in ("", split):
            raise LayoutError(f"{row.where}: expected {row['TRACK_ID']} in one part, found {song.split} and {split}")
        song.split = split or song.split
        song.tags |= dict.fromkeys(tag.strip() for tag in row["TAGS"].split("\t") if tag.strip())


def _notices(path: Path, ctx: Context) -> dict[str, list[str]]:
    """Return path of a song -> the lines about it: who made it, and its licence."""
    notices: dict[str, list[str]] = {}
    if path.is_file():
        lines: list[str] = []
        for _, line in read_lines(ctx, path):
            if re.fullmatch(r"\d\d/\d+\.mp3", line):
                lines = notices.setdefault(line, [])
            else:
                lines.append(line)
    return notices


def _clip(name: str, song: _Song, vocabulary: Vocabulary, notice: list[str], folder: Path, ctx: Context) -> Clip:
    labels = {tag: vocabulary.label(tag, song.where) for tag in song.tags}
    attributes: dict[str, str] = {}
    for kind, attribute in _ASKED.items():
        found = [label for tag, label in labels.items() if tag.startswith(f"{kind}---")]
        attributes |= {attribute: found[0]} if len(found) == 1 else {}
    metadata = {"album": song.album}
    license_name = ""
    for line in notice:
        if match := _TITLE.fullmatch(line):
            metadata |= match.groupdict()
        elif match := _LICENSE.search(line):
            license_name = "-".join(["CC", match["kind"].upper(), match["version"], *filter(None, [match["port"]])])
    upstream_id = upstream_at(f"{song.where}: TRACK_ID", identifiers.jamendo, name)
    return Clip(
        id=name,
        source=SPEC.name,
        path=str(ctx.audio(folder, str(song.path.with_suffix("")), (".mp3", ".low.mp3", *AUDIO_SUFFIXES))),
        split=song.split,
        duration_s=0.0,
        domain="music",
        annotation=Annotation(
            labels=tuple(labels.values()), label_set=SPEC.name, attributes=attributes, metadata=metadata
        ),
        group=song.artist,
        license=license_name.upper(),
        upstream_ids=(upstream_id,),
    )
