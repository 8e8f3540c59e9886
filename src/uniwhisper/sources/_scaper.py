"""What the soundscapes that Scaper mixes say: their foreground events, and the recordings that they are made of.

Reads the `scaper` (or, before version 1, `sound_event`) namespace of a JAMS file, or Scaper's text file (onset, offset,
label), which repeats the events alone. Guarantees events in the order of the file, each with a label of the vocabulary
(any label where none is given), and the Freesound ids of the source files whose names begin with one.

Source: https://scaper.readthedocs.io/en/latest/tutorial.html ("The JAMS annotation"); an observation's duration is
that of the event in the mix, while `event_duration` of its value is that before time stretching.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uniwhisper.errors import LayoutError
from uniwhisper.sources._context import Context
from uniwhisper.sources._freesound import freesound_id
from uniwhisper.sources._jams import Jams, Observation, read_jams
from uniwhisper.sources._read import number, read_csv
from uniwhisper.sources._vocabulary import Vocabulary, spell
from uniwhisper.types import Event

__all__ = ["Soundscape", "notes", "soundscape"]

_NAMESPACES = ("scaper", "sound_event")
_FREESOUND = re.compile(r"(\d+)(?:__|-\d+-\d+-\d+\b)")
"""As Freesound names its downloads (`12345__user__title.wav`) or UrbanSound8K its slices (`12345-3-0-1.wav`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Soundscape:
    """A mix."""

    events: tuple[Event, ...]
    upstream_ids: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    """`mix`: how each event was made; `polyphony` and `gini` where stated; `background`."""
    votes: dict[str, int] = field(default_factory=dict)
    """Label -> annotators who used it, where the file also holds annotations of theirs."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Return the labels of the events, each once."""
        return tuple(dict.fromkeys(event.label for event in self.events))


def soundscape(ctx: Context, path: Path, classes: Vocabulary | None = None) -> Soundscape:
    """Return what the JAMS or text file of a soundscape says; its observations count as rows.

    Raises:
        LayoutError: It holds no soundscape, or an event lacks a value, has an unknown label or impossible times.
    """
    if path.suffix == ".jams":
        return _from_jams(ctx, read_jams(path), classes)
    events: list[Event] = []
    for row in read_csv(ctx, path, names=("onset", "offset", "label"), delimiter="\t"):
        onset_s = row.number("onset", low=0)
        offset_s = row.number("offset", low=onset_s)
        events.append(Event(label=_label(row["label"], classes, row.where), onset_s=onset_s, offset_s=offset_s))
    return Soundscape(events=tuple(events))


def notes(*folders: Path) -> dict[str, Path]:
    """Return stem -> file that describes the soundscape, of all in `folders`: its JAMS, else its text; sorted."""
    found: dict[str, Path] = {}
    for suffix in (".txt", ".jams"):
        found |= {path.stem: path for folder in folders for path in folder.glob(f"*{suffix}")}
    return dict(sorted(found.items()))


def _from_jams(ctx: Context, jams: Jams, classes: Vocabulary | None) -> Soundscape:
    annotations = jams.of(*_NAMESPACES)
    if not annotations:
        raise LayoutError(
            f"{jams.path}: expected an annotation in the namespace scaper, found none; give Scaper's JAMS"
        )
    events: list[Event] = []
    mix: list[str] = []
    upstream: dict[str, None] = {}
    backgrounds: dict[str, None] = {}
    for item in (item for annotation in annotations for item in annotation.observations):
        ctx.rows[jams.path] += 1
        value = _value(item)
        name = str(value["source_file"]).replace("\\", "/").rpartition("/")[2]
        match = _FREESOUND.match(name)
        if match:
            upstream[freesound_id(match[1], item.where)] = None
        if value["role"] == "background":
            backgrounds[f"{value['label']} ({name})"] = None
            continue
        label = _label(str(value["label"]), classes, item.where)
        events.append(Event(label=label, onset_s=item.time_s, offset_s=item.end_s))
        mix.append(f"{label} at {item.time_s:.3f} s: {name}{_changes(value, item.where)}")
    sandbox = annotations[0].sandbox.get("scaper")
    stated: dict[str, Any] = sandbox if isinstance(sandbox, dict) else {}
    metadata = {
        "mix": "; ".join(mix),
        "background": ", ".join(backgrounds),
        "polyphony": str(stated.get("polyphony_max", "")),
        "gini": str(stated.get("polyphony_gini", "")),
    }
    return Soundscape(
        events=tuple(events),
        upstream_ids=tuple(upstream),
        metadata={name: text for name, text in metadata.items() if text},
        votes=_votes(ctx, jams, classes),
    )


def _votes(ctx: Context, jams: Jams, classes: Vocabulary | None) -> dict[str, int]:
    """Return how many of the other annotations, one an annotator's, use a label."""
    votes: Counter[str] = Counter()
    for annotation in jams.annotations:
        if annotation.namespace not in _NAMESPACES:
            ctx.rows[jams.path] += len(annotation.observations)
            used = ((item.value, item.where) for item in annotation.observations)
            votes.update({_label(value, classes, where) for value, where in used if isinstance(value, str)})
    return dict(votes)


def _label(code: str, classes: Vocabulary | None, where: str) -> str:
    if classes:
        return classes.label(code, where)
    if not spell(code) or ";" in code:
        raise LayoutError(f"{where}: expected a label that is not blank and has no ';', found {code!r}")
    return spell(code)


def _value(item: Observation) -> dict[str, Any]:
    value = item.value if isinstance(item.value, dict) else {}
    if missing := sorted({"label", "role", "source_file"} - value.keys()):
        raise LayoutError(f"{item.where}: expected label, role and source_file, found no {', '.join(missing)}")
    return value


def _changes(value: dict[str, Any], where: str) -> str:
    """Return how the recording was changed, as `, 12.5 dB SNR, pitch +1.20, stretch 0.90`."""
    parts = (("snr", "{:.1f} dB SNR"), ("pitch_shift", "pitch {:+.2f}"), ("time_stretch", "stretch {:.2f}"))
    return "".join(
        f", {text.format(number(value[name], f'{where}: {name}'))}"
        for name, text in parts
        if isinstance(value.get(name), int | float)
    )
