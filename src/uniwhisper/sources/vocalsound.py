"""VocalSound: laughter, sighs, coughs, throat clearing, sneezes and sniffs of 3,365 people, recorded by themselves.

Reads `datafiles/{tr,val,te}.json` (which recordings are in which part), `meta/{tr,val,te}_meta.csv` (who the speakers
are) and `audio_16k/*.wav` or `audio_44k/*.wav`; or X-ARES's tars, whose JSON holds the sound. Kept: the sound, speaker,
gender, age, country, native language, health condition, and which recording session it is. The parts share no speaker.
Nothing is dropped by annotation; speakers without a row in `meta` keep the gender that their name begins with.

Source: https://github.com/YuanGongND/vocalsound (README, "Dataset Details"; src/prep_data.py: only the last part of the
paths in datafiles counts; meta are CSV files without a header, though the README calls them JSON); tars:
https://zenodo.org/records/14722710, https://github.com/jimbozhang/xares (src/tasks/vocalsound_task.py and
vocalsound/make_audio_tar.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_csv, read_json
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TARS = {"train": "*train*.tar", "valid": "*valid*.tar", "test": "*test*.tar"}

SPEC = SourceSpec(
    name="vocalsound",
    version="1.0",
    homepage="https://github.com/YuanGongND/vocalsound",
    license="CC-BY-SA-4.0",
    citation="Y. Gong, J. Yu, J. Glass, VocalSound: A Dataset for Improving Human Vocal Sounds Recognition, "
    "ICASSP 2022",
    domain="sound",
    families=("classification", "audio_text_matching", "attribute_prediction"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("evaluation",),
    description="Six human sounds that are not speech, by 3,365 people.",
    remotes=(
        Remote(url="https://www.dropbox.com/s/c5ace70qh1vbyzb/vs_release_16k.zip?dl=1", size_bytes=1_783_406_544),
        Remote(url="https://www.dropbox.com/s/ybgaprezl8ubcce/vs_release_44k.zip?dl=1"),
        Remote(url="https://zenodo.org/api/records/14722710/files-archive"),
    ),
    placement="datafiles/{tr,val,te}.json, meta/{tr,val,te}_meta.csv  annotations\n"
    "audio_16k/*.wav or audio_44k/*.wav  audio (all as in the archives)\n"
    "or *{train,valid,test}*.tar  X-ARES's tars",
    num_clips=21_024,
    hours=25,  # not published: X-ARES's tars are 2.9 GB of 16 kHz PCM
)

_PARTS = {"train": "tr", "valid": "val", "test": "te"}
_NAME = re.compile(r"(?P<speaker>[fm]\d+)_(?P<session>\d+)_(?P<sound>[a-z]+)")
_SPEAKER = re.compile(r"[fm]\d+")
_SOUNDS = Vocabulary(
    name=SPEC.name,
    labels={name: name for name in ("laughter", "sigh", "cough", "sneeze", "sniff")}
    | {"throatclearing": "throat clearing"},
)
_GENDERS = {"f": "female", "m": "male"}
_COLUMNS = ("speaker", "gender", "age", "country", "native language", "health")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per recording in datafiles, or per sample of the tars.

    Raises:
        LayoutError: A file is missing or of another form, or a recording is not one of the six sounds.
    """
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(tar.key, tar.split, tar.json.get("label"), tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    folder = root / "audio_44k" if (root / "audio_44k").is_dir() else root / "audio_16k"
    for split, part in _PARTS.items():
        people = _people(ctx.require(root / "meta" / f"{part}_meta.csv", root), ctx)
        for stem, where in _recordings(ctx.require(root / "datafiles" / f"{part}.json", root), ctx):
            clip = _clip(stem, split, None, where)
            note = replace(clip.annotation, metadata=clip.annotation.metadata | people.get(clip.speaker, {}))
            yield replace(clip, path=str(ctx.audio(folder, stem)), annotation=note)


def _recordings(table: Path, ctx: Context) -> Iterator[tuple[str, str]]:
    """Yield (stem, where) of the recordings in a file of datafiles: `{"data": [{"wav": path, ...}, ...]}`."""
    content = read_json(table)
    records = content.get("data") if isinstance(content, dict) else None
    if not isinstance(records, list):
        raise LayoutError(f'{table}: expected {{"data": [...]}}, found {str(content)[:80]}')
    for index, record in enumerate(records):
        where = f"{table}: record {index}"
        path = record.get("wav") if isinstance(record, dict) else None
        if not isinstance(path, str) or not path.endswith(".wav"):
            raise LayoutError(f"{where}: expected a path in wav, found {str(record)[:80]}")
        ctx.rows[table] += 1
        yield PurePosixPath(path).stem, where


def _people(table: Path, ctx: Context) -> dict[str, dict[str, str]]:
    """Return speaker -> facts; a health condition may hold commas, so it takes what is left of the line."""
    people: dict[str, dict[str, str]] = {}
    for row in read_csv(ctx, table, names=_COLUMNS, strict=False):
        gender = _GENDERS.get(row["speaker"][:1], "")
        if not _SPEAKER.fullmatch(row["speaker"]) or row["gender"].lower() != gender:
            raise LayoutError(
                f"{row.where}: expected a speaker like f0003 and the gender, found {', '.join(row.values())}"
            )
        facts = {name: row[name] for name in _COLUMNS[2:] if row[name]}
        if people.setdefault(row["speaker"], facts) != facts:
            raise LayoutError(
                f"{row.where}: expected one row of {row['speaker']}, found one before that says otherwise"
            )
    return people


def _clip(stem: str, split: str, sound: object, where: str) -> Clip:
    """Return the clip as its name says; `sound` where something else than the name says it."""
    match = _NAME.fullmatch(stem)
    if match is None:
        raise LayoutError(f"{where}: expected a name like f0003_0_cough, <speaker>_<session>_<sound>, found {stem}")
    label = _SOUNDS.label(match["sound"] if sound is None else sound, where)
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(
            labels=(label,),
            label_set=SPEC.name,
            attributes={"gender": _GENDERS[stem[0]]},
            metadata={"session": match["session"]},
        ),
        speaker=match["speaker"],
        group=match["speaker"],
        license=SPEC.license,
    )
