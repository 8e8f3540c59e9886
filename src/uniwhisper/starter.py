"""The starter corpus: free audio that any Debian or Ubuntu machine can fetch as packages, as a training mix and tasks.

Writes converted sources, the search for leakage and the shards below the data folder, and one table per evaluation
task. Training and evaluation never share a corpus; what they share all the same is found and taken out of training.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from uniwhisper.dedup.leakage import find_leakage, search_key
from uniwhisper.errors import SourceError
from uniwhisper.files import atomic_path
from uniwhisper.manifest import read_manifest
from uniwhisper.shards import ShardSet, open_shards, write_shards
from uniwhisper.sources import convert_source
from uniwhisper.types import Clip

__all__ = ["TASKS", "TRAINING", "StarterTask", "convert_starter", "prepare_starter", "write_tasks"]

TRAINING = ("asterisk", "tuxpaint_speech", "tuxpaint_sfx", "soundfont_fluid", "lmms", "game_sfx")
"""Sources that are trained on: speech in 25 languages, sound effects, and notes of a General MIDI soundfont."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StarterTask:
    """One evaluation task made from a source that is never trained on."""

    name: str
    source: str
    domain: str
    label: Callable[[Clip], str]
    folds: int = 0
    """Folds that clips are dealt into, whole groups at a time; 0 keeps the source's own splits."""
    group: Callable[[Clip], str] = lambda clip: clip.group


TASKS = (
    StarterTask(
        name="instrument_family", source="soundfont_timgm", domain="music", label=lambda c: c.annotation.labels[0]
    ),
    StarterTask(name="sample_kind", source="sonicpi", domain="music", label=lambda c: c.annotation.labels[-1], folds=5),
    StarterTask(name="effect_kind", source="scratch", domain="sound", label=lambda c: c.annotation.labels[-1], folds=5),
    # One voice a language: the task is to tell voices (and with them languages) apart, on words not heard before.
    StarterTask(
        name="voice_of_word",
        source="ktuberling",
        domain="speech",
        label=lambda c: c.language,
        folds=5,
        group=lambda c: c.annotation.attributes.get("word", c.id),
    ),
)

_MIN_CLASS = 8
"""Clips that a class needs in order to stand in every fold; rarer classes are left out and counted in the summary."""


def convert_starter(data: Path, notify: Callable[[str], None]) -> dict[str, Path]:
    """Fetch and convert every source of the starter corpus; returns the manifest of each.

    Raises:
        SourceError: A package cannot be had; the message names the other ways to get audio.
    """
    manifests: dict[str, Path] = {}
    for name in dict.fromkeys((*TRAINING, *(task.source for task in TASKS))):
        done = convert_source(name, data / name)
        notify(f"{name}: {done.num_clips} clips, {done.hours:.2f} h" + (" (reused)" if done.reused else ""))
        manifests[name] = done.manifest
    return manifests


def prepare_starter(manifests: dict[str, Path], data: Path, notify: Callable[[str], None]) -> ShardSet:
    """Return the training clips of the starter corpus as shards, without those that are evaluation clips.

    Raises:
        DedupError: Too much audio cannot be read.
        ShardError: The shards cannot be written.
    """
    train = [clip for name in TRAINING for clip in read_manifest(manifests[name]) if clip.split == "train"]
    held_out = [
        clip for name in dict.fromkeys(task.source for task in TASKS) for clip in read_manifest(manifests[name])
    ]
    found = find_leakage(train, held_out, data / "leakage", workers=0)
    stages = ", ".join(f"{count} by {stage}" for stage, count in found.removed.items())
    notify(f"leakage: {sum(found.removed.values())} of {len(train)} training clips removed ({stages})")
    made = write_shards(
        read_manifest(found.folder / "manifest.jsonl"),
        data / "shards",
        rebuild=True,
        searches=[search_key(found.folder)],
    )
    hours = sum(tally.hours for tally in made.sources.values())
    dropped = sum(tally.num_dropped for tally in made.sources.values())
    notify(f"shards: {made.num_shards}, {hours:.2f} h" + (f", {dropped} clips left out" if dropped else ""))
    return open_shards(made.folder, split="train")


def write_tasks(manifests: dict[str, Path], folder: Path) -> list[Path]:
    """Write one evaluation table per starter task and return their paths."""
    tables = []
    for task in TASKS:
        rows = list(_rows(task, read_manifest(manifests[task.source])))
        if not rows:
            raise SourceError(
                f"starter task {task.name}: expected clips of at least {_MIN_CLASS} per class, found none"
            )
        path = folder / f"{task.name}.csv"
        with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        tables.append(path)
    return tables


def _rows(task: StarterTask, clips: Iterable[Clip]) -> Iterator[dict[str, str]]:
    clips = list(clips)
    sizes = Counter(task.label(clip) for clip in clips)
    kept = [clip for clip in clips if sizes[task.label(clip)] >= _MIN_CLASS]
    groups = sorted({task.group(clip) for clip in kept})
    fold_of = {group: f"fold{number % task.folds + 1}" for number, group in enumerate(groups)} if task.folds else {}
    for clip in kept:
        yield {
            "path": clip.path,
            "label": task.label(clip),
            "split": fold_of.get(task.group(clip), clip.split),
            "group": task.group(clip),
            "domain": task.domain,
            "duration": f"{clip.duration_s:.3f}",
        }
