"""Lint: everything that can be wrong with a corpus folder, found before it is converted and listed with examples.

Reads the annotations through the source itself, then every audio file's header (or all of its samples); writes nothing
into the folder. A finding is an error where converting or training would fail or lie, a warning where somebody should
look. Clips that are left out or cannot be heard are warnings, and one error if they are more than the source allows.
Clips are looked at as they are read, so a corpus of any size can be checked.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.clips import measure, read_clip
from uniwhisper.cutting import Uncuttable, cut
from uniwhisper.engine import map_tasks
from uniwhisper.errors import AudioError, ManifestError
from uniwhisper.identifiers import parse as parse_identifier
from uniwhisper.inputs import Corpus, open_corpus
from uniwhisper.instructions import families, parse, render
from uniwhisper.sources import Dropped, SourceSpec, get_source
from uniwhisper.sources._context import AUDIO_SUFFIXES
from uniwhisper.types import Clip

__all__ = ["Finding", "Level", "LintReport", "lint"]

Level = Literal["error", "warning"]

_EXAMPLES = 5
_CHUNK = 64
_EDGE_S = 0.5  # annotations are rounded, and players add silence; more than this and the times are of another file
_END_S, _END_SHARE = 0.05, 0.02  # what `clips.read_clip` allows audio to end before its clip


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One kind of fault, how often it occurs, and where first."""

    level: Level
    what: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class LintReport:
    """What a corpus folder holds and what is wrong with it."""

    source: str
    rows: dict[str, int]
    """Annotation file -> rows read."""
    num_clips: int
    num_dropped: int
    hours: float
    """Of the clips whose audio can be read."""
    findings: tuple[Finding, ...]
    """Errors first, the most frequent first."""

    @property
    def failed(self) -> bool:
        """Whether there is any error."""
        return any(finding.level == "error" for finding in self.findings)


def lint(name: str, root: Path, *, decode: bool = False, workers: int = 1) -> LintReport:
    """Return what is wrong with the corpus of source `name` in `root`.

    Args:
        name: A source's name.
        root: The corpus folder, or the file for a source that reads one.
        decode: Decode all audio instead of reading its headers.
        workers: Processes that read audio; 0 = one per CPU.

    Raises:
        SourceError: The annotations cannot be read at all; the message names file and row.
        ManifestError: The same of a table, or an id repeats.
    """
    look = _Look(get_source(name).SPEC)
    with open_corpus(name, root) as corpus:
        if corpus.problem:
            look.add("error", "it cannot be converted as it is", corpus.problem)
        for clip, fault, detail in _heard(corpus.clips, decode, workers):
            look.at(clip, fault, detail)
        return _report(look, corpus)


def _report(look: _Look, corpus: Corpus) -> LintReport:
    """Return the report on all clips, with what can only be said about all of them together."""
    dropped = corpus.context.dropped
    look.drops(dropped)
    look.groups()
    # Where the source decodes audio into a folder of its own, clips do not name the corpus's files.
    if corpus.root.is_dir() and not any(path.startswith(f"{corpus.context.audio_dir}/") for path in look.paths):
        look.orphans(corpus.root, {item.id.rpartition("/")[-1] for item in dropped})
    findings = [
        Finding(level=level, what=what, count=fault.count, examples=tuple(fault.examples))
        for (level, what), fault in look.faults.items()
    ]
    return LintReport(
        source=corpus.context.source,
        rows=corpus.rows(),
        num_clips=look.num_clips,
        num_dropped=len(dropped),
        hours=look.seconds / 3600,
        findings=tuple(sorted(findings, key=lambda finding: (finding.level, -finding.count, finding.what))),
    )


def _heard(clips: Iterable[Clip], decode: bool, workers: int) -> Iterator[tuple[Clip, str, str]]:
    """Yield every clip, measured, and what is wrong with its audio."""
    rest = iter(clips)
    chunks = iter(lambda: list(islice(rest, _CHUNK)), [])
    task = partial(_hear_chunk, decode=decode)
    for chunk in map_tasks(task, chunks, workers=workers, label="reading audio", unit="clips", amount=len):
        yield from chunk


def _hear_chunk(clips: Sequence[Clip], decode: bool) -> list[tuple[Clip, str, str]]:
    return [_audio_fault(clip, decode) for clip in clips]


def _audio_fault(clip: Clip, decode: bool) -> tuple[Clip, str, str]:
    """Return the clip with its duration, the kind of fault its audio has, and the details."""
    if not Path(clip.path).is_file():
        return clip, "audio missing", f"nothing at {clip.path}"
    try:
        found_s = measure(clip) - clip.start_s
        if found_s <= 0 or found_s < clip.duration_s - max(_END_S, _END_SHARE * clip.duration_s):
            return clip, "audio shorter than annotated", f"{found_s:.2f} s of {clip.duration_s:.2f} s in {clip.path}"
        if decode:
            # A file without an annotated duration counts as long as its samples, whatever its header says.
            num_samples = len(read_clip(clip))
            found_s = num_samples / SAMPLE_RATE
    except AudioError as e:
        return clip, "audio broken", str(e)
    return replace(clip, duration_s=clip.duration_s or found_s), "", ""


