"""DESED: domestic recordings and soundscapes of 10 s with events of 10 classes (DCASE task 4, 2019 to 2023).

Reads the tables below `metadata/` and the clips below `audio/` as the publisher's tools lay them out: weak labels
(`train/weak.tsv`), strong labels of recordings (`train/audioset_strong.tsv`, `validation/validation.tsv`,
`eval/public.tsv`) and of synthetic soundscapes (`{train/synthetic*_train,validation/synthetic*_validation}/
soundscapes.tsv`); or X-ARES's tars `wds-audio-{train,eval}*.tar`, each sample with a list of events. Kept: labels,
events, and the YouTube id with its span (one group a video). Not read: `train/unlabel_in_domain.tsv`, which says
nothing but names, and `validation/{test,eval}_dcase2018.tsv`, of which `validation.tsv` is made. Nothing is
dropped by annotation: clips without an event are kept, without labels.

Source: https://github.com/turpaultn/DESED (README.md, real/README.md, desed/download.py 1.3.8); tars:
https://zenodo.org/records/14808180, https://github.com/jimbozhang/xares (src/tasks/desed_task.py, v0.1.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import plain_name, upstream_at
from uniwhisper.sources._read import number, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import vocabulary
from uniwhisper.types import Annotation, Clip, Event

__all__ = ["SPEC", "convert"]

_TARS = {"train": "wds-audio-train*.tar", "test": "wds-audio-eval*.tar"}
_PARTS = (
    ("train", "train/weak.tsv", "train/weak"),
    ("train", "train/audioset_strong.tsv", "train/strong_label_real"),
    ("train", "train/synthetic*_train/soundscapes.tsv", ""),
    ("valid", "validation/validation.tsv", "validation/validation"),
    ("valid", "validation/synthetic*_validation/soundscapes.tsv", ""),
    ("test", "eval/public.tsv", "eval/public"),
)
"""Split, table below `metadata`, folder below `audio` ("" = the one named like the table)."""
_REQUIRED = ("train/weak.tsv", "validation/validation.tsv", "eval/public.tsv")

SPEC = SourceSpec(
    name="desed",
    version="2023",
    homepage="https://project.inria.fr/desed/",
    license="as stated per file in the archives' licence files (Freesound, SINS, TUT, YouTube)",
    citation="N. Turpault, R. Serizel, A. Parag Shah and J. Salamon, Sound event detection in domestic environments "
    "with weakly labeled data and soundscape synthesis, DCASE 2019",
    domain="sound",
    families=("tagging", "classification", "event_detection", "audio_text_matching"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("evaluation",),
    description="Domestic sound events of 10 classes in clips of 10 s, with onsets and offsets.",
    remotes=(
        Remote(url="https://zenodo.org/records/4639776/files/audioset_metadata.tar.gz"),
        Remote(url="https://zenodo.org/records/6444477/files/audioset_strong.tsv"),
        Remote(url="https://zenodo.org/records/6026841/files/dcase_synth.zip"),
        Remote(url="https://zenodo.org/records/4560759/files/DESED_public_eval.tar.gz"),
        Remote(url="https://zenodo.org/api/records/14808180/files-archive"),
    ),
    not_downloadable="Recordings of train and validation come from YouTube: desed.download_audioset_data (pip install "
    "desed) fetches what is left, the authors send the rest.",
    placement="metadata/{train/weak,validation/validation,eval/public}.tsv  annotations of recordings\n"
    "metadata/train/audioset_strong.tsv, metadata/*/synthetic*/soundscapes.tsv  further parts (may be left out)\n"
    "audio/<the same folders>/*.wav  clips (audio/train/strong_label_real for audioset_strong.tsv)\n"
    "or wds-audio-{train,eval}*.tar  X-ARES's tars",
    num_clips=19_408,
    hours=53.9,
    drop_tolerance=0.3,  # videos vanish from YouTube; the public evaluation set and the soundscapes are complete
)

_CLASSES = vocabulary(
    SPEC.name,
    "Alarm_bell_ringing Blender Cat Dishes Dog Electric_shaver_toothbrush Frying Running_water Speech Vacuum_cleaner",
)
# AudioSet's files begin with Y; a time's point is an underscore in the tars, whose names may hold none.
_NAME = re.compile(r"Y?(?P<video>[\w-]{11})_(?P<start>\d+(?:[._]\d{3})?)_(?P<end>\d+(?:[._]\d{3})?)", re.ASCII)


@dataclass(kw_only=True, slots=True)
class _Draft:
    """A clip while its rows are being read."""

    where: str
    labels: dict[str, None] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def add(self, names: str, onset: object, offset: object, where: str) -> None:
        """Add an event of each class in `names`; without times only the labels."""
        labels = [_CLASSES.label(name, where) for name in names.split(",")]
        self.labels |= dict.fromkeys(labels)
        if onset is not None:
            onset_s = number(onset, f"{where}: onset", low=0)
            offset_s = number(offset, f"{where}: offset", low=onset_s)
            self.events += [Event(label=label, onset_s=onset_s, offset_s=offset_s) for label in labels]


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per file named in the tables, or per sample of the tars.

    Raises:
        LayoutError: A table is missing, or a row has an unknown class or impossible times.
    """
    if has_tars(root, _TARS.values()):
        yield from _tar_clips(root, ctx)
        return
    for table in _REQUIRED:
        ctx.require(root / "metadata" / table, root)
    for split, pattern, folder in _PARTS:
        for table in sorted((root / "metadata").glob(pattern)):
            part = table.relative_to(root / "metadata").with_suffix("").as_posix()
            for stem, draft in _drafts(table, ctx).items():
                path = ctx.audio(root / "audio" / (folder or part), stem)
                yield replace(_clip(f"{part}/{stem}", stem, split, draft), path=str(path))


