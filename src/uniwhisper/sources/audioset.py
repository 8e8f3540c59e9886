"""AudioSet: 2.1 million spans of 10 s of YouTube videos with 527 kinds of sound, 120,000 of them with times.

Reads `balanced_train_segments.csv`, `unbalanced_train_segments.csv` and `eval_segments.csv` (those that are there),
whose codes `class_labels_indices.csv` names; and the strong labels `audioset_<train|eval>_strong.tsv` where they are
there, whose codes `mid_to_display_name.tsv` or `ontology.json` name. Kept: labels, YouTube id and
span, events with times. A strongly labelled span that no table lists is a clip of its own. Evaluation is `test`.
Nothing is dropped by annotation.

The publisher offers no audio. Spans that are no longer on YouTube are dropped as missing; the tolerance is 40 %, since
16 % were gone in 2023 (18,685 of 22,160 balanced ones left) and they keep vanishing.

Source: https://research.google.com/audioset/download.html and download_strong.html (layout, counts);
https://github.com/audioset/ontology; missing share: https://huggingface.co/datasets/agkphysics/AudioSet (README).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._read import by_column, number, read_csv, read_json
from uniwhisper.sources._spec import Remote, SourceSpec
from uniwhisper.sources._vocabulary import Vocabulary
from uniwhisper.sources._youtube import Span, read_span
from uniwhisper.types import Annotation, Clip, Event

__all__ = ["SPEC", "convert"]

_TABLES = {"balanced_train_segments": "train", "unbalanced_train_segments": "train", "eval_segments": "test"}
_STRONG = {"audioset_train_strong": "train", "audioset_eval_strong": "test"}
_ADDRESS = "https://storage.googleapis.com/us_audioset/youtube_corpus"

SPEC = SourceSpec(
    name="audioset",
    version="1",
    homepage="https://research.google.com/audioset",
    license="CC-BY-4.0 (labels); CC-BY-SA-4.0 (ontology); the videos' owners' (audio)",
    citation="J. F. Gemmeke et al., Audio Set: An ontology and human-labeled dataset for audio events, ICASSP 2017",
    domain="sound",
    families=("tagging", "classification", "event_detection", "audio_text_matching"),
    languages=(),
    splits=("train", "test"),
    uses=("training",),
    description="10 s spans of YouTube videos with 527 kinds of sound; event times for some.",
    remotes=(
        *(Remote(url=f"{_ADDRESS}/v1/csv/{name}.csv") for name in (*_TABLES, "class_labels_indices")),
        *(Remote(url=f"{_ADDRESS}/strong/{name}.tsv") for name in (*_STRONG, "mid_to_display_name")),
        Remote(url="https://raw.githubusercontent.com/audioset/ontology/master/ontology.json", size_bytes=342_780),
    ),
    not_downloadable="audio: fetch the spans from YouTube (yt-dlp), or take a copy that somebody kept",
    placement="class_labels_indices.csv  names of the codes\n"
    "<balanced_train|unbalanced_train|eval>_segments.csv  labels, one or several of the three\n"
    "audioset_<train|eval>_strong.tsv, mid_to_display_name.tsv (or ontology.json)  event times, optional\n"
    "audio/<balanced_train|unbalanced_train|eval>_segments/<youtube id>.*  the span alone; names like Y<id>, "
    "<id>_<start> and <id>_<start ms>_<end ms> do as well",
    num_clips=2_084_320,
    hours=5_790.0,
    drop_tolerance=0.4,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Strong:
    """A span with event times."""

    span: Span
    split: str
    events: list[Event] = field(default_factory=list)


def convert(root: Path, ctx: Context) -> Iterator[Clip]:
    """Yield one clip per span.

    Raises:
        LayoutError: A file is missing, or a row has a malformed id, reversed times or a code without a name.
    """
    classes = _classes(root, ctx)
    strong = _timed(root, ctx, classes)
    tables = [name for name in _TABLES if (root / f"{name}.csv").is_file()]
    if not (tables or strong):
        ctx.require(root / "balanced_train_segments.csv", root)
    for name in tables:
        columns = ("youtube_id", "start", "end", "codes")
        # Cells are parted by a comma and a space, which hides the quotes from a CSV reader.
        rows = read_csv(ctx, root / f"{name}.csv", names=columns, comment="#", quoting=False, strict=False)
        for row in rows:
            span = read_span(row.where, row["youtube_id"], row["start"], row["end"])
            codes = dict.fromkeys(row["codes"].strip('"').split(","))
            labels = tuple(classes.label(code, row.where) for code in codes)
            timed = strong.pop(span.id, None)
            events = tuple(timed.events) if timed else ()
            yield _clip(span, _TABLES[name], labels, events, span.audio(ctx, root / "audio" / name))
    for rest in strong.values():
        folders = [root / "audio" / name for name, split in _TABLES.items() if split == rest.split]
        paths = [rest.span.audio(ctx, folder) for folder in folders]
        path = next((path for path in paths if path.is_file()), paths[0])
        yield _clip(rest.span, rest.split, (), tuple(rest.events), path)


def _classes(root: Path, ctx: Context) -> Vocabulary:
    """Return the 527 classes of the labels."""
    table = ctx.require(root / "class_labels_indices.csv", root)
    rows = read_csv(ctx, table, columns=("index", "mid", "display_name"))
    return Vocabulary(
        name=SPEC.name, labels={code: row["display_name"] for code, row in by_column(rows, "mid").items()}
    )


def _timed(root: Path, ctx: Context, classes: Vocabulary) -> dict[str, _Strong]:
    """Return span id -> events of the strongly labelled spans."""
    found: dict[str, _Strong] = {}
    tables = [name for name in _STRONG if (root / f"{name}.tsv").is_file()]
    names = _names(root, ctx, classes)  # some kinds of events are not among the 527
    for name in tables:
        columns = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
        for row in read_csv(ctx, root / f"{name}.tsv", columns=columns, delimiter="\t", quoting=False):
            video_id, _, start_ms = row["segment_id"].rpartition("_")
            span = read_span(row.where, video_id, number(start_ms, f"{row.where}: segment_id", low=0) / 1000)
            onset_s = row.number("start_time_seconds", low=0)
            event = Event(
                label=names.label(row["label"], row.where),
                onset_s=onset_s,
                offset_s=row.number("end_time_seconds", low=onset_s),
            )
            found.setdefault(span.id, _Strong(span=span, split=_STRONG[name])).events.append(event)
    return found


def _names(root: Path, ctx: Context, classes: Vocabulary) -> Vocabulary:
    """Return the names of all codes that are given, classes and others."""
    names = dict(classes.labels)
    ontology = root / "ontology.json"
    if ontology.is_file():
        entries = read_json(ontology)
        try:
            names |= {str(entry["id"]): str(entry["name"]) for entry in entries}
        except (TypeError, KeyError) as e:
            raise LayoutError(f"{ontology}: expected a list of objects with id and name, found otherwise ({e})") from e
        ctx.rows[ontology] += len(entries)
    table = root / "mid_to_display_name.tsv"
    if table.is_file():
        rows = read_csv(ctx, table, names=("mid", "display_name"), delimiter="\t", quoting=False)
        names |= {code: row["display_name"] for code, row in by_column(rows, "mid").items()}
    return Vocabulary(name=SPEC.name, labels=names)


def _clip(span: Span, split: str, labels: tuple[str, ...], events: tuple[Event, ...], path: Path) -> Clip:
    return Clip(
        id=span.id,
        source=SPEC.name,
        path=str(path),
        split=split,
        duration_s=0.0,
        domain="sound",
        annotation=Annotation(labels=labels, label_set=SPEC.name if labels else "", events=events),
        group=span.video_id,
        upstream_ids=(span.upstream_id,),
    )
