"""From a declaration and a converted corpus to a task ready to run.

Reads: a task's declaration and the clips of its source's manifest. Returns: the `Task`, and notes for its readers.
Guarantees: rows are sorted by clip id, whatever the order of the manifest; whatever is left out, cut or split
differently than the corpus says stands in the notes; what cannot be run is an error that names the corpus.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from uniwhisper.errors import ConfigError, TaskError
from uniwhisper.evaluate.task import PROTOCOLS, ProtocolName, Task
from uniwhisper.evaluate.tasks._spec import TaskSpec
from uniwhisper.types import Clip

__all__ = ["build_task"]

_WHOLE = 0.99
"""From this share of the test clips on, a corpus counts as whole: some published files are broken or gone."""


def build_task(
    spec: TaskSpec, clips: Sequence[Clip], *, protocol: ProtocolName, where: str
) -> tuple[Task, tuple[str, ...]]:
    """Return the task that `spec` declares over `clips`, and what a reader of its scores should know.

    Args:
        spec: The declaration.
        clips: Clips of the source's manifest, with absolute audio paths; others of the corpus may be among them.
        protocol: `strict`, or `xares`: its splits, and every clip cut to X-ARES's first crop.
        where: What errors point at: the corpus folder or its manifest.

    Raises:
        TaskError: The clips are of another corpus, a split is missing, or a clip lacks what the task asks for.
        ConfigError: `protocol` is unknown.
    """
    if protocol not in PROTOCOLS:
        raise ConfigError(f"expected protocol to be one of {', '.join(PROTOCOLS)}; found {protocol!r}")
    notes: list[str] = []
    kept = _kept(spec, clips, where, notes)
    kept, splits = _split(spec, kept, protocol, where, notes)
    labels, classes = _answers(spec, kept, where)
    notes += _missing(spec, splits, classes)
    task = Task(
        name=spec.name,
        title=spec.title,
        domain=spec.domain,
        kind=spec.kind,
        metric=spec.metric,
        clips=tuple(_cropped(spec, kept, notes) if protocol == "xares" else kept),
        labels=labels,
        classes=classes,
        splits=splits,
        groups=_groups(spec, kept, notes),
        group_kind=spec.group_kind,
        weight=spec.weight,
        knn_weight=spec.knn_weight,
        has_knn=spec.has_knn,
        other_metrics=spec.other_metrics,
        xares=spec.xares,
        source=spec.source,
        where=where,
    )
    return (replace(task, group_kind="") if task.groups is None else task), tuple(notes)


def _kept(spec: TaskSpec, clips: Sequence[Clip], where: str, notes: list[str]) -> list[Clip]:
    """Return the clips that belong to the task, by id."""
    strangers = sorted({clip.source for clip in clips} - {spec.source})
    if strangers or not clips:
        found = f"clips of {', '.join(strangers)}" if strangers else "no clips"
        raise TaskError(f"{where}: expected clips of source {spec.source} for task {spec.name}, found {found}")
    repeated = [id for id, count in Counter(clip.id for clip in clips).items() if count > 1]
    if repeated:
        raise TaskError(f"{where}: expected each clip once, found {len(repeated)} ids twice: {repeated[0]!r}, ...")
    kept = [clip for clip in clips if spec.keep is None or spec.keep(clip)]
    if not kept:
        raise TaskError(
            f"{where}: expected {spec.keeps} for task {spec.name}, found none among {len(clips):,} clips of "
            f"{spec.source}. `uniwhisper sources show {spec.source}` says what to place where"
        )
    if len(kept) < len(clips):
        notes.append(f"only {spec.keeps}: {len(kept):,} of {len(clips):,} clips of the corpus")
    return sorted(kept, key=lambda clip: clip.id)


def _split(
    spec: TaskSpec, clips: list[Clip], protocol: ProtocolName, where: str, notes: list[str]
) -> tuple[list[Clip], tuple[str, ...]]:
    """Return the clips that the protocol uses, and the split of each."""
    resplit = spec.strict_split if protocol == "strict" else spec.xares_split
    splits = tuple(clip.split for clip in clips)
    if resplit is not None:
        try:
            parts = resplit(clips)
        except ValueError as e:
            raise TaskError(
                f"{where}: expected ids and speakers as source {spec.source} writes them, found: {e}"
            ) from e
        splits = parts.splits
        notes += [parts.note] if parts.note else []
    pairs = [(clip, split) for clip, split in zip(clips, splits, strict=True) if split]
    counts = Counter(split for _, split in pairs)
    folded = all(split.startswith("fold") for split in counts)
    if not ({"train", "test"} <= set(counts) or (folded and len(counts) > 1)):
        found = ", ".join(f"{split} ({count})" for split, count in sorted(counts.items())) or "none"
        raise TaskError(
            f"{where}: task {spec.name} expected train and test clips, or folds, of {spec.source}, found {found}. "
            f"Convert the whole corpus; `uniwhisper sources show {spec.source}` says what to place where"
        )
    return [clip for clip, _ in pairs], tuple(split for _, split in pairs)


def _answers(spec: TaskSpec, clips: list[Clip], where: str) -> tuple[tuple[tuple[str, ...], ...], tuple[str, ...]]:
    """Return the labels of every clip, where the kind of task has any, and the sorted classes."""
    if spec.kind == "asr":
        silent = [clip.id for clip in clips if not clip.annotation.transcript.strip()]
        if silent:
            raise TaskError(f"{where}: expected a transcript of every clip, found {len(silent)} without: {silent[0]!r}")
        return (), ()
    if spec.kind == "frame":
        labels: tuple[tuple[str, ...], ...] = ()
        classes = {event.label for clip in clips for event in clip.annotation.events}
    else:
        labels = tuple(_labels(spec, clip, where) for clip in clips)
        classes = {label for clip in labels for label in clip}
    if not 2 <= len(classes) <= spec.num_classes:
        shown = ", ".join(map(repr, sorted(classes)[:5])) + (", ..." if len(classes) > 5 else "")
        raise TaskError(
            f"{where}: task {spec.name} expected {spec.num_classes} classes of {spec.source}, at least two, found "
            f"{len(classes)}: {shown}. Convert the whole corpus again, from the files that "
            f"`uniwhisper sources show {spec.source}` names"
        )
    return labels, tuple(sorted(classes))


def _labels(spec: TaskSpec, clip: Clip, where: str) -> tuple[str, ...]:
    labels = tuple(dict.fromkeys(spec.label(clip)))
    if not labels or "" in labels or (spec.kind == "clip" and len(labels) > 1):
        expected = "one label" if spec.kind == "clip" else "labels"
        raise TaskError(
            f"{where}: clip {clip.id!r}: task {spec.name} expected {expected}, found {labels or 'none'}. "
            f"Some layouts of {spec.source} do not state them: `uniwhisper sources show {spec.source}` names the others"
        )
    return labels


def _missing(spec: TaskSpec, splits: tuple[str, ...], classes: tuple[str, ...]) -> list[str]:
    """Return notes on what the whole corpus has and these clips have not."""
    notes = []
    if len(classes) < spec.num_classes:
        notes.append(f"{len(classes)} of {spec.num_classes} classes are there: not the whole corpus")
    num_clips = sum(split == "test" or split.startswith("fold") for split in splits)
    if "test" in splits and spec.strict_split is not None:
        num_clips = len(splits)  # declared is what `strict` tests, every clip in one of its folds
    if num_clips < _WHOLE * spec.num_test_clips:
        notes.append(f"{num_clips:,} of {spec.num_test_clips:,} clips to test are there: not the whole corpus")
    return notes


def _cropped(spec: TaskSpec, clips: list[Clip], notes: list[str]) -> list[Clip]:
    """Return the clips cut to X-ARES's first crop: it numbers crops by file and batch, and loses all but the first.

    Source: https://github.com/jimbozhang/xares, v0.1.3, src/xares/audiowebdataset.py and src/xares/task.py.
    """
    crop_s = spec.xares.crop_s
    if crop_s is None:
        return clips
    longer = sum(clip.duration_s > crop_s for clip in clips)
    if longer:
        notes.append(f"{longer:,} of {len(clips):,} clips are cut to their first {crop_s:g} s, as X-ARES does")
    return [replace(clip, duration_s=min(clip.duration_s, crop_s)) for clip in clips]


def _groups(spec: TaskSpec, clips: list[Clip], notes: list[str]) -> tuple[str, ...] | None:
    """Return the group of every clip, a clip of unknown group alone; None where no group holds two clips."""
    if not spec.group_kind:
        return None
    groups = [spec.group(clip) for clip in clips]
    unknown = groups.count("")
    if unknown:
        notes.append(f"{unknown:,} of {len(clips):,} clips state no {spec.group_kind}: each stands for itself")
    if len(set(groups) - {""}) == len(groups) - unknown:
        return None
    return tuple(group or f"clip {clip.id}" for group, clip in zip(groups, clips, strict=True))
