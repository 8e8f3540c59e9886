"""GigaSpeech: 10,000 hours of English audiobooks, podcasts and YouTube videos, segmented and transcribed.

Reads `GigaSpeech.json` and `audio/<source>/<P....>/*.opus`. A segment becomes a clip: a span of its recording. The
JSON has more than 1 GB; it is parsed as it streams past, one recording in memory at a time. Kept: the text with its
punctuation tags as signs (upper case, as published), title, address, kind of source, category, training subsets, and
the YouTube id with the span. Splits: segments of {DEV} valid, of {TEST} test, all others train. Dropped: segments that
are garbage tags alone (silence, music, noise, other), that are in no subset, that end after their recording, or whose
recording is not there.

Source: https://github.com/SpeechColab/GigaSpeech (README: "Metadata walkthrough", "Text Pre-Processing";
toolkits/kaldi/extract_meta.py and gigaspeech_data_prep.sh); paper: arXiv 2106.06909.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import ijson
from ijson.common import ObjectBuilder

from uniwhisper import identifiers
from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._fields import relative_path, text_field
from uniwhisper.sources._read import number
from uniwhisper.sources._spec import SourceSpec
from uniwhisper.types import Annotation, Clip

__all__ = ["SPEC", "convert"]

SPEC = SourceSpec(
    name="gigaspeech",
    version="1.0.0",
    homepage="https://github.com/SpeechColab/GigaSpeech",
    license="Apache-2.0 (metadata); non-commercial research and education (audio)",
    citation="G. Chen et al., GigaSpeech: An Evolving, Multi-domain ASR Corpus with 10,000 Hours of Transcribed Audio, "
    "Interspeech 2021",
    domain="speech",
    families=("asr", "attribute_prediction"),
    languages=("en",),
    splits=("train", "valid", "test"),
    uses=("training",),
    description="10,000 h of English audiobooks, podcasts and YouTube, transcribed with punctuation.",
    not_downloadable="all of it: fill out the form on the homepage, then use the publisher's download script",
    placement="GigaSpeech.json  metadata\naudio/{audiobook,podcast,youtube}/P*/*.opus  recordings",
    num_clips=8_315_357,
    hours=10_052.0,
    drop_tolerance=0.005,  # garbage segments of DEV and TEST are 0.1 %; the rest allows for a recording not fetched
)

_SIGNS = {"COMMA": ",", "PERIOD": ".", "QUESTIONMARK": "?", "EXCLAMATIONPOINT": "!"}
_GARBAGE = frozenset(("SIL", "MUSIC", "NOISE", "OTHER"))
"""The README's complete list of tags for what is not speech."""
_SIGN = re.compile(rf"\s*<({'|'.join(_SIGNS)})>")
_TAG = re.compile(r"<([^<>]*)>")
_SUBSETS = ("XL", "L", "M", "S", "XS", "DEV", "TEST")
_YOUTUBE = re.compile(r"(?:youtube\.com/watch\?(?:\S*&)?v=|youtu\.be/)([A-Za-z0-9_-]{11})(?![A-Za-z0-9_-])")
_MAX_DEPTH = 16  # the publisher's has 6
_END_TOLERANCE_S = 0.1  # the end of a recording is rounded


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per segment of speech.

    Raises:
        LayoutError: The JSON is missing or damaged, or a recording or segment is not of the form; it is named.
    """
    path = ctx.require(root / "GigaSpeech.json", root)
    found = False
    for index, recording in enumerate(_recordings(path), start=1):
        found = True
        where = f"{path}: recording {index}"
        if not isinstance(recording, dict) or not isinstance(recording.get("segments"), list):
            raise LayoutError(f"{where}: expected an object with a list of segments, found {str(recording)[:80]}")
        yield from _clips(root, ctx, path, recording, f"{where} ({text_field(recording, 'aid', where)})")
    if not found:
        raise LayoutError(f"{path}: expected recordings under the key audios, found none")


def _recordings(path: Path) -> Iterator[Any]:
    """Yield the items of the list `audios`, as the file is read."""
    try:
        with path.open("rb") as file:
            yield from _items(ijson.basic_parse(file, use_float=True))
    except (ijson.JSONError, OSError, ValueError) as e:
        raise LayoutError(f"{path}: expected JSON, found: {e}; fetch it again") from e


def _items(events: Iterable[tuple[str, Any]]) -> Iterator[Any]:
    """Yield the items of `audios`; deep nesting, of which ijson's own function runs out of memory, is refused."""
    depth, key, builder = 0, "", None
    for event, value in events:
        if event in ("start_map", "start_array"):
            depth += 1
            if depth > _MAX_DEPTH:
                raise ValueError(f"objects or lists in one another, more than {_MAX_DEPTH} deep")
            if builder is None and depth == 3 and key == "audios":
                builder = ObjectBuilder()
        elif event in ("end_map", "end_array"):
            depth -= 1
        elif event == "map_key" and depth == 1:
            key = value
        elif depth == 2 and key == "audios":
            yield value  # no recording, and refused as one
        if builder is not None:
            builder.event(event, value)
            if depth == 2:
                yield builder.value
                builder = None


