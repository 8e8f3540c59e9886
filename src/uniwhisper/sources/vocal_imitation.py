"""Vocal Imitation Set: 5,601 imitations by voice of 302 Freesound recordings, each of another AudioSet class.

Reads `vocal_imitations.txt` and `vocal_imitations/included/*.wav` of the publisher's archive, or X-ARES's tars
`vocal_imitations_fold<00..02>_*.tar`. Beside either, these add what they say: `original_recordings_license.csv` the
Freesound id of the imitated recording (taken as upstream id, so that training never hears the models of the test),
`participant_survey.csv` gender and age, `vocal_imitations_assessment.txt` the experts' ratings (0 to 100). The label is
the imitated class, spelt as its path in the ontology. Dropped: drafts, practice and what the experts did not take for
an imitation (5,641 of the 11,242 rows).

The publisher has no split: the three folds are HEAR's, drawn from the sorted file names, the first draw in which every
fold has every class. They do not keep participants apart, so no group is stated; `speaker` is the participant.

Source: https://zenodo.org/records/1340763 (v1.1.3, README.md); folds and md5:
https://github.com/hearbenchmark/hear-preprocess (hearpreprocess/vocal_imitation.py, pipeline.py: split_k_folds); tars:
https://zenodo.org/records/14862060, https://github.com/jimbozhang/xares (src/tasks/vocalimitations_task.py, v0.1.3).
"""

from __future__ import annotations

import itertools
import random
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import plain_name
from uniwhisper.sources._freesound import freesound_id
from uniwhisper.sources._read import Row, number, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import listed_vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_FOLDS = ("fold1", "fold2", "fold3")
_TARS = {fold: f"vocal_imitations_fold{index:02}_*.tar" for index, fold in enumerate(_FOLDS)}

SPEC = SourceSpec(
    name="vocal_imitation",
    version="1.1.3",
    homepage="https://zenodo.org/records/1340763",
    license="CC-BY-4.0",
    citation="B. Kim, M. Ghei, B. Pardo and Z. Duan, Vocal Imitation Set: a dataset of vocally imitated sound events "
    "using the AudioSet ontology, DCASE 2018",
    domain="sound",
    families=("classification", "audio_text_matching", "attribute_prediction"),
    languages=(),
    splits=_FOLDS,
    uses=("evaluation",),
    description="5,601 imitations by voice of sounds of 302 AudioSet classes.",
    remotes=(
        Remote(
            url="https://zenodo.org/records/1340763/files/VocalImitationSet_v1.1.3.zip",
            checksum="md5:386e7b1487fe0800ade4916c344086bc",
        ),
        Remote(url="https://zenodo.org/api/records/14862060/files-archive"),
    ),
    placement="vocal_imitations.txt  annotations\n"
    "vocal_imitations/included/*.wav  imitations\n"
    "original_recordings_license.csv, participant_survey.csv, vocal_imitations_assessment.txt  facts (may be left out; "
    "all of this as in the archive's folder VocalImitationSet)\n"
    "or vocal_imitations_fold<00..02>_*.tar  X-ARES's tars, the facts and vocal_imitations.txt beside them if wanted",
    num_clips=5601,
    hours=9.35,
    drop_tolerance=0.51,  # drafts, practice and rejected recordings are rows of the same table
)

_KINDS = {"draft": "a draft of an imitation", "training": "a practice recording"}
_GENDERS = {"m": "male", "f": "female"}
_MAX_DRAWS = 1000


