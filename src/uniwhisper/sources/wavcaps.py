"""WavCaps: 403,050 recordings of four collections with captions that a language model wrote from their descriptions.

Reads `json_files/<part>/<file>.json` for the parts FreeSound, BBC_Sound_Effects, SoundBible and AudioSet_SL, those that
are there, and the FLACs of their archives. Kept: caption; Freesound, YouTube, BBC or SoundBible id; description, title,
author, address, category and keywords as metadata (keywords are the uploader's and name gear and places as well as
sounds). Ids of AudioSet_SL, like `Yb0RFKhbpFJA.wav`, name a video and no span, so they match every span of it. Nothing
is dropped by annotation but records without a caption. The publisher's blacklists are for the identifier stage of
`dedup`, not read here.

Of the audio, 1 % may be missing or broken: the archives are zips in 5 GB parts, 800 GB in all, and single FLACs suffer.

Source: https://huggingface.co/datasets/cvssp/WavCaps and https://github.com/XinhaoMei/WavCaps (README: counts);
records and audio names: https://github.com/Labbeti/aac-datasets (datasets/functional/wavcaps.py); hours: Mei et al.,
arXiv 2303.17395, table 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import relative_path, text_field, upstream_at
from uniwhisper.sources._read import read_json
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_PARTS = {
    "AudioSet_SL": "as_final",
    "BBC_Sound_Effects": "bbc_final",
    "FreeSound": "fsd_final",
    "SoundBible": "sb_final",
}
_ADDRESS = "https://huggingface.co/datasets/cvssp/WavCaps/resolve/main"
_UNPACKED = "mnt/fast/nobackup/scratch4weeks/xm00178/WavCaps/data/waveforms"
"""Folder that the publisher's archives hold."""
_VIDEO = re.compile(r"Y(?P<id>.{11})\.wav")

SPEC = SourceSpec(
    name="wavcaps",
    version="1",
    homepage="https://huggingface.co/datasets/cvssp/WavCaps",
    license="academic use only (captions); Freesound's, BBC's, SoundBible's and the videos' owners' terms (audio)",
    citation="X. Mei et al., WavCaps: A ChatGPT-Assisted Weakly-Labelled Audio Captioning Dataset, IEEE TASLP 2024",
    domain="sound",
    families=("captioning", "audio_text_matching"),
    languages=(),
    splits=("train",),
    uses=("training",),
    description="Machine-written captions of recordings from Freesound, BBC, SoundBible and AudioSet.",
    remotes=(
        *(Remote(url=f"{_ADDRESS}/json_files/{part}/{name}.json") for part, name in _PARTS.items()),
        Remote(url=f"{_ADDRESS}/Zip_files/SoundBible/SoundBible.zip"),
    ),
    not_downloadable="the other archives are zips in parts (Zip_files/<part>/<part>.z01, ...): fetch the folder, join "
    "with zip -F <part>.zip --out joined.zip, then unzip",
    placement="json_files/<part>/*_final.json  captions (AudioSet_SL, BBC_Sound_Effects, FreeSound, SoundBible)\n"
    f"{_UNPACKED}/<part>_flac/*.flac  the unpacked archives\n"
    "or <part>_flac/*.flac  the same, moved up",
    num_clips=403_050,
    hours=7_568.0,
    drop_tolerance=0.01,
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per record.

    Raises:
        LayoutError: There is no table, or a record lacks its id or caption or has a malformed id.
    """
    tables = {part: root / "json_files" / part / f"{name}.json" for part, name in _PARTS.items()}
    found = {part: table for part, table in tables.items() if table.is_file()}
    if not found:
        ctx.require(tables["FreeSound"], root)
    for part, table in found.items():
        folders = (root / _UNPACKED / f"{part}_flac", root / f"{part}_flac")
        folder = next((folder for folder in folders if folder.is_dir()), folders[-1])
        for record, where in _records(table, ctx):
            name = text_field(record, "id", where)
            stem = str(relative_path(name.removesuffix(".wav"), where))
            if not record["caption"].strip():
                ctx.drop(f"{part}/{stem}", "no caption")
                continue
            yield Clip(
                id=f"{part}/{stem}",
                source=SPEC.name,
                path=str(ctx.audio(folder, stem)),
                split="train",
                duration_s=0.0,
                domain="sound",
                annotation=Annotation(captions=(record["caption"].strip(),), metadata=_metadata(record, part)),
                upstream_ids=(_upstream_id(name, part, where),),
            )


def _records(table: Path, ctx: Context) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield (record, file and number from 0) of every record; its caption is a text."""
    content = read_json(table)
    records = content.get("data") if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise LayoutError(f"{table}: expected an object with a list 'data', found {type(content).__name__}")
    for position, record in enumerate(records):
        where = f"{table}: data[{position}]"
        if not (isinstance(record, dict) and isinstance(record.get("caption"), str)):
            raise LayoutError(f"{where}: expected a record with a caption, found {str(record)[:100]}")
        ctx.rows[table] += 1
        yield record, where


def _metadata(record: dict[str, Any], part: str) -> dict[str, str]:
    tags = record.get("tags")
    facts = {
        "collection": part,
        "title": record.get("title") or record.get("file_name"),
        "description": record.get("description"),
        "uploader": record.get("author"),
        "category": record.get("category"),
        "url": record.get("href"),
        "download": record.get("download_link"),
        "keywords": "; ".join(map(str, tags)) if isinstance(tags, list) else tags,
    }
    return {name: str(value) for name, value in facts.items() if value}


def _upstream_id(text: str, part: str, where: str) -> str:
    if part == "FreeSound":
        return upstream_at(where, identifiers.freesound, text)
    if part == "AudioSet_SL":
        match = _VIDEO.fullmatch(text)
        return upstream_at(where, identifiers.youtube, match["id"] if match else text)
    return upstream_at(where, identifiers.upstream, "bbc" if part == "BBC_Sound_Effects" else "soundbible", text)
