"""VoxCeleb1: 153,516 utterances of 1,251 celebrities, cut from YouTube interviews; who is speaking?

Reads `iden_split.txt` (the identification split: 1 train, 2 valid, 3 test), `vox1_meta.csv` and
`wav/<speaker>/<video>/<number>.wav`, or X-ARES's tars `voxceleb1_<train|valid|test>*.tar` (sample JSON: speakerid),
beside which `vox1_meta.csv` may lie. Kept: the speaker's id as label, gender, name and nationality, the YouTube id;
clips of one video are one group. Nothing is dropped by annotation.

Three spellings of `vox1_meta.csv` are in circulation and read: cells between tabs, as the publisher has it; the same
with every line in quotes; cells between commas.

Source: https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html; split codes: torchaudio (datasets/voxceleb1.py);
A. Nagrani et al., Interspeech 2017, section 4 (one video of each person is held out for the test of identification);
tars: https://zenodo.org/records/14811963, https://github.com/jimbozhang/xares (v0.1.3, src/tasks/voxceleb1_task.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import gender, text_field
from uniwhisper.sources._read import read_lines
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TARS = {split: f"voxceleb1_{split}*.tar" for split in ("train", "valid", "test")}

SPEC = SourceSpec(
    name="voxceleb1",
    version="1",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/vox1.html",
    license="CC-BY-4.0 (metadata); copyright of the videos' owners (audio)",
    citation="A. Nagrani, J. S. Chung, A. Zisserman, VoxCeleb: a large-scale speaker identification dataset, "
    "Interspeech 2017",
    domain="speech",
    families=("classification", "audio_text_matching", "attribute_prediction"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("evaluation",),
    description="153,516 utterances of 1,251 celebrities from YouTube interviews (speaker identification).",
    remotes=(
        Remote(url="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/iden_split.txt"),
        Remote(url="https://www.robots.ox.ac.uk/~vgg/data/voxceleb/meta/vox1_meta.csv"),
        Remote(url="https://zenodo.org/api/records/14811963/files-archive"),
    ),
    not_downloadable="the publisher's audio: fill out the form on the homepage; X-ARES's tars need none",
    placement="iden_split.txt, vox1_meta.csv  lists\n"
    "wav/id1*/*/*.wav  vox1_dev_wav.zip (its parts joined) and vox1_test_wav.zip, both unpacked here\n"
    "or voxceleb1_{train,valid,test}*.tar  X-ARES's tars; with vox1_meta.csv beside them, names and gender are known",
    num_clips=153_516,
    hours=351.6,
)

_SPLITS = {"1": "train", "2": "valid", "3": "test"}
_UTTERANCE = re.compile(r"(?P<speaker>id1\d{4})[/_-](?P<video>[A-Za-z0-9_-]{11})[/_-](?P<number>\d{5})")
_SPEAKER = re.compile(r"id1\d{4}")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Person:
    gender: str
    name: str
    nationality: str


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per line of iden_split.txt, or per sample of the tars.

    Raises:
        LayoutError: A file is missing, a line is not of the form, or a speaker is unknown.
    """
    if has_tars(root, _TARS.values()):
        yield from _from_tars(root, ctx)
        return
    people = _people(ctx, ctx.require(root / "vox1_meta.csv", root))
    for where, line in read_lines(ctx, ctx.require(root / "iden_split.txt", root)):
        code, _, path = line.partition(" ")
        match = _UTTERANCE.fullmatch(path.strip().removesuffix(".wav"))
        if code not in _SPLITS or match is None:
            raise LayoutError(f"{where}: expected 1, 2 or 3 and <speaker>/<video>/<number>.wav, found {line[:80]!r}")
        if match["speaker"] not in people:
            raise LayoutError(f"{where}: expected a speaker of vox1_meta.csv, found {match['speaker']}")
        name = "/".join(match.groups())
        clip = _clip(name, match["speaker"], match, _SPLITS[code], people)
        yield replace(clip, path=str(root / "wav" / f"{name}.wav"))


def _from_tars(root: Path, ctx: Context) -> Iterator[Clip]:
    people = _people(ctx, root / "vox1_meta.csv") if (root / "vox1_meta.csv").is_file() else {}
    for tar in read_tars(ctx, root, _TARS):
        speaker = text_field(tar.json, "speakerid", tar.where)
        match = _UTTERANCE.search(tar.key)
        if not _SPEAKER.fullmatch(speaker) or (match and match["speaker"] != speaker):
            raise LayoutError(f"{tar.where}: expected the speaker of the member, id1<4 digits>, found {speaker!r}")
        if people and speaker not in people:
            raise LayoutError(f"{tar.where}: expected a speaker of vox1_meta.csv, found {speaker}")
        # Where the member's name does not say which utterance it is, the tar makes it unique.
        name = "/".join(match.groups()) if match else f"{tar.path.stem}/{tar.key}"
        clip = _clip(name, speaker, match, tar.split, people)
        yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)


def _people(ctx: Context, path: Path) -> dict[str, _Person]:
    """Return speaker id -> person."""
    people: dict[str, _Person] = {}
    for index, (where, line) in enumerate(read_lines(ctx, path)):
        bare = line.strip('"')
        cells = [cell.strip() for cell in bare.split("\t" if "\t" in bare else ",")]
        if len(cells) != 5 or (index and not _SPEAKER.fullmatch(cells[0])):
            raise LayoutError(f"{where}: expected id, name, gender, nationality, set, found {line[:80]!r}")
        if index:
            person = _Person(gender=gender(cells[2], where), name=cells[1], nationality=cells[3])
            if people.setdefault(cells[0], person) != person:
                raise LayoutError(f"{where}: expected one line of {cells[0]}, found one before that says otherwise")
    ctx.rows[path] -= 1  # the header
    return people


def _clip(name: str, speaker: str, match: re.Match[str] | None, split: str, people: dict[str, _Person]) -> Clip:
    person = people.get(speaker)
    return Clip(
        id=name,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(
            labels=(speaker,),
            label_set=SPEC.name,
            attributes={"gender": person.gender} if person else {},
            metadata={"name": person.name.replace("_", " "), "nationality": person.nationality} if person else {},
        ),
        speaker=speaker,
        group=f"{speaker}/{match['video']}" if match else "",
        license=SPEC.license,
        upstream_ids=(identifiers.youtube(match["video"]),) if match else (),
    )