@dataclass(slots=True)
class _Fault:
    count: int = 0
    examples: list[str] = field(default_factory=list)


class _Look:
    """What has been seen of a corpus so far."""

    def __init__(self, spec: SourceSpec) -> None:
        self.faults: dict[tuple[Level, str], _Fault] = {}
        self.num_clips = 0
        self.num_unheard = 0
        self.seconds = 0.0
        self.paths: set[str] = set()
        self._spec = spec
        self._groups: dict[str, set[str]] = {}

    def add(self, level: Level, what: str, example: str) -> None:
        """Count a fault, and keep the example if it is one of the first."""
        fault = self.faults.setdefault((level, what), _Fault())
        fault.count += 1
        if len(fault.examples) < _EXAMPLES:
            fault.examples.append(example)

    def at(self, clip: Clip, audio_fault: str, detail: str) -> None:
        """Look at one clip; without audio its annotation is still looked at."""
        self.num_clips += 1
        self.paths.add(clip.path)
        if audio_fault:
            self.num_unheard += 1
            self.add("warning", audio_fault, f"{clip.id}: {detail}")
        else:
            self.seconds += clip.duration_s
        if clip.group:
            self._groups.setdefault(clip.group, set()).add(clip.split)
        faults: tuple[tuple[Level, str, str], ...] = (
            ("error", "the annotation cannot be rendered or read back", _render_fault(clip)),
            ("error", "an upstream identifier is malformed", _identifier_fault(clip)),
            ("warning", "nothing can be asked about it", "" if families(clip) else "it supports no task family"),
            ("warning", "an event or note lies outside the clip", _time_fault(clip)),
            ("warning", "it is too long for one clip and cannot be cut", _cut_fault(clip)),
            ("warning", "the split, domain or family is not one that the source declares", self._strange(clip)),
        )
        for level, what, reason in faults:
            if reason:
                self.add(level, what, f"{clip.id}: {reason}")

    def _strange(self, clip: Clip) -> str:
        if clip.split not in self._spec.splits and "own" not in self._spec.uses:
            return f"split {clip.split!r}"
        if self._spec.domain not in ("mixed", clip.domain):
            return f"domain {clip.domain!r}"
        extra = sorted(set(families(clip)) - set(self._spec.families))
        return f"families {', '.join(extra)}" if extra else ""

    def drops(self, dropped: Sequence[Dropped]) -> None:
        """Report what the source leaves out, whether that and unheard audio are too much, and that nothing is left."""
        for item in dropped:
            reason, _, rest = item.reason.partition(":")
            self.add("warning", f"left out by the source: {reason}", f"{item.id}:{rest}" if rest else item.id)
        total = self.num_clips + len(dropped)
        lost, allowed = self.num_unheard + len(dropped), self._spec.drop_tolerance
        if lost > allowed * total:
            share = f"{lost} of {total} ({lost / total:.1%}), at most {allowed:.1%} may be"
            self.add("error", "too many clips are left out or cannot be heard", share)
        if not self.num_clips:
            self.add("error", "no clip in the annotations", f"{len(dropped)} left out by the source")

    def groups(self) -> None:
        """Report groups (speakers, recordings) in more than one split."""
        for group, splits in sorted(self._groups.items()):
            if len(splits) > 1:
                self.add(
                    "warning", "a group of clips stands in several splits", f"{group}: {', '.join(sorted(splits))}"
                )

    def orphans(self, root: Path, dropped: Set[str]) -> None:
        """Report audio files that no clip names: a forgotten annotation, or files that do not belong here.

        Hidden files do not count, nor those whose names are in `dropped`: they are what the source left out.
        """
        for path in sorted(root.rglob("*")):
            if path.suffix.lower() not in AUDIO_SUFFIXES or str(path) in self.paths:
                continue
            place = path.relative_to(root)
            if not ({path.stem, path.name} & dropped or any(part.startswith(".") for part in place.parts)):
                self.add("warning", "audio that no annotation names", place.as_posix())


def _render_fault(clip: Clip) -> str:
    for family in families(clip):
        try:
            parse(family, render(clip, family, 0).answer)
        except ManifestError as e:
            return f"{family}: {e}"
    return ""


def _identifier_fault(clip: Clip) -> str:
    try:
        for text in clip.upstream_ids:
            parse_identifier(text)
    except ManifestError as e:
        return str(e)
    return ""


def _time_fault(clip: Clip) -> str:
    if not clip.duration_s:
        return ""
    for item in (*clip.annotation.events, *clip.annotation.notes):
        if item.offset_s > clip.duration_s + _EDGE_S:
            return f"{item} in a clip of {clip.duration_s:.2f} s"
    return ""


def _cut_fault(clip: Clip) -> str:
    found = cut(clip)
    return found.reason if isinstance(found, Uncuttable) else ""
