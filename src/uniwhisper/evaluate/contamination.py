"""What an encoder's training shares with a task: corpora that hold the same recordings, and clips that were found.

Reads `corpora.csv` (which corpus takes its recordings from which, each with its source), the encoder's `trained_on`,
and folders that `uniwhisper leakage` wrote. Writes nothing.
Guarantees: what nobody looked for is not reported as absent. Twins that the search removed from the data on which the
encoder was trained do not count; an encoder that does not say so was trained with them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from uniwhisper.dedup.twins import Twin
from uniwhisper.errors import ManifestError, TaskError
from uniwhisper.evaluate.results import Contamination
from uniwhisper.evaluate.task import Task
from uniwhisper.files import read_json, read_jsonl

__all__ = ["check_searches", "contamination", "origins", "shared_corpora"]

_TABLE = Path(__file__).with_name("corpora.csv")


def contamination(encoder: object, task: Task, *, leakage: Sequence[Path] = ()) -> Contamination | None:
    """Return what the encoder's training shares with the task; None where nothing is known of its training.

    Args:
        encoder: Its `trained_on` names corpora, `training_known` says whether these are all; `provenance`, where there
            is one, names the searches whose removals it was trained without (`leakage`: their folders' keys).
        task: Its clips' corpus, and the clips of its test parts.
        leakage: Folders of `uniwhisper leakage` whose training side is (part of) what the encoder was trained on.

    Raises:
        TaskError: A folder is no finished search.
    """
    trained_on = tuple(str(name) for name in getattr(encoder, "trained_on", ()))
    searches = [_Search(folder) for folder in leakage]
    if not trained_on and not getattr(encoder, "training_known", False):
        return None
    provenance = getattr(encoder, "provenance", None) or {}
    corpora = {task.source, *(clip.source for clip in task.clips)} - {""}
    shared = {name for corpus in corpora for name in shared_corpora(trained_on, corpus)}
    clips = _clips(searches, task, corpora, frozenset(trained_on), provenance)
    return Contamination(corpora=tuple(sorted(shared)), clips=clips)


def check_searches(leakage: Sequence[Path]) -> None:
    """Read the folders of `contamination`'s searches, so that a wrong one is found before a judgement and not after.

    Raises:
        TaskError: A folder is no finished search.
    """
    for folder in leakage:
        _Search(folder)


def shared_corpora(trained_on: Iterable[str], corpus: str) -> tuple[str, ...]:
    """Return those corpora of `trained_on` that hold, or may hold, recordings of `corpus`, sorted.

    A name alone means that one of the two was made from the other. A name with a collection in brackets, as in
    `wavcaps (freesound)`, means that both were drawn from that collection, so that some recordings may be in both.
    """
    found = []
    for name in set(trained_on):
        if name == corpus or corpus in origins(name) or name in origins(corpus):
            found.append(name)
            continue
        common = origins(name) & origins(corpus)
        closest = sorted(place for place in common if not any(place in origins(other) for other in common))
        found += [f"{name} ({', '.join(closest)})"] if closest else []
    return tuple(sorted(found))


def origins(corpus: str) -> frozenset[str]:
    """Return all corpora and collections that a corpus takes recordings from, at first or second hand."""
    direct = _table().get(corpus, frozenset())
    return direct.union(*(origins(place) for place in direct))


@lru_cache(maxsize=1)
def _table() -> Mapping[str, frozenset[str]]:
    """Return corpus -> where its recordings are from."""
    found: dict[str, frozenset[str]] = {}
    with _TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            found[row["corpus"]] = found.get(row["corpus"], frozenset()) | {row["recordings_from"]}
    return found


class _Search:
    """The outcome of one search, as its folder holds it."""

    def __init__(self, folder: Path) -> None:
        try:
            summary: dict[str, Any] = read_json(folder / "summary.json")
            self.key = (folder / "DONE").read_text(encoding="utf-8").strip()
            self.stages: tuple[str, ...] = tuple(summary["stages"])
            self.corpora = frozenset(summary.get("eval_sources", ()))
            """Corpora whose clips were looked for, where the folder says."""
            self.twins = {
                stage: [Twin.from_json(row) for row in read_jsonl(folder / f"{stage}.jsonl")] for stage in self.stages
            }
        except (ManifestError, OSError, KeyError, TypeError) as e:
            raise TaskError(
                f"expected a finished folder of `uniwhisper leakage` at {folder}, found: {e}. Run that command to the "
                "end, or name another folder"
            ) from e


def _clips(
    searches: Sequence[_Search],
    task: Task,
    corpora: set[str],
    trained_on: frozenset[str],
    provenance: Mapping[str, Any],
) -> dict[str, int]:
    """Return, for every stage that looked for the task's clips, how many test clips have a twin in training."""
    test = {(clip.source, clip.id) for clip, split in zip(task.clips, task.splits, strict=True) if _is_tested(split)}
    cleaned = set(provenance.get("leakage", ()))
    found: dict[str, set[tuple[str, str]]] = {}
    for search in searches:
        named = search.corpora.union(*(twin.corpora for twins in search.twins.values() for twin in twins))
        if not corpora & named:
            continue
        for stage, twins in search.twins.items():
            hit = {
                (twin.kept_source, twin.kept_id)
                for twin in twins
                if twin.removed_source in trained_on and (twin.kept_source, twin.kept_id) in test
            }
            found.setdefault(stage, set()).update(hit if search.key not in cleaned else ())
    return {stage: len(clips) for stage, clips in found.items()}


def _is_tested(split: str) -> bool:
    """Return whether clips of this part are tested on; every fold is, in its turn."""
    return split == "test" or split.startswith("fold")
