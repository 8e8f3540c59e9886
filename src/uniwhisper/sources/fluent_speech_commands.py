"""Fluent Speech Commands: 30,043 orders to a smart home in 248 wordings and 31 intents, read by 97 speakers.

Reads `data/<train|valid|test>_data.csv`, `data/speaker_demographics.csv` and `wavs/speakers/<speaker>/*.wav`, or
X-ARES's tars `fluentspeechcommands_<train|valid|test>*.tar` (sample JSON: transcription; the columns of the CSV where
they are there). Kept: the wording as transcript and as label (X-ARES tells 248 of them apart), the intent as the
attributes action, object and location, the speaker's gender, and age, first language and fluency as metadata. Splits:
the publisher's, disjoint in speakers. Nothing is dropped by annotation.

Source: README of the archive (fluent_speech_commands_dataset); L. Lugosch et al., Interspeech 2019, arXiv 1904.03670
(table 1: hours, speakers, utterances); tars: https://zenodo.org/records/14722453,
https://github.com/jimbozhang/xares (v0.1.3, src/tasks/fluentspeechcommands_kws_task.py, which lists the wordings).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import gender, relative_path, text_field
from uniwhisper.sources._read import Row, by_column, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary, listed_vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_SPLITS = ("train", "valid", "test")
_TARS = {split: f"fluentspeechcommands_{split}*.tar" for split in _SPLITS}

SPEC = SourceSpec(
    name="fluent_speech_commands",
    version="1.0",
    homepage="https://fluent.ai/fluent-speech-commands-a-dataset-for-spoken-language-understanding-research/",
    license="Fluent Speech Commands Public License",
    citation="L. Lugosch, M. Ravanelli, P. Ignoto, V. S. Tomar, Y. Bengio, Speech Model Pre-training for End-to-End "
    "Spoken Language Understanding, Interspeech 2019",
    domain="speech",
    families=("asr", "classification", "audio_text_matching", "attribute_prediction"),
    languages=("en",),
    splits=_SPLITS,
    uses=("evaluation",),
    description="30,043 spoken orders to a smart home: 248 wordings, 31 intents, 97 speakers.",
    remotes=(Remote(url="https://zenodo.org/api/records/14722453/files-archive"),),
    not_downloadable="the publisher's archive: fill out the form on the homepage; X-ARES's tars need none",
    placement="fluent_speech_commands_dataset/data/*.csv, wavs/  the publisher's archive, unpacked\n"
    "or fluentspeechcommands_{train,valid,test}*.tar  X-ARES's tars",
    num_clips=30_043,
    hours=19.0,
)

_COLUMNS = ("path", "speakerId", "transcription", "action", "object", "location")
_PERSON = ("gender", "ageRange", "First Language spoken", "Self-reported fluency level")
_SLOTS = ("action", "object", "location")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of the tables, or per sample of the tars.

    Raises:
        LayoutError: A file is missing, or a row names an unknown wording or speaker.
    """
    wordings = listed_vocabulary(SPEC.name)
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(Path(tar.key).name, tar.json, {}, tar.split, wordings, tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    base = root / "fluent_speech_commands_dataset"
    base = base if base.is_dir() else root
    people = read_csv(ctx, base / "data" / "speaker_demographics.csv", columns=("speakerId", *_PERSON))
    speakers = by_column(people, "speakerId")
    for split in _SPLITS:
        for row in read_csv(ctx, base / "data" / f"{split}_data.csv", columns=_COLUMNS):
            if row["speakerId"] not in speakers:
                raise LayoutError(
                    f"{row.where}: expected a speaker of speaker_demographics.csv, found {row['speakerId']!r}"
                )
            path = relative_path(row["path"], row.where)
            clip = _clip(path.stem, row, _facts(speakers[row["speakerId"]]), split, wordings, row.where)
            yield replace(clip, path=str(base / path))


def _facts(row: Row) -> dict[str, str]:
    """Return gender, age, ... of a speaker."""
    names = {"ageRange": "age", "First Language spoken": "first language", "Self-reported fluency level": "fluency"}
    facts = {name: row[column] for column, name in names.items() if row[column]}
    return {"gender": gender(row["gender"], row.where), **facts}


def _clip(
    name: str, row: Mapping[str, Any], facts: dict[str, str], split: str, wordings: Vocabulary, where: str
) -> Clip:
    text = text_field(row, "transcription", where)
    speaker = text_field(row, "speakerId", where, default="")
    slots = {slot: text_field(row, slot, where, default="") for slot in _SLOTS}
    asked = {**slots, "gender": facts.get("gender", "")}
    return Clip(
        id=name,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(
            transcript=text,
            labels=(wordings.label(text, where),),
            label_set=SPEC.name,
            attributes={key: value for key, value in asked.items() if value},
            metadata={key: value for key, value in facts.items() if key != "gender"},
        ),
        language="en",
        speaker=speaker,
        group=speaker,
        license=SPEC.license,
    )
