"""URBAN-SED: 10,000 soundscapes of 10 s mixed from UrbanSound8K over Brownian noise, with events of 10 classes.

Reads `annotations/{train,validate,test}/*.jams` and `audio/{train,validate,test}/*.wav` of the publisher's archive;
where a soundscape has no JAMS, its `.txt` (onset, offset, label), which repeats the JAMS without the sources. Kept:
events, labels, the Freesound ids of all recordings in the mix (training on a soundscape is training on those, and
UrbanSound8K is an evaluation corpus), and how each event was made. Dropped: soundscapes without an event. The split
follows UrbanSound8K's folds: 1-6 train, 7-8 valid, 9-10 test.

Source: https://zenodo.org/records/1324404, http://urbansed.weebly.com, https://github.com/soundata/soundata
(soundata/datasets/urbansed.py 1.0.1: layout, md5).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uniwhisper.sources._context import Context
from uniwhisper.sources._scaper import notes, soundscape
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._vocabulary import vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="urban_sed",
    version="2.0.0",
    homepage="https://zenodo.org/records/1324404",
    license="CC-BY-4.0",
    citation="J. Salamon, D. MacConnell, M. Cartwright, P. Li and J. P. Bello, Scaper: A Library for Soundscape "
    "Synthesis and Augmentation, WASPAA 2017",
    domain="sound",
    families=("tagging", "classification", "event_detection", "audio_text_matching"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="10,000 synthetic urban soundscapes of 10 s with onsets and offsets of 10 classes.",
    remotes=(
        Remote(
            url="https://zenodo.org/records/1324404/files/URBAN-SED_v2.0.0.tar.gz",
            checksum="md5:a2d24a2148ece7c021fcc079ee87c2dc",
        ),
    ),
    placement="annotations/{train,validate,test}/*.jams  annotations\n"
    "audio/{train,validate,test}/*.wav  soundscapes (both as in the archive's folder URBAN-SED_v2.0.0)",
    num_clips=10_000,
    hours=27.78,
)

_SPLITS = {"train": "train", "validate": "valid", "test": "test"}
_CLASSES = vocabulary(
    SPEC.name,
    "air_conditioner car_horn children_playing dog_bark drilling engine_idling gun_shot jackhammer siren street_music",
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per annotated soundscape.

    Raises:
        LayoutError: There are no annotations, or one has an unknown label or impossible times.
    """
    folder = ctx.require(root / "annotations", root)
    for name, split in _SPLITS.items():
        for stem, path in notes(folder / name).items():
            found = soundscape(ctx, path, _CLASSES)
            if not found.events:
                ctx.drop(stem, "no event: background only")
                continue
            yield Clip(
                id=stem,
                source=SPEC.name,
                path=str(ctx.audio(root / "audio" / name, stem)),
                split=split,
                duration_s=0.0,
                domain="sound",
                annotation=Annotation(
                    labels=found.labels, label_set=SPEC.name, events=found.events, metadata=found.metadata
                ),
                license=SPEC.license,
                upstream_ids=found.upstream_ids,
            )
