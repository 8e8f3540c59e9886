"""UrbanSound8K: 8,732 urban sounds of up to 4 s in 10 classes, cut from Freesound recordings, in ten folds.

Reads `metadata/UrbanSound8K.csv` and `audio/fold<1..10>/*.wav` of the publisher's archive, or X-ARES's tars
`urbansound_fold<1..10>_*.tar`, whose JSON holds the class name and whose member names are the slices' names. Kept: the
class, fold, Freesound id, where the slice lies in the recording and whether it stands in the foreground (both are not
in the tars). Nothing is dropped by annotation. Slices of a recording are one group; of the 1,297 recordings, five
(77751, 106905, 132016, 176638, 180937) have slices in two folds, which is the publisher's split and is left as it is.

Source: https://urbansounddataset.weebly.com/urbansound8k.html, https://zenodo.org/records/1203745; tars:
https://zenodo.org/records/14722683, https://github.com/jimbozhang/xares (src/tasks/urbansound8k_task.py, v0.1.3).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import plain_name
from uniwhisper.sources._read import read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._tars import has_tars, read_tars
from uniwhisper.sources._vocabulary import vocabulary
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_FOLDS = tuple(f"fold{number}" for number in range(1, 11))
_TARS = {fold: f"urbansound_{fold}_*.tar" for fold in _FOLDS}

SPEC = SourceSpec(
    name="urbansound8k",
    version="1.0",
    homepage="https://urbansounddataset.weebly.com/urbansound8k.html",
    license="CC-BY-NC-3.0",
    citation="J. Salamon, C. Jacoby and J. P. Bello, A Dataset and Taxonomy for Urban Sound Research, ACM MM 2014",
    domain="sound",
    families=("classification", "audio_text_matching"),
    languages=(),
    splits=_FOLDS,
    uses=("evaluation",),
    description="8,732 urban sounds of up to 4 s in 10 classes, ten folds (Freesound).",
    remotes=(
        # Source of the checksum: https://github.com/soundata/soundata, soundata/datasets/urbansound8k.py (1.0.1).
        Remote(
            url="https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz",
            checksum="md5:9aa69802bbf37fb986f71ec1483a196e",
        ),
        Remote(url="https://zenodo.org/api/records/14722683/files-archive"),
    ),
    placement="metadata/UrbanSound8K.csv  annotations\n"
    "audio/fold<1..10>/*.wav  clips (both as in the archive's folder UrbanSound8K)\n"
    "or urbansound_fold<1..10>_*.tar  X-ARES's tars",
    num_clips=8732,
    hours=8.75,
)

_CLASSES = vocabulary(
    SPEC.name,
    "air_conditioner car_horn children_playing dog_bark drilling engine_idling gun_shot jackhammer siren street_music",
)  # in the order of classID
_NAME = re.compile(r"(?P<freesound>\d+)-(?P<target>\d)-\d+-\d+")
_SALIENCE = {"1": "foreground", "2": "background"}


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row of the metadata, or per sample of the tars.

    Raises:
        LayoutError: A file is missing, or a row contradicts itself or the list of classes.
    """
    if has_tars(root, _TARS.values()):
        for tar in read_tars(ctx, root, _TARS):
            clip = _clip(tar.key, tar.json.get("soundevent"), tar.split, {}, tar.where)
            yield replace(clip, path=str(tar.path), offset_bytes=tar.offset_bytes, num_bytes=tar.num_bytes)
        return
    table = ctx.require(root / "metadata" / "UrbanSound8K.csv", root)
    columns = ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class")
    for row in read_csv(ctx, table, columns=columns):
        if f"fold{row['fold']}" not in _FOLDS or row["salience"] not in _SALIENCE:
            raise LayoutError(f"{row.where}: expected fold 1 to 10 and salience 1 or 2, found {dict(row)}")
        start_s = row.number("start", low=0)
        slice_of = {"recording span": f"{start_s:.3f}-{row.number('end', low=start_s):.3f} s"}
        stem = plain_name(row["slice_file_name"].removesuffix(".wav"), row.where)
        clip = _clip(
            stem, row["class"], f"fold{row['fold']}", {**slice_of, "salience": _SALIENCE[row["salience"]]}, row.where
        )
        if row["fsID"] != clip.group:
            raise LayoutError(f"{row.where}: expected fsID {clip.group} of {stem}, found {row['fsID']}")
        yield replace(clip, path=str(ctx.audio(root / "audio" / f"fold{row['fold']}", stem)))


def _clip(stem: str, name: object, split: str, metadata: dict[str, str], where: str) -> Clip:
    label = _CLASSES.label(name, where)
    match = _NAME.search(stem)  # in case the tars' names say more
    if match is None or list(_CLASSES.labels)[int(match["target"])] != name:
        raise LayoutError(
            f"{where}: expected a name <Freesound id>-<class number>-<occurrence>-<slice> of class {name}, found {stem}"
        )
    return Clip(
        id=stem,
        source=SPEC.name,
        path="",
        split=split,
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(labels=(label,), label_set=SPEC.name, metadata=metadata),
        group=match["freesound"],
        license=SPEC.license,
        upstream_ids=(identifiers.freesound(match["freesound"]),),
    )