@dataclass(kw_only=True, slots=True)
class _Facts:
    """What the tables beside the annotations say; each may be empty."""

    references: dict[str, str] = field(default_factory=dict)
    """Reference recording without suffix -> Freesound identifier."""
    people: dict[str, Row | None] = field(default_factory=dict)
    """Participant to six digits -> row of the survey; None where the digits do not tell two apart."""
    ratings: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per included imitation.

    Raises:
        LayoutError: A file or column is missing, or a class is not one of the 302.
    """
    classes = listed_vocabulary(SPEC.name)
    facts = _facts(root, ctx)
    table = root / "vocal_imitations.txt"
    if has_tars(root, _TARS.values()):
        rows = _rows(table, ctx) if table.is_file() else {}
        for tar in read_tars(ctx, root, _TARS):
            code = str(tar.json.get("imitation"))
            clip = _clip(tar.key, tar.split, code, classes.label(code, tar.where), rows.get(tar.key), facts)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    rows = _rows(ctx.require(table, root), ctx)
    codes = {stem: row["reference_filename"].removesuffix(".wav") for stem, row in rows.items()}
    for stem, fold in _folds(codes).items():
        row, code = rows[stem], codes[stem]
        clip = _clip(stem, fold, code, classes.label(code, row.where), row, facts)
        yield replace(clip, path=str(ctx.audio(root / "vocal_imitations" / "included", stem)))


def _rows(table: Path, ctx: Context) -> dict[str, Row]:
    """Return stem -> row of the included imitations, and drop the others."""
    columns = ("imitation_filename", "reference_filename", "included", "draft", "training", "participant_id")
    found: dict[str, Row] = {}
    for row in read_csv(ctx, table, columns=columns, delimiter="\t"):
        if row["included"] not in ("True", "False"):
            raise LayoutError(f"{row.where}: expected included to be True or False, found {row['included']!r}")
        if row["included"] == "True":
            earlier = found.setdefault(plain_name(_stem(row), row.where), row)
            if earlier is not row:
                raise LayoutError(f"{row.where}: expected one row of {_stem(row)}, found another at {earlier.where}")
        else:
            kinds = [text for column, text in _KINDS.items() if row[column] == "True"]
            ctx.drop(_stem(row), kinds[-1] if kinds else "not an imitation of its reference, said the experts")
    return found


def _stem(row: Row) -> str:
    return row["imitation_filename"].removesuffix(".wav")


def _folds(codes: dict[str, str]) -> dict[str, str]:
    """Return file name -> fold, in the table's order; `codes` is file name -> class."""
    folds: dict[str, str] = {}
    for draw in range(_MAX_DRAWS):
        names = sorted(codes)
        random.Random("split_k_folds" if draw == 0 else f"split_k_folds_retry_{draw - 1}").shuffle(names)
        size, larger = divmod(len(names), len(_FOLDS))
        cuts = list(itertools.accumulate(size + (index < larger) for index in range(len(_FOLDS))))
        of_name = {name: _FOLDS[sum(place >= end for end in cuts)] for place, name in enumerate(names)}
        folds = folds or of_name  # of a part of the corpus no draw may do, and the first one counts
        if len({(of_name[name], code) for name, code in codes.items()}) == len(_FOLDS) * len(set(codes.values())):
            folds = of_name
            break
    return {name: folds[name] for name in codes}


def _facts(root: Path, ctx: Context) -> _Facts:
    facts = _Facts()
    credit = root / "original_recordings_license.csv"
    for row in read_csv(ctx, credit, columns=("filename", "freesound_id")) if credit.is_file() else ():
        facts.references[row["filename"].removesuffix(".wav")] = freesound_id(row["freesound_id"], row.where)
    survey = root / "participant_survey.csv"
    for row in read_csv(ctx, survey, columns=("participant_id", "age", "gender")) if survey.is_file() else ():
        person = _person(row)
        facts.people[person] = None if person in facts.people else row
    ratings = root / "vocal_imitations_assessment.txt"
    columns = ("imitation_filename", "wrong_pair", "rating")
    for row in read_csv(ctx, ratings, columns=columns, delimiter="\t") if ratings.is_file() else ():
        if row["rating"] and row["wrong_pair"] == "False":  # wrong pairs were shown to test the experts
            facts.ratings[_stem(row)].append(f"{row.number('rating', low=0, high=100):g}")
    return facts


def _person(row: Row) -> str:
    """Return the participant's first six digits, rounded: the imitations' table has no more, the survey sixteen."""
    return f"{number(row['participant_id'], f'{row.where}: participant_id', low=1):.5e}".replace(".", "")[:6]


def _clip(stem: str, fold: str, code: str, label: str, row: Row | None, facts: _Facts) -> Clip:
    reference = facts.references.get(code)
    person = _person(row) if row else ""
    survey = facts.people.get(person)
    gender = _GENDERS.get(survey["gender"], "") if survey else ""
    metadata = {
        "satisfaction": row.get("satisfaction", "") if row else "",
        "guess": row.get("participants_sound_recording_description", "") if row else "",
        "confidence": row.get("participants_sound_recording_description_confidence", "") if row else "",
        "ratings": ", ".join(facts.ratings.get(stem, ())),
        "age": survey["age"] if survey else "",
    }
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=fold,
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(
            labels=(label,),
            label_set=SPEC.name,
            attributes={"gender": gender} if gender else {},
            metadata={name: text for name, text in metadata.items() if text},
        ),
        speaker=person,
        license=SPEC.license,
        upstream_ids=(reference,) if reference else (),
    )
