"""MusicCaps: 5,521 spans of 10 s of AudioSet's music, described by musicians: a caption and a list of aspects each.

Reads `musiccaps-public.csv`. Kept: caption, aspects (as labels of an open vocabulary), YouTube id and span; AudioSet's
label codes, the author's number, the balanced subset and AudioSet's part as metadata. All is `train`: the publisher
names the spans that are in AudioSet's evaluation part, but makes no split of his own, and the paper trains on all
15.3 hours. Nothing is dropped by annotation.

The publisher offers no audio. Spans that are no longer on YouTube are dropped as missing; the tolerance is 40 %,
because they keep vanishing.

Source: https://huggingface.co/datasets/google/MusicCaps (README), https://www.kaggle.com/datasets/googleai/musiccaps;
arXiv 2301.11325, section 4.3.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import Row, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._youtube import read_span
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="musiccaps",
    version="1",
    homepage="https://www.kaggle.com/datasets/googleai/musiccaps",
    license="CC-BY-SA-4.0 (captions); the videos' owners' (audio)",
    citation="A. Agostinelli et al., MusicLM: Generating Music From Text, arXiv 2301.11325, 2023",
    domain="music",
    families=("captioning", "tagging", "audio_text_matching"),
    languages=(),
    splits=("train",),
    uses=("training",),
    description="Captions and aspects by musicians of 10 s spans of AudioSet's music.",
    remotes=(Remote(url="https://huggingface.co/datasets/google/MusicCaps/resolve/main/musiccaps-public.csv"),),
    not_downloadable="audio: fetch the spans from YouTube (yt-dlp)",
    placement="musiccaps-public.csv  captions and aspects\n"
    "audio/<ytid>.*  the span alone; names like <ytid>_<start_s> and <ytid>_<start ms>_<end ms> do as well",
    num_clips=5521,
    hours=15.3,
    drop_tolerance=0.4,
)

_COLUMNS = (
    "ytid",
    "start_s",
    "end_s",
    "audioset_positive_labels",
    "aspect_list",
    "caption",
    "author_id",
    "is_balanced_subset",
    "is_audioset_eval",
)
_PARTS = {"True": "evaluation", "False": "train"}


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per row.

    Raises:
        LayoutError: The table is missing or lacks a column, or a row has a malformed id, time, flag or list.
    """
    for row in read_csv(ctx, ctx.require(root / "musiccaps-public.csv", root), columns=_COLUMNS):
        span = read_span(row.where, row["ytid"], row["start_s"], row["end_s"])
        if row["is_audioset_eval"] not in _PARTS:
            raise LayoutError(
                f"{row.where}: expected is_audioset_eval True or False, found {row['is_audioset_eval']!r}"
            )
        if not row["caption"]:
            raise LayoutError(f"{row.where}: expected a caption, found a blank cell")
        yield Clip(
            id=span.id,
            source=SPEC.name,
            path=str(span.audio(ctx, root / "audio")),
            split="train",
            duration_s=0.0,
            domain="music",
            annotation=Annotation(
                captions=(row["caption"],),
                labels=_aspects(row),
                metadata={
                    "audioset_labels": row["audioset_positive_labels"],
                    "author_id": row["author_id"],
                    "audioset_part": _PARTS[row["is_audioset_eval"]],
                    "balanced_subset": row["is_balanced_subset"],
                },
            ),
            group=span.video_id,
            upstream_ids=(span.upstream_id,),
        )


def _aspects(row: Row) -> tuple[str, ...]:
    """Return the aspects, each once; the cell is a list as Python writes it.

    Raises:
        LayoutError: The cell is no list of texts; the message names the row.
    """
    try:
        found = ast.literal_eval(row["aspect_list"])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise LayoutError(f"{row.where}: expected aspect_list to be a list like ['sad', 'slow tempo'], found otherwise")
    parts = (part.strip() for item in found for part in str(item).split(";"))  # ';' parts labels in an answer
    return tuple(dict.fromkeys(part for part in parts if part))
