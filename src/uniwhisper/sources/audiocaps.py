"""AudioCaps: 51,308 spans of 10 s of AudioSet's videos, described by listeners: one caption each in train, five else.

Reads `train.csv`, `val.csv` and `test.csv` (audiocap_id, youtube_id, start_time, caption); of version 1.0 or 2.0, which
are laid out alike. The rows of a span become one clip with all its captions. Kept: captions, YouTube id and span, the
captions' ids. Nothing is dropped by annotation but a span whose captions are all blank.

The publisher offers no audio. Spans that are no longer on YouTube are dropped as missing; the tolerance is 40 %,
since 7 % of the training part were gone in 2023 (46,230 of 49,838 left) and they keep vanishing.

Source: https://github.com/cdjkim/audiocaps (dataset/README.md, dataset2.0/README.md); clips are AudioSet's,
10 s long (Kim et al. 2019, section 3); missing share: https://github.com/Labbeti/aac-datasets (README).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uniwhisper.sources._context import Context
from uniwhisper.sources._read import Row, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._youtube import read_span
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_TABLES = {"train": "train", "val": "valid", "test": "test"}
_ADDRESS = "https://raw.githubusercontent.com/cdjkim/audiocaps/master/dataset"

SPEC = SourceSpec(
    name="audiocaps",
    version="1.0",
    homepage="https://audiocaps.github.io",
    license="academic use only (captions); the videos' owners' (audio)",
    citation="C. D. Kim et al., AudioCaps: Generating Captions for Audios in The Wild, NAACL-HLT 2019",
    domain="sound",
    families=("captioning", "audio_text_matching"),
    languages=(),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="Captions by listeners of 10 s spans of AudioSet's YouTube videos.",
    remotes=(
        Remote(url=f"{_ADDRESS}/train.csv", size_bytes=3_576_723),
        Remote(url=f"{_ADDRESS}/val.csv", size_bytes=171_918),
        Remote(url=f"{_ADDRESS}/test.csv", size_bytes=402_246),
    ),
    not_downloadable="audio: fetch the spans from YouTube (yt-dlp, or aac-datasets-download audiocaps)",
    placement="train.csv, val.csv, test.csv  captions (the folder dataset or dataset2.0 of the repository)\n"
    "audio/<train|val|test>/<youtube_id>_<start_time>.*  the 10 s from start_time on; other downloaders' names also do",
    num_clips=51_308,
    hours=142.5,
    drop_tolerance=0.4,
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per span.

    Raises:
        LayoutError: A table is missing or lacks a column, or a row has a malformed id or time.
    """
    for name in _TABLES:
        table = ctx.require(root / f"{name}.csv", root)
        rows: dict[str, list[Row]] = {}
        for row in read_csv(ctx, table, columns=("audiocap_id", "youtube_id", "start_time", "caption")):
            rows.setdefault(f"{row['youtube_id']}_{row['start_time']}", []).append(row)
        for same in rows.values():
            clip = _clip(same, name, root, ctx)
            if clip is not None:
                yield clip


def _clip(rows: list[Row], name: str, root: Path, ctx: Context) -> Clip | None:
    span = read_span(rows[0].where, rows[0]["youtube_id"], rows[0]["start_time"])
    captions = tuple(row["caption"] for row in rows if row["caption"])
    if not captions:
        return ctx.drop(span.id, "no caption")
    return Clip(
        id=span.id,
        source=SPEC.name,
        path=str(span.audio(ctx, root / "audio" / name)),
        split=_TABLES[name],
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(
            captions=captions, metadata={"audiocap_ids": " ".join(row["audiocap_id"] for row in rows)}
        ),
        group=span.video_id,
        upstream_ids=(span.upstream_id,),
    )
