"""LibriCount: 5,720 mixtures of 5 s in which 0 to 10 people of LibriSpeech test-clean speak at once.

Reads `test/<k>_<name>.json` with the wav of the same name, where k is the number of speakers, or X-ARES's tars
`libricount_fold<00..04>.tar` (sample JSON: num_speakers), which also set the folds. Kept: the number of speakers as
label, every speaker's activity as events `female speech` or `male speech`, and the speakers' ids, in the metadata and
as upstream ids `librispeech_speaker:<id>`: the publisher does not say which utterances were mixed. Dropped: wav files
without a JSON.

Source: https://zenodo.org/records/1216072; README of https://github.com/faroit/CountNet ("LibriCount10 0dB Dataset":
file names, JSON, activity in samples at 16 kHz); checksum: hear-preprocess (hearpreprocess/libricount.py); tars:
https://zenodo.org/records/14722478, https://github.com/jimbozhang/xares (v0.1.3, src/tasks/libricount_task.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from uniwhisper import identifiers
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import gender, text_field, upstream_at
from uniwhisper.sources._read import number, read_json
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import Vocabulary
from uniwhisper.types import Annotation, Clip, Event

__all__ = ["SPEC", "convert"]

_FOLDS = tuple(f"fold{number}" for number in range(1, 6))
_TARS = {fold: f"libricount_fold{index:02d}*.tar" for index, fold in enumerate(_FOLDS)}

SPEC = SourceSpec(
    name="libricount",
    version="1.0.0",
    homepage="https://zenodo.org/records/1216072",
    license="CC-BY-4.0",
    citation="F.-R. Stoeter, S. Chakrabarty, B. Edler, E. A. P. Habets, Classification vs. Regression in Supervised "
    "Learning for Single Channel Speaker Count Estimation, ICASSP 2018",
    domain="speech",
    families=("classification", "event_detection", "audio_text_matching", "attribute_prediction"),
    languages=("en",),
    splits=("test", *_FOLDS),
    uses=("evaluation",),
    description="5,720 mixtures of 0 to 10 LibriSpeech speakers, 5 s each: how many speak at once?",
    remotes=(
        Remote(
            url="https://zenodo.org/records/1216072/files/LibriCount10-0dB.zip",
            checksum="md5:30c8f844dc59fa65d216d53db9dc37e2",
        ),
        Remote(url="https://zenodo.org/api/records/14722478/files-archive"),
    ),
    placement="test/*.wav, test/*.json  LibriCount10-0dB.zip, unpacked\nor libricount_fold<00..04>.tar  X-ARES's tars",
    num_clips=5720,
    hours=7.94,
)

_COUNTS = Vocabulary(name=SPEC.name, labels={str(count): str(count) for count in range(11)})
_NAME = re.compile(r"(?P<count>\d+)_\S+")


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per JSON file, or per sample of the tars.

    Raises:
        LayoutError: The folder holds neither, or an annotation is not of the form.
    """
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(tar.key, text_field(tar.json, "num_speakers", tar.where), tar.split, [], tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    folder = ctx.require(root / "test", root)
    for path in sorted(folder.glob("*.json")):
        ctx.rows[path] += 1
        match = _NAME.fullmatch(path.stem)
        if match is None:
            raise LayoutError(f"{path}: expected a name <number of speakers>_<name>.json")
        clip = _clip(path.stem, match["count"], "test", _speakers(path), str(path))
        yield replace(clip, path=str(ctx.audio(folder, path.stem)))
    for path in sorted(folder.glob("*.wav")):
        if not path.with_suffix(".json").is_file():
            ctx.drop(path.stem, "no annotation")


def _speakers(path: Path) -> list[dict[str, Any]]:
    speakers = read_json(path)
    if not isinstance(speakers, list) or not all(isinstance(speaker, dict) for speaker in speakers):
        raise LayoutError(f"{path}: expected a list of speakers, found {str(speakers)[:80]}")
    return speakers


def _clip(name: str, count: str, split: str, speakers: list[dict[str, Any]], where: str) -> Clip:
    label = _COUNTS.label(count, where)
    names: list[str] = []
    events: list[Event] = []
    for index, speaker in enumerate(speakers):
        place = f"{where}: speaker {index}"
        heard = gender(text_field(speaker, "sex", place), place)
        names.append(text_field(speaker, "speaker_id", place))
        spans = speaker.get("activity") or []
        if not isinstance(spans, list):
            raise LayoutError(f"{place}: expected activity as a list of pairs of samples, found {repr(spans)[:80]}")
        for span in spans:
            if not isinstance(span, list) or len(span) != 2:
                raise LayoutError(f"{place}: expected activity as pairs of samples, found {repr(span)[:80]}")
            onset = number(span[0], f"{place}: activity", low=0)
            offset = number(span[1], f"{place}: activity", low=onset)
            events.append(Event(label=f"{heard} speech", onset_s=onset / SAMPLE_RATE, offset_s=offset / SAMPLE_RATE))
    return Clip(
        id=name,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="speech",
        annotation=Annotation(
            labels=(label,),
            label_set=SPEC.name,
            attributes={"number of speakers": label},
            events=tuple(sorted(events, key=lambda event: (event.onset_s, event.offset_s, event.label))),
            metadata={"speakers": " ".join(names)} if names else {},
        ),
        language="en" if label != "0" else "",
        license=SPEC.license,
        upstream_ids=tuple(
            upstream_at(where, identifiers.upstream, "librispeech_speaker", speaker) for speaker in names
        ),
    )
