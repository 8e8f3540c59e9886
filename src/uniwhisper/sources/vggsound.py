"""VGGSound: 199,176 spans of 10 s of YouTube videos in 309 classes; what sounds is in the picture.

Reads `vggsound.csv` (id, start, label, part; no header, labels may hold commas) or, where it is not there, `test.csv`,
the list of file names and labels of the test part that the repository had before; and the classes with their coarse
groups in `stat.csv`. Kept: label, group, YouTube id and span, part. Nothing is dropped by annotation.

The publisher offers no audio of its own. Spans that are no longer on YouTube are dropped as missing; the tolerance is
40 %, because they keep vanishing.

Source: https://github.com/hche11/VGGSound (README, data/); counts: the sum of data/stat.csv; Chen et al. 2020,
arXiv 2004.14368 (clips of 10 s).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import by_column, read_csv
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._youtube import Span, read_span
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

_ADDRESS = "https://raw.githubusercontent.com/hche11/VGGSound/master/data"
_FILE = re.compile(r"(?P<id>.{11})_(?P<start>\d{6})\.mp4")
_SPLITS = ("train", "test")

SPEC = SourceSpec(
    name="vggsound",
    version="1",
    homepage="https://www.robots.ox.ac.uk/~vgg/data/vggsound",
    license="CC-BY-4.0 (labels); the videos' owners' (audio)",
    citation="H. Chen, W. Xie, A. Vedaldi, A. Zisserman, VGGSound: A Large-scale Audio-Visual Dataset, ICASSP 2020",
    domain="sound",
    families=("classification", "audio_text_matching"),
    languages=(),
    splits=_SPLITS,
    uses=("training",),
    description="10 s spans of YouTube videos in 309 classes of sound.",
    remotes=(Remote(url=f"{_ADDRESS}/vggsound.csv"), Remote(url=f"{_ADDRESS}/stat.csv", size_bytes=9_204)),
    not_downloadable="audio: fetch the spans from YouTube (yt-dlp), or take a copy that somebody kept",
    placement="vggsound.csv, stat.csv  labels and classes (the folder data of the repository)\n"
    "audio/<youtube id>_<start, six digits>.*  the 10 s from the start on; other downloaders' names do as well",
    num_clips=199_176,
    hours=553.3,
    drop_tolerance=0.4,
)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per span.

    Raises:
        LayoutError: A table is missing, or a row has a malformed id, time, part, or a label that is not a class.
    """
    table = ctx.require(root / "stat.csv", root)
    classes = by_column(read_csv(ctx, table, names=("label", "count", "group")), "label")
    groups = {label: row["group"] for label, row in classes.items()}
    for where, span, label, split in _rows(root, ctx):
        if label not in groups:
            raise LayoutError(f"{where}: expected one of the {len(groups)} classes in stat.csv, found {label!r}")
        if split not in _SPLITS:
            raise LayoutError(f"{where}: expected the part to be one of {_SPLITS}, found {split!r}")
        yield Clip(
            id=span.id,
            source=SPEC.name,
            path=str(span.audio(ctx, root / "audio")),
            split=split,
            duration_s=0.0,
            domain="sound",
            annotation=Annotation(labels=(label,), label_set=SPEC.name, metadata={"group": groups[label]}),
            group=span.video_id,
            upstream_ids=(span.upstream_id,),
        )


def _rows(root: Path, ctx: Context) -> Iterator[tuple[str, Span, str, str]]:
    """Yield (file and line, span, label, split)."""
    older = root / "test.csv"
    if older.is_file() and not (root / "vggsound.csv").is_file():
        for row in read_csv(ctx, older, names=("file", "label")):
            match = _FILE.fullmatch(row["file"])
            if match is None:
                raise LayoutError(f"{row.where}: expected <YouTube id>_<start, six digits>.mp4, found {row['file']!r}")
            yield row.where, read_span(row.where, match["id"], match["start"]), row["label"], "test"
        return
    table = ctx.require(root / "vggsound.csv", root)
    for row in read_csv(ctx, table, names=("youtube_id", "start", "label", "split")):
        yield row.where, read_span(row.where, row["youtube_id"], row["start"]), row["label"], row["split"]
