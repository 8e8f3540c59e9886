"""CREMA-D: 91 actors say 12 English sentences in six emotions, with the judgements of 2,443 listeners.

Reads `SentenceFilenames.csv` (what there is; a name says actor, sentence, emotion and level), `VideoDemographics.csv`,
where they are there `processedResults/tabulatedVotes.csv` (judgements of the voice alone) and
`processedResults/summaryTable.csv` (their majority), and `AudioWAV/*.wav`; or X-ARES's tars, whose JSON holds the
emotion's letter. Kept: the intended emotion and level, transcript, actor, gender, age, race and ethnicity, votes.
Dropped: four recordings that the README calls broken. Judgements of the face and of both are read past.

The publisher splits nothing: five folds by actor number, so every actor is in one. X-ARES splits clips at random, with
each actor on both sides of the split; those clips therefore have a speaker but no group.

Source: https://github.com/CheyneyComputerScience/CREMA-D (README: sentences, codes, broken files); tars:
https://zenodo.org/records/14646870, https://github.com/jimbozhang/xares (src/tasks/crema_d_task.py, and
crema_d/make_audio_tar.py of 2025-01).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import Row, by_column, number, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TARS = {split: f"wds-audio-{split}*.tar" for split in ("train", "valid", "test")}
_FOLDS = 5

SPEC = SourceSpec(
    name="crema_d",
    version="1.0",
    homepage="https://github.com/CheyneyComputerScience/CREMA-D",
    license="ODbL-1.0 AND DbCL-1.0",
    citation="H. Cao et al., CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset, IEEE TAC 2014",
    domain="speech",
    families=("asr", "classification", "audio_text_matching", "attribute_prediction"),
    languages=("en",),
    splits=("train", "valid", "test", *(f"fold{number}" for number in range(1, _FOLDS + 1))),
    uses=("evaluation",),
    description="12 English sentences in six acted emotions by 91 actors, judged by listeners.",
    remotes=(
        Remote(url="https://github.com/CheyneyComputerScience/CREMA-D.git"),
        Remote(url="https://zenodo.org/api/records/14646870/files-archive"),
    ),
    placement="SentenceFilenames.csv, VideoDemographics.csv, processedResults/  annotations\n"
    "AudioWAV/*.wav  audio (all as in a clone; git lfs fetches the audio)\n"
    "or wds-audio-{train,valid,test}*.tar  X-ARES's tars",
    num_clips=7442,
    hours=5.26,
    drop_tolerance=0.002,  # the four broken recordings, and as many that older clones lack
)

_NAME = re.compile(r"(?P<actor>1\d{3})_(?P<sentence>[A-Z]{3})_(?P<emotion>[A-Z]{3})_(?P<level>XX?|LO|MD|HI)")
_LETTERS = Vocabulary(
    name=SPEC.name,
    labels={"A": "anger", "D": "disgust", "F": "fear", "H": "happy", "N": "neutral", "S": "sad"},
)
_EMOTIONS = {"ANG": "A", "DIS": "D", "FEA": "F", "HAP": "H", "NEU": "N", "SAD": "S"}
_LEVELS = {"LO": "low", "MD": "medium", "HI": "high"}  # XX: not specified
_SENTENCES = {
    "IEO": "It's eleven o'clock.",
    "TIE": "That is exactly what happened.",
    "IOM": "I'm on my way to the meeting.",
    "IWW": "I wonder what this is about.",
    "TAI": "The airplane is almost full.",
    "MTI": "Maybe tomorrow it will be cold.",
    "IWL": "I would like a new alarm clock.",
    "ITH": "I think I have a doctor's appointment.",
    "DFA": "Don't forget a jacket.",
    "ITS": "I think I've seen this before.",
    "TSI": "The surface is slick.",
    "WSI": "We'll stop in a couple of minutes.",
}
_BROKEN = frozenset(("1076_MTI_NEU_XX", "1076_MTI_SAD_XX", "1064_TIE_SAD_XX", "1064_IEO_DIS_MD"))
_FILES = {"1040_ITH_SAD_XX": "1040_ITH_SAD_X"}
"""Where the audio's name differs from the list's."""


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of SentenceFilenames.csv, or per sample of the tars.

    Raises:
        LayoutError: A table is missing, or a row names an unknown actor, sentence or emotion.
    """
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(tar.key, tar.json.get("label"), tar.where)
            clip = replace(clip, split=tar.split, group="")
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    table = ctx.require(root / "SentenceFilenames.csv", root)
    people = ctx.require(root / "VideoDemographics.csv", root)
    actors = by_column(read_csv(ctx, people, columns=("ActorID", "Age", "Sex", "Race")), "ActorID")
    votes, majorities = _votes(root, ctx), _majorities(root, ctx)
    for row in read_csv(ctx, table, columns=("Stimulus_Number", "Filename")):
        stem = row["Filename"]
        clip = _clip(stem, None, row.where)
        if clip.speaker not in actors:
            raise LayoutError(f"{row.where}: expected an actor of {people.name}, found {clip.speaker}")
        if stem in _BROKEN:
            ctx.drop(stem, "broken recording, says the publisher's README")
            continue
        note = _judged(clip.annotation, actors[clip.speaker], votes.get(stem, {}), majorities.get(stem, {}))
        yield replace(clip, path=str(ctx.audio(root / "AudioWAV", _FILES.get(stem, stem))), annotation=note)


