"""NSynth: 305,979 single notes of 1,006 instruments in 11 families, four seconds each.

Reads `nsynth-{train,valid,test}/examples.json` and `nsynth-<part>/audio/*.wav`; a part that is not there is not
converted. Or X-ARES's tars, whose JSON holds the family; of its two training sets, the full one where it is there, else
the 55,000 notes of `sub55k`. Kept: family, instrument (a group: training shares none with the other parts), source,
pitch, velocity, qualities, and the note itself, which is held for the first three seconds. Nothing is dropped.

Source: https://magenta.tensorflow.org/datasets/nsynth ("Format", "Instrument Families", "Note Qualities"); Engel et
al., ICML 2017 (section 2.2: three seconds held, one of release); tars: https://zenodo.org/records/14725174,
https://github.com/jimbozhang/xares (src/tasks/nsynth_instument_task.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_json
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary, spell
from uniwhisper.types import Annotation, Clip, Note

__all__ = ["SPEC", "convert"]

_SPLITS = ("train", "valid", "test")
_TARS = {split: f"nsynth_{split}_[0-9]*.tar" for split in _SPLITS}
_MINI = "nsynth_train_sub55k_*.tar"

SPEC = SourceSpec(
    name="nsynth",
    version="2017",
    homepage="https://magenta.tensorflow.org/datasets/nsynth",
    license="CC-BY-4.0",
    citation="J. Engel et al., Neural Audio Synthesis of Musical Notes with WaveNet Autoencoders, ICML 2017",
    domain="music",
    families=("classification", "note_transcription", "audio_text_matching", "attribute_prediction"),
    languages=(),
    splits=_SPLITS,
    uses=("evaluation",),
    description="Single notes of 1,006 instruments in 11 families, with pitch, velocity and qualities.",
    remotes=(Remote(url="https://zenodo.org/api/records/14725174/files-archive"),),
    not_downloadable="The publisher's archives are offered without TLS only: fetch them by hand from "
    "http://download.magenta.tensorflow.org/datasets/nsynth/nsynth-{train,valid,test}.jsonwav.tar.gz",
    placement="nsynth-{train,valid,test}/examples.json  annotations\n"
    "nsynth-{train,valid,test}/audio/*.wav  audio (both as in the archives)\n"
    "or nsynth_{train,valid,test}_*.tar  X-ARES's tars",
    num_clips=305_979,
    hours=340,
)

_FAMILIES = Vocabulary(
    name=SPEC.name,
    labels={
        name: spell(name)
        for name in (
            "bass", "brass", "flute", "guitar", "keyboard", "mallet", "organ", "reed", "string", "synth_lead", "vocal"
        )
    },
)  # fmt: skip
_QUALITIES = Vocabulary(
    name="qualities of nsynth",
    labels={
        name: spell(name)
        for name in (
            "bright", "dark", "distortion", "fast_decay", "long_release", "multiphonic", "nonlinear_env", "percussive",
            "reverb", "tempo-synced",
        )
    },
)  # fmt: skip
_NAME = re.compile(
    r"(?P<instrument>(?P<family>[a-z_]+)_(?P<source>acoustic|electronic|synthetic)_\d{3})"
    r"-(?P<pitch>\d{3})-(?P<velocity>\d{3})"
)
_HELD_S = 3.0


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per record of the parts' examples.json, or per sample of the tars.

    Raises:
        LayoutError: There is no part, or a record contradicts its name or names an unknown family or quality.
    """
    if has_tars(root, (*_TARS.values(), _MINI)):
        train = _TARS["train"] if has_tars(root, (_TARS["train"],)) else _MINI
        for tar in read_tars(ctx, root, _TARS | {"train": train}):
            clip = _clip(tar.key, tar.split, tar.json.get("instrument_family_str"), (), tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    tables = {split: root / f"nsynth-{split}" / "examples.json" for split in _SPLITS}
    if not any(table.is_file() for table in tables.values()):
        raise LayoutError(f"{ctx.source}: expected nsynth-{{train,valid,test}}/examples.json in {root}, found none")
    for split, table in tables.items():
        if table.is_file():
            yield from _part(table, split, ctx)


def _part(table: Path, split: str, ctx: Context) -> Iterator[Clip]:
    """Yield the clips of one examples.json: name -> record."""
    content = read_json(table)
    if not isinstance(content, dict):
        raise LayoutError(f"{table}: expected an object of records by name, found {str(content)[:80]}")
    for stem, record in content.items():
        where = f"{table}: record {stem}"
        if not isinstance(record, dict) or not isinstance(record.get("qualities_str"), list):
            raise LayoutError(f"{where}: expected a record with qualities_str, found {str(record)[:80]}")
        ctx.rows[table] += 1
        clip = _clip(stem, split, record.get("instrument_family_str"), record["qualities_str"], where)
        note = clip.annotation.notes[0]
        found = (record.get("pitch"), record.get("velocity"), record.get("instrument_str"))
        if found != (note.pitch, int(clip.annotation.attributes["velocity"]), clip.group):
            raise LayoutError(f"{where}: expected pitch, velocity and instrument as in the name, found {found}")
        yield replace(clip, path=str(ctx.audio(table.parent / "audio", stem)))


def _clip(stem: str, split: str, family: object, qualities: Sequence[object], where: str) -> Clip:
    """Return the clip as its name says; `family` must agree with it."""
    match = _NAME.fullmatch(stem)
    if match is None or match["family"] != family or int(match["pitch"]) > 127:
        raise LayoutError(
            f"{where}: expected a name <instrument>-<pitch>-<velocity> like bass_synthetic_068-049-025 and its family, "
            f"found {stem} of family {family}"
        )
    label = _FAMILIES.label(family, where)
    pitch = int(match["pitch"])
    attributes = {
        "instrument": label,
        "instrument source": match["source"],
        "pitch": str(pitch),
        "velocity": str(int(match["velocity"])),
    }
    if qualities:
        attributes["qualities"] = ", ".join(_QUALITIES.label(quality, where) for quality in qualities)
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="music",
        annotation=Annotation(
            labels=(label,),
            label_set=SPEC.name,
            attributes=attributes,
            notes=(Note(pitch=pitch, onset_s=0.0, offset_s=_HELD_S, instrument=label),),
        ),
        group=match["instrument"],
        license=SPEC.license,
    )
