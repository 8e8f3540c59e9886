"""Spans of YouTube videos: what identifies one, and the file that a downloader made of it.

Nobody publishes YouTube audio, so its files are named by whoever fetched it. A span's file is looked for under the
names of the common downloaders, in any audio format; it holds the span alone, not the whole video. Writes nothing.

Source of the names: `<id>_<start>` in https://github.com/Labbeti/aac-datasets (datasets/functional/audiocaps.py);
`<id>_<start, six digits>` in https://github.com/hche11/VGGSound (data/test.csv); `<id>_<start ms>_<end ms>` in
https://github.com/speedyseal/audiosetdl; `<id>_<start ms>` in AudioSet's strong labels
(https://research.google.com/audioset/download_strong.html); `Y<id>` in WavCaps's as_final.json; `<id>` in
https://huggingface.co/datasets/agkphysics/AudioSet.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from uniwhisper import identifiers
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import upstream_at
from uniwhisper.sources._read import number

__all__ = ["CLIP_S", "Span", "read_span"]

CLIP_S = 10.0
"""Seconds of a clip of AudioSet and of the corpora cut from it; fewer where the video ends before."""

_LATEST_S = 1e6  # eleven days: no video is longer


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """The part of a video from `start_s` to `end_s`."""

    video_id: str
    start_s: float
    end_s: float

    @property
    def id(self) -> str:
        """Return `<video id>_<start in seconds>`."""
        return f"{self.video_id}_{self.start_s:.3f}".rstrip("0").rstrip(".")

    @property
    def upstream_id(self) -> str:
        """Return the identifier that other corpora can share."""
        return identifiers.youtube(self.video_id, self.start_s, self.end_s)

    def audio(self, ctx: Context, folder: Path) -> Path:
        """Return the span's file in `folder`; where there is none, the first of the names that it could have."""
        start_ms, end_ms = round(self.start_s * 1000), round(self.end_s * 1000)
        video = self.video_id
        stems = (
            self.id,
            f"{video}_{int(self.start_s):06d}",
            f"{video}_{start_ms}_{end_ms}",
            f"{video}_{start_ms}",
            f"Y{video}",
            video,
        )
        first = ctx.audio(folder, stems[0])
        if ctx.dry_run:
            return first
        return next((path for path in (ctx.audio(folder, stem) for stem in stems) if path.is_file()), first)


def read_span(where: str, video_id: str, start: object, end: object = None) -> Span:
    """Return the span in a row's cells.

    Args:
        where: File and line, for messages.
        video_id: YouTube's id of the video.
        start: Seconds.
        end: Seconds; without it, the span is `CLIP_S` long.

    Raises:
        LayoutError: The id is not one of YouTube's, or the times are no numbers, negative or reversed.
    """
    start_s = number(start, f"{where}: start", low=0, high=_LATEST_S)
    end_s = start_s + CLIP_S if end is None else number(end, f"{where}: end", low=0, high=2 * _LATEST_S)
    upstream_at(where, identifiers.youtube, video_id, start_s, end_s)
    return Span(video_id=video_id, start_s=start_s, end_s=end_s)
