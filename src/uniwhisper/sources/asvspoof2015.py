"""ASVspoof 2015: genuine English speech, and speech forged from it by ten synthesis and voice conversion systems.

Reads `CM_protocol/cm_{train.trn,develop.ndx,evaluation.ndx}` (also with `.txt` behind), each row speaker, file, system
and key, with `wav/<speaker>/<file>.wav`; or X-ARES's tars, whose JSON holds the key. Kept: human or spoof, the system
(S1 ... S10) and its kind, the speaker who speaks or is imitated, and that speaker's gender where
`Joint_ASV_CM_protocol` is there (it lists the speakers of development and evaluation). The three parts share no
speaker. A part whose protocol is not there is not converted; nothing is dropped by annotation.

Source: https://datashare.ed.ac.uk/handle/10283/853; Wu et al., Interspeech 2015 (tables 1 and 2: speakers, utterances,
systems); https://github.com/bioidiap/bob.db.asvspoof (protocols, layout); tars:
https://zenodo.org/records/14718430, https://github.com/jimbozhang/xares (src/tasks/asvspoof_task.py).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import plain_name
from uniwhisper.sources._read import read_csv, read_lines
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TARS = {"train": "asvspoof_train*.tar", "valid": "asvspoof_valid*.tar", "test": "asvspoof_eval*.tar"}
_DATASHARE = "https://datashare.ed.ac.uk/bitstream/handle/10283/853"

SPEC = SourceSpec(
    name="asvspoof2015",
    version="2015",
    homepage="https://datashare.ed.ac.uk/handle/10283/853",
    license="as in license_text of the publisher's record",
    citation="Z. Wu et al., ASVspoof 2015: the First Automatic Speaker Verification Spoofing and Countermeasures "
    "Challenge, Interspeech 2015",
    domain="speech",
    families=("classification", "audio_text_matching", "attribute_prediction"),
    languages=("en",),
    splits=("train", "valid", "test"),
    uses=("evaluation",),
    description="Genuine English speech and ten kinds of forgeries of it, 106 speakers.",
    remotes=(
        Remote(url=f"{_DATASHARE}/wav_data.aa.tar.gz?sequence=6&isAllowed=y"),
        Remote(url=f"{_DATASHARE}/wav_data.ab.tar.gz?sequence=7&isAllowed=y"),
        Remote(url=f"{_DATASHARE}/wav_data.ac.tar.gz?sequence=8&isAllowed=y"),
        Remote(url="https://zenodo.org/api/records/14718430/files-archive"),
    ),
    placement="CM_protocol/cm_train.trn, cm_develop.ndx, cm_evaluation.ndx  protocols\n"
    "Joint_ASV_CM_protocol/ASV_{male,female}_enrolment.ndx  genders of the speakers (optional)\n"
    "wav/<speaker>/*.wav  audio: one archive in three parts, unpacked by cat wav_data.*.tar.gz | tar xz\n"
    "or asvspoof_{train,valid,eval}*.tar  X-ARES's tars",
    num_clips=263_151,
    hours=220,  # not published: from the size of the archive, 22.4 GB of 16 kHz PCM that compresses by about a tenth
)

_PROTOCOLS = {"train": "cm_train.trn", "valid": "cm_develop.ndx", "test": "cm_evaluation.ndx"}
_KEYS = Vocabulary(name=SPEC.name, labels={"human": "human", "spoof": "spoof"})
_KINDS = {
    f"S{number}": "speech synthesis" if number in (3, 4, 10) else "voice conversion" for number in range(1, 11)
}  # Source: Wu et al., section 2.2.


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of the protocols, or per sample of the tars.

    Raises:
        LayoutError: There is no protocol, or a row contradicts itself or names another system or key.
    """
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(tar.key, tar.key.partition("_")[0], tar.split, tar.json.get("binary_spoof"), tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    genders = _genders(root, ctx)
    folder = ctx.require(root / "CM_protocol", root)
    tables = {split: _found(folder / name) for split, name in _PROTOCOLS.items()}
    if not any(tables.values()):
        raise LayoutError(f"{ctx.source}: expected {', '.join(_PROTOCOLS.values())} in {folder}, found none of them")
    for split, table in tables.items():
        if table is None:
            continue
        for row in read_csv(ctx, table, names=("speaker", "file", "system", "key"), delimiter=" "):
            clip = _clip(row["file"], row["speaker"], split, row["key"], row.where)
            note = _systematic(clip.annotation, row["system"], genders.get(row["speaker"], ""), row.where)
            folder = root / "wav" / plain_name(row["speaker"], row.where)
            path = ctx.audio(folder, plain_name(row["file"], row.where))
            yield replace(clip, path=str(path), annotation=note)


def _found(path: Path) -> Path | None:
    """Return the protocol, which is published with and without `.txt`, or None."""
    return next((each for each in (path, path.with_name(f"{path.name}.txt")) if each.is_file()), None)


def _genders(root: Path, ctx: Context) -> dict[str, str]:
    """Return speaker -> gender, from the lists of enrolment utterances: `speaker,file,file,...`."""
    genders: dict[str, str] = {}
    for gender in ("male", "female"):
        table = root / "Joint_ASV_CM_protocol" / f"ASV_{gender}_enrolment.ndx"
        if table.is_file():
            for where, line in read_lines(ctx, table):
                speaker = line.partition(",")[0]
                if genders.setdefault(speaker, gender) != gender:
                    raise LayoutError(f"{where}: expected {speaker[:80]!r} in one of the two lists, found it in both")
    return genders


def _systematic(note: Annotation, system: str, gender: str, where: str) -> Annotation:
    """Return the annotation with the system and the gender."""
    spoofed = note.labels == ("spoof",)
    if (system in _KINDS) != spoofed or (system == "human") == spoofed:
        raise LayoutError(f"{where}: expected S1 ... S10 with key spoof, or human twice, found {system} {note.labels}")
    attributes = {"spoofing method": _KINDS[system]} if spoofed else {}
    return replace(
        note,
        attributes=attributes | ({"gender": gender} if gender else {}),
        metadata={"system": system} if spoofed else {},
    )


def _clip(stem: str, speaker: str, split: str, key: object, where: str) -> Clip:
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(labels=(_KEYS.label(key, where),), label_set=SPEC.name),
        language="en",
        speaker=speaker,
        group=speaker,
    )