def _drafts(table: Path, ctx: Context) -> dict[str, _Draft]:
    """Return stem -> what the rows of a table say about it; a row may hold a name and no event."""
    weak = table.name == "weak.tsv"
    columns = ("filename", "event_labels") if weak else ("filename", "onset", "offset", "event_label")
    drafts: dict[str, _Draft] = {}
    for row in read_csv(ctx, table, columns=columns, delimiter="\t"):
        stem = plain_name(row["filename"].removesuffix(".wav"), row.where)
        draft = drafts.setdefault(stem, _Draft(where=row.where))
        if weak:
            draft.add(row["event_labels"], None, None, row.where)
        elif any(row[column] for column in columns[1:]):
            draft.add(row["event_label"], row["onset"], row["offset"], row.where)
    return drafts


def _tar_clips(root: Path, ctx: Context) -> Iterator[Clip]:
    for sample in read_tars(ctx, root, _TARS):
        draft = _Draft(where=sample.where)
        for event in sample.rows:
            draft.add(str(event.get("label")), event.get("onset", ""), event.get("offset", ""), sample.where)
        clip = _clip(f"{sample.split}/{sample.key}", Path(sample.key).name, sample.split, draft)
        yield replace(clip, path=str(sample.path), offset_bytes=sample.offset_bytes, num_bytes=sample.num_bytes)


def _clip(clip_id: str, stem: str, split: str, draft: _Draft) -> Clip:
    """Return a clip without its audio; one without events stays, because a detector must be silent there."""
    match = _NAME.fullmatch(stem)
    upstream: tuple[str, ...] = ()
    if match:
        start_s, end_s = (float(match[name].replace("_", ".")) for name in ("start", "end"))
        upstream = (upstream_at(draft.where, identifiers.youtube, match["video"], start_s, end_s),)
    return Clip(
        id=clip_id,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(labels=tuple(draft.labels), label_set=SPEC.name, events=tuple(draft.events)),
        group=match["video"] if match else "",
        upstream_ids=upstream,
    )