def _clips(root: Path, ctx: Context, path: Path, recording: dict[str, Any], where: str) -> Iterator[Clip]:
    """Yield the clips of one recording."""
    audio = root / relative_path(text_field(recording, "path", where), where)
    missing = not ctx.dry_run and not audio.is_file()
    end_s = number(recording.get("duration"), f"{where}: duration", low=0.0) + _END_TOLERANCE_S
    for index, segment in enumerate(recording["segments"]):
        ctx.rows[path] += 1
        if not isinstance(segment, dict):
            raise LayoutError(f"{where}: segment {index}: expected an object, found {str(segment)[:80]}")
        clip = _clip(segment, recording, audio, f"{where}: segment {index}", ctx)
        if clip is None:
            continue
        if missing:
            ctx.drop(clip.id, f"audio missing: no {audio.parent.name}/{audio.stem}.*")
        elif clip.start_s + clip.duration_s > end_s:
            ctx.drop(clip.id, f"ends after its recording: {clip.start_s + clip.duration_s:.2f} s")
        else:
            yield clip


def _clip(segment: dict[str, Any], recording: dict[str, Any], audio: Path, where: str, ctx: Context) -> Clip | None:
    sid = text_field(segment, "sid", where)
    where = f"{where} ({sid})"
    start_s = number(segment.get("begin_time"), f"{where}: begin_time", low=0.0)
    end_s = number(segment.get("end_time"), f"{where}: end_time", low=start_s)
    names = segment.get("subsets") or []
    if not isinstance(names, list):
        raise LayoutError(f"{where}: expected a list of subsets, found {repr(names)[:80]}")
    subsets = [str(name).strip("{}") for name in names]
    if strangers := sorted(set(subsets) - set(_SUBSETS)):
        raise LayoutError(f"{where}: expected subsets out of {', '.join(_SUBSETS)}, found {strangers}")
    text = text_field(segment, "text_tn", where, default="")
    tags = set(_TAG.findall(text))
    if strangers := sorted(tags - set(_SIGNS) - _GARBAGE):
        raise LayoutError(f"{where}: expected tags out of {sorted({*_SIGNS, *_GARBAGE})}, found {strangers}")
    if tags & _GARBAGE:
        return ctx.drop(sid, f"no speech: {text[:80]}")
    text = _SIGN.sub(lambda match: _SIGNS[match[1]], text).strip()
    if not any(character.isalnum() for character in text):
        return ctx.drop(sid, "empty text")
    if end_s == start_s:
        return ctx.drop(sid, "no duration")
    if not subsets:
        return ctx.drop(sid, "in no subset")
    address = text_field(recording, "url", where, default="")
    video = _YOUTUBE.search(address)
    metadata = {name: text_field(recording, name, where, default="") for name in ("title", "url", "source", "category")}
    speaker = text_field(segment, "speaker", where, default="N/A")
    return Clip(
        id=sid,
        source=SPEC.name,
        path=str(audio),
        split="valid" if "DEV" in subsets else "test" if "TEST" in subsets else "train",
        duration_s=round(end_s - start_s, 3),
        domain="speech",
        annotation=Annotation(
            transcript=text,
            metadata={
                **{name: value for name, value in metadata.items() if value not in ("", "N/A")},
                "subsets": " ".join(subsets),
            },
        ),
        language="en",
        speaker="" if speaker == "N/A" else speaker,
        group=text_field(recording, "aid", where),
        license=SPEC.license,
        upstream_ids=(identifiers.youtube(video[1], start_s, end_s),) if video else (),
        start_s=start_s,
    )
