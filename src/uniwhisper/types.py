"""The nouns that travel through the pipeline: a clip with its annotations, and an example rendered from it.

All are frozen and JSON-ready; `manifest.py` reads and writes clips, `instructions` turns one clip into examples.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

__all__ = ["DOMAINS", "FAMILIES", "Annotation", "Clip", "Domain", "Event", "Example", "Family", "Note", "Question"]

Domain = Literal["speech", "sound", "music"]
DOMAINS: tuple[Domain, ...] = get_args(Domain)

Family = Literal[
    "asr",
    "translation",
    "captioning",
    "tagging",
    "classification",
    "event_detection",
    "note_transcription",
    "question_answering",
    "audio_text_matching",
    "attribute_prediction",
]
"""The training side's task families (the paper, section 2.2); `task` always means an evaluation task."""
FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """A sound event: `label` is heard from `onset_s` to `offset_s` within the clip."""

    label: str
    onset_s: float
    offset_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """A musical note: MIDI `pitch` (0-127) sounds from `onset_s` to `offset_s`; `instrument` may be empty."""

    pitch: int
    onset_s: float
    offset_s: float
    instrument: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Question:
    """A question about the clip and its answer, both in English."""

    question: str
    answer: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """Everything a corpus says about a clip; an empty field means that the corpus does not say."""

    transcript: str = ""
    """What is spoken, in the clip's own language."""
    translations: dict[str, str] = field(default_factory=dict)
    """Language code -> translation of the transcript."""
    captions: tuple[str, ...] = ()
    """Free descriptions of the clip, all of them."""
    labels: tuple[str, ...] = ()
    """Names of what is heard (tags); one or many."""
    label_set: str = ""
    """Name of the closed vocabulary that `labels` come from; empty where the vocabulary is open."""
    attributes: dict[str, str] = field(default_factory=dict)
    """Name -> value: gender, emotion, instrument, pitch, ..."""
    events: tuple[Event, ...] = ()
    notes: tuple[Note, ...] = ()
    questions: tuple[Question, ...] = ()
    votes: dict[str, int] = field(default_factory=dict)
    """Label -> number of annotators who heard it, where a corpus publishes single judgements."""
    metadata: dict[str, str] = field(default_factory=dict)
    """Facts that are kept and never asked about: title, artist, address, quality of the annotation, ..."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A span of audio and what is known about it."""

    id: str
    """Unique within its source and stable between conversions."""
    source: str
    """Name of the source module or table that the clip comes from."""
    path: str
    """Audio file, or the container that holds it; relative to the manifest's folder (POSIX) or absolute."""
    split: str
    """`train`, `valid`, `test` or `fold1` ... `foldN`."""
    duration_s: float
    """Seconds, above 0 in every manifest; a source may yield 0, and the driver measures the file."""
    domain: Domain
    annotation: Annotation
    language: str = ""
    """ISO 639 code of the speech; empty where there is none or it is unknown."""
    speaker: str = ""
    group: str = ""
    """Speaker, source recording or instrument: clips of one group are never split between train and test."""
    license: str = ""
    upstream_ids: tuple[str, ...] = ()
    """Where the recording comes from, as `namespace:id` (see `identifiers.py`); what two corpora share, they share."""
    start_s: float = 0.0
    """Where the clip begins in its audio file."""
    offset_bytes: int = 0
    """First byte of the audio file within the container `path`."""
    num_bytes: int = 0
    """Bytes of the audio file within the container `path`; 0 = `path` is the audio file itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Example:
    """A clip rendered to text: what the decoder reads after the audio, and what it must answer."""

    clip_id: str
    source: str
    family: Family
    prompt: str
    """Control tags and instruction, in plain text."""
    answer: str
