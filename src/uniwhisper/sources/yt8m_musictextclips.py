"""YouTube8M-MusicTextClips: 4,169 spans of 10 s from the middle of music videos, each described by a listener.

Reads `train.csv` and `test.csv` (video_id, start, end, text). Kept: the text as caption, YouTube id and span, part.
Rows of one span
become one clip. Nothing is dropped by annotation but a span whose texts are all blank.

The publisher offers no audio. Spans that are no longer on YouTube are dropped as missing; the tolerance is 40 %, since
7 % were gone in 2023 and they keep vanishing.

Source: https://zenodo.org/records/8040754 (README: columns, counts); file names:
https://github.com/spotify-research/llark (m2t/preprocessing/jsonify.py); missing share: README of the J2A project.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from uniwhisper.sources._context import Context
from uniwhisper.sources._read import read_csv
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.sources._youtube import Span, read_span
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_SPLITS = ("train", "test")

SPEC = SourceSpec(
    name="yt8m_musictextclips",
    version="1",
    homepage="https://zenodo.org/records/8040754",
    license="Adobe Research License, research only (captions); the videos' owners' (audio)",
    citation="D. McKee et al., Language-Guided Music Recommendation for Video via Prompt Analogies, CVPR 2023",
    domain="music",
    families=("captioning", "audio_text_matching"),
    languages=(),
    splits=_SPLITS,
    uses=("training",),
    description="Captions by listeners of 10 s spans of music videos on YouTube.",
    not_downloadable="captions: train.csv and test.csv from the homepage, after reading the licence; "
    "audio: fetch the spans from YouTube (yt-dlp)",
    placement="train.csv, test.csv  captions\n"
    "audio/<video_id>_<start>.*  the span alone; names like <video_id> and <video_id>_<start ms>_<end ms> do as well",
    num_clips=4169,
    hours=11.6,
    drop_tolerance=0.4,
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per span.

    Raises:
        LayoutError: A table is missing or lacks a column, or a row has a malformed id or time.
    """
    for split in _SPLITS:
        table = ctx.require(root / f"{split}.csv", root)
        found: dict[str, tuple[Span, list[str]]] = {}
        for row in read_csv(ctx, table, columns=("video_id", "start", "end", "text")):
            span = read_span(row.where, row["video_id"], row["start"], row["end"])
            found.setdefault(span.id, (span, []))[1].append(row["text"])
        for span, texts in found.values():
            captions = tuple(text for text in texts if text)
            if not captions:
                ctx.drop(span.id, "no caption")
                continue
            yield Clip(
                id=span.id,
                source=SPEC.name,
                path=str(span.audio(ctx, root / "audio")),
                split=split,
                duration_s=0.0,
                domain="music",
                annotation=Annotation(captions=captions),
                group=span.video_id,
                upstream_ids=(span.upstream_id,),
            )