def _votes(root: Path, ctx: Context) -> dict[str, dict[str, int]]:
    """Return stem -> emotion -> listeners who heard it in the voice alone: rows 100001, 100002, ... of the table."""
    table = root / "processedResults" / "tabulatedVotes.csv"
    if not table.is_file():
        return {}
    rows = (row for row in read_csv(ctx, table, columns=("", *_LETTERS.labels, "fileName")) if row[""].startswith("1"))
    return {
        name: {label: row.whole(letter) for letter, label in _LETTERS.labels.items()}
        for name, row in by_column(rows, "fileName").items()
    }


def _majorities(root: Path, ctx: Context) -> dict[str, dict[str, str]]:
    """Return stem -> what most listeners heard in the voice alone (several emotions on a tie), and how strongly."""
    table = root / "processedResults" / "summaryTable.csv"
    if not table.is_file():
        return {}
    found: dict[str, dict[str, str]] = {}
    for name, row in by_column(
        read_csv(ctx, table, columns=("FileName", "VoiceVote", "VoiceLevel")), "FileName"
    ).items():
        letters, levels = row["VoiceVote"].split(":"), row["VoiceLevel"].split(":")
        for level in levels:
            number(level, f"{row.where}: column VoiceLevel", low=0, high=100)
        heard = ", ".join(_LETTERS.label(letter, f"{row.where}: column VoiceVote") for letter in letters)
        found[name] = {"perceived emotion": heard, "perceived level": ", ".join(levels)}
    return found


def _judged(note: Annotation, actor: Row, votes: dict[str, int], majority: dict[str, str]) -> Annotation:
    """Return the annotation with the actor's facts and the listeners' judgements."""
    facts = {name.lower(): actor[name] for name in ("Age", "Race", "Ethnicity") if actor.get(name)}
    return replace(
        note,
        attributes=note.attributes | {"gender": actor["Sex"].lower()},
        votes={label: count for label, count in votes.items() if count},
        metadata=facts | majority,
    )


def _clip(stem: str, letter: object, where: str) -> Clip:
    """Return the clip as its name says; `letter` is the emotion where something else than the name says it."""
    match = _NAME.fullmatch(stem)
    if match is None or match["sentence"] not in _SENTENCES or match["emotion"] not in _EMOTIONS:
        raise LayoutError(
            f"{where}: expected a name like 1001_IEO_ANG_HI, <actor>_<sentence>_<emotion>_<level>: {stem}"
        )
    emotion = _LETTERS.label(_EMOTIONS[match["emotion"]] if letter is None else letter, where)
    level = _LEVELS.get(match["level"], "")
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=f"fold{int(match['actor']) % _FOLDS + 1}",
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(
            transcript=_SENTENCES[match["sentence"]],
            labels=(emotion,),
            label_set=SPEC.name,
            attributes={"emotion": emotion} | ({"intensity": level} if level else {}),
        ),
        language="en",
        speaker=match["actor"],
        group=match["actor"],
        license=SPEC.license,
    )
