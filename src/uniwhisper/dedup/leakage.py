"""Leakage: training clips that are evaluation clips, found in three stages and taken out.

Reads clips of both sides and the audio behind them. Writes one folder: `manifest.jsonl` (the training clips that are
left), `identifier.jsonl`, `hash.jsonl` and `fingerprint.jsonl` (a pair a line: what is removed, its kept twin, why,
how sure), `unheard.jsonl` (clips that could not be judged by their sound, and why), `summary.json` and `DONE`.

Guarantees: a clip is removed by the first stage that finds it. Besides, only training clips leave the manifest whose
audio cannot be read, and no more than `tolerance` of their source; what can be read but holds too little sound to be
judged (silence, half a second) stays and is listed. The outcome depends on neither engine nor workers. A search that
was stopped goes on behind the last chunk in `search/journal.jsonl`; a finished one is used again while the clips, the
settings, the code of `dedup`, and the size and time of every audio file are what they were.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from uniwhisper.dedup.fingerprint import Fingerprint
from uniwhisper.dedup.identifying import Entry, Identifiers
from uniwhisper.dedup.index import FingerprintIndex, Key, Match
from uniwhisper.dedup.journal import Journal
from uniwhisper.dedup.scanning import INDEX_FILE, Heard, Hearing, hear_all, write_places
from uniwhisper.dedup.twins import STAGES, Stage, Twin, twin
from uniwhisper.engine import EngineKind
from uniwhisper.errors import DedupError
from uniwhisper.files import content_hash, is_done, mark_done, read_json, read_jsonl, write_json, write_jsonl
from uniwhisper.manifest import check_unique, write_manifest
from uniwhisper.types import Clip

__all__ = ["Leakage", "LeakageConfig", "Unheard", "find_leakage", "search_key"]

Outcome: TypeAlias = dict[str, Any]
"""What the journal keeps of a training clip that does not simply stay: its number, and a twin or a reason."""

_SHARED_S = 0.25
"""Two spans of one file that overlap less are neighbours whose bounds were rounded or padded."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakageConfig:
    """What counts as leakage, and how it is looked for."""

    stages: tuple[Stage, ...] = STAGES
    blacklists: tuple[Entry, ...] = ()
    """Identifiers of evaluation corpora that are not here."""
    tolerance: float = 0.01
    """Share of any source's clips, on either side, whose audio may be unreadable before the search counts as failed."""

    def __post_init__(self) -> None:
        """Check the fields.

        Raises:
            DedupError: A stage is unknown, there is none, blacklists lack their stage, or the tolerance is no share.
        """
        if not self.stages or set(self.stages) - set(STAGES) or not 0 <= self.tolerance <= 1:
            raise DedupError(
                f"expected stages out of {', '.join(STAGES)} and a tolerance from 0 to 1, found {self.stages} and "
                f"{self.tolerance}"
            )
        if self.blacklists and "identifier" not in self.stages:
            raise DedupError(f"expected the stage identifier, because blacklists are given; found {self.stages}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Unheard:
    """A clip that the listening stages could not judge."""

    id: str
    source: str
    side: str
    """`train` or `eval`."""
    reason: str
    unreadable: bool
    """Whether its audio cannot be read at all; a training clip is then left out of the manifest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Leakage:
    """The outcome of one search."""

    folder: Path
    num_train: int
    num_eval: int
    num_left: int
    """Training clips in the manifest."""
    removed: dict[Stage, int]
    """Stage -> training clips that it removed."""
    by_corpus: dict[str, dict[str, int]]
    """Training source -> evaluation corpus -> clips removed; a clip that is in two corpora counts for both."""
    num_identified: dict[str, int]
    """`train` and `eval` -> clips that carry an upstream identifier: only they can be found by it."""
    num_unheard: dict[str, int]
    """`train` and `eval` -> clips in `unheard.jsonl`."""
    num_unreadable: int
    """Training clips that were left out because their audio cannot be read."""
    eval_sources: tuple[str, ...] = ()
    """Corpora of the evaluation side, also those without a twin."""
    reused: bool = False


def find_leakage(
    train: Sequence[Clip],
    evaluation: Sequence[Clip],
    out: Path,
    *,
    config: LeakageConfig | None = None,
    workers: int = 1,
    engine: EngineKind = "local",
) -> Leakage:
    """Look for evaluation clips among training clips and write the folder `out`; a finished one is reused.

    Args:
        train: Training clips.
        evaluation: Evaluation clips of all splits: a probe's training clips are evaluation data too. The same clip may
            stand on both sides, and twice among the evaluation clips.
        out: Folder to write; workers have to see it.
        config: Stages, blacklists, tolerance.
        workers: Processes that listen; 0 = one per CPU.
        engine: Where they run.

    Raises:
        DedupError: There are no training clips, neither evaluation clips nor blacklists, `out` holds something else, or
            too much audio cannot be read.
        ManifestError: An identifier or training clip is malformed, or an id repeats among those of one source.
    """
    config = config or LeakageConfig()
    if not train or not (evaluation or config.blacklists):
        raise DedupError(
            f"expected training clips, and evaluation clips or blacklists; found {len(train)} training clips, "
            f"{len(evaluation)} evaluation clips and {len(config.blacklists)} entries of blacklists"
        )
    for _ in check_unique(train, "training clips"):  # before hours of listening, not after
        pass
    listens = bool(evaluation) and bool({"hash", "fingerprint"} & set(config.stages))
    key = _key(train, evaluation, config, listens)
    done_key = content_hash([key, config.tolerance])
    if is_done(out, done_key) and (out / "manifest.jsonl").is_file():
        return dataclasses.replace(_read(out), reused=True)
    _claim(out)
    search = _Search(train, evaluation, config)
    if "identifier" in config.stages:
        search.by_identifier()
    if listens and "hash" in config.stages:
        search.by_place()
    if listens:
        with Journal(out / "search", key) as journal:
            search.by_ear(journal, workers, engine)
    _write(search, out)
    shutil.rmtree(out / "search", ignore_errors=True)
    mark_done(out, done_key)
    return _read(out)


def _claim(out: Path) -> None:
    """Take the folder `out` for a search, unless it holds something else than one.

    Raises:
        DedupError: It does; to write there would replace somebody's manifest.
    """
    theirs = [name for name in ("manifest.jsonl", "DONE") if (out / name).exists()]
    if theirs and not (out / "summary.json").is_file():
        raise DedupError(
            f"expected {out} to be new, empty or of an earlier search, found {theirs[0]}: give another folder"
        )
    (out / "DONE").unlink(missing_ok=True)


class _Search:
    """The search while it runs."""

    def __init__(self, train: Sequence[Clip], evaluation: Sequence[Clip], config: LeakageConfig) -> None:
        self.train, self.evaluation, self.config = train, evaluation, config
        self.twins: dict[Stage, list[Twin]] = {stage: [] for stage in STAGES}
        self.unheard: list[Unheard] = []
        self.gone: set[int] = set()
        """Numbers of the training clips that are not left."""
        self._unreadable: Counter[tuple[str, str]] = Counter()
        self._sizes = {
            **{("train", source): count for source, count in Counter(clip.source for clip in train).items()},
            **{("eval", source): count for source, count in Counter(clip.source for clip in evaluation).items()},
        }

    def _remove(self, number: int, pair: Twin) -> None:
        """Take a training clip out."""
        self.gone.add(number)
        self.twins[pair.stage].append(pair)

    def _note(self, side: str, number: int, reason: str, unreadable: bool) -> None:
        """List a clip that cannot be judged.

        Raises:
            DedupError: It is one too many of its source.
        """
        clip = (self.train if side == "train" else self.evaluation)[number]
        self.unheard.append(Unheard(id=clip.id, source=clip.source, side=side, reason=reason, unreadable=unreadable))
        if not unreadable:
            return
        if side == "train":
            self.gone.add(number)
        place = side, clip.source
        self._unreadable[place] += 1
        allowed = math.floor(self.config.tolerance * self._sizes[place] + 1e-9)
        if self._unreadable[place] > allowed:
            first = next(item for item in self.unheard if item.unreadable and (item.side, item.source) == place)
            raise DedupError(
                f"expected at most {allowed} of the {self._sizes[place]} {side} clips of {clip.source} "
                f"({self.config.tolerance:.1%}) to be unreadable, found more; the first: {first.id}: {first.reason}. "
                f"Repair the audio, or allow more (--tolerance)"
            )

    def by_identifier(self) -> None:
        """Stage 1: upstream identifiers and blacklists."""
        identifiers = Identifiers(self.evaluation, self.config.blacklists)
        for number, clip in enumerate(self.train):
            pair = identifiers.twin_of(clip)
            if pair is not None:
                self._remove(number, pair)

    def by_place(self) -> None:
        """Stage 2, what needs no reading: both sides name the same file, and spans of it that overlap."""
        places: dict[tuple[str, int], list[Clip]] = defaultdict(list)
        for clip in self.evaluation:
            places[clip.path, clip.offset_bytes].append(clip)
        for number, clip in enumerate(self.train):
            others = places.get((clip.path, clip.offset_bytes), ()) if number not in self.gone else ()
            kept = [other for other in others if _shared_s(clip, other) > 0]
            if kept:
                pair = twin(clip, kept[0], "hash", "both are the same file", (other.source for other in kept))
                at_s = max(clip.start_s, kept[0].start_s)
                self._remove(
                    number, _placed(pair, at_s - clip.start_s, at_s - kept[0].start_s, _shared_s(clip, kept[0]))
                )

    def by_ear(self, journal: Journal, workers: int, engine: EngineKind) -> None:
        """Stages 2 and 3: every clip that is left is heard once."""
        stages = self.config.stages
        hearing = Hearing(hashes="hash" in stages, fingerprints="fingerprint" in stages)
        by_hash = self._hear_evaluation(journal.folder, hearing, workers, engine)
        if hearing.fingerprints:
            hearing = dataclasses.replace(hearing, library=str(journal.folder.resolve()))
        skipped = frozenset(self.gone)
        left = ((number, clip) for number, clip in enumerate(self.train) if number not in skipped)
        num_left = len(self.train) - len(skipped)
        for row in journal.rows():
            self._apply(row["outcomes"])
            num_left -= len(list(itertools.islice(left, row["num_clips"])))
        for chunk in hear_all(left, hearing, workers=workers, engine=engine, label="training clips", total=num_left):
            outcomes = [outcome for heard in chunk if (outcome := self._outcome(heard, by_hash))]
            journal.append({"num_clips": len(chunk), "outcomes": outcomes})
            self._apply(outcomes)

    def _hear_evaluation(
        self, folder: Path, hearing: Hearing, workers: int, engine: EngineKind
    ) -> dict[str, list[int]]:
        """Index the evaluation clips in `folder`, unless that is done, and return hash -> numbers of clips."""
        listed = folder / "evaluation.jsonl"
        if not listed.is_file():
            draft = folder / "evaluation.part"
            heard = hear_all(
                _once(self.evaluation),
                hearing,
                workers=workers,
                engine=engine,
                label="evaluation clips",
                total=len(self.evaluation),
            )
            index = FingerprintIndex.build(_listed(heard, draft))
            index.save(folder / INDEX_FILE)
            write_places(folder, self.evaluation)
            draft.replace(listed)
        by_hash: dict[str, list[int]] = defaultdict(list)
        for row in read_jsonl(listed):
            for text in row["hashes"]:
                by_hash[text].append(row["number"])
            if row["reason"]:
                self._note("eval", row["number"], row["reason"], row["unreadable"])
        return by_hash

    def _outcome(self, heard: Heard, by_hash: dict[str, list[int]]) -> Outcome | None:
        """Return what hearing a training clip means for it, as the journal keeps it; None where it simply stays."""
        if heard.error:
            return {"number": heard.number, "reason": heard.error, "unreadable": True}
        clip = self.train[heard.number]
        for text, what in ((heard.file_sha256, "file"), (heard.pcm_hash, "samples")):
            kept = [self.evaluation[number] for number in by_hash.get(text, ())] if text else []
            if kept:
                pair = twin(clip, kept[0], "hash", f"the same {what}: {text[:16]}", (other.source for other in kept))
                return {"number": heard.number, "twin": pair.to_json()}
        if heard.matches:
            return {"number": heard.number, "twin": self._sounding_twin(clip, heard.matches).to_json()}
        return {"number": heard.number, "reason": heard.mute, "unreadable": False} if heard.mute else None

    def _sounding_twin(self, clip: Clip, matches: Sequence[Match]) -> Twin:
        best = matches[0]
        corpora = (self.evaluation[int(match.key)].source for match in matches)
        kept = self.evaluation[int(best.key)]
        pair = twin(clip, kept, "fingerprint", "both hold the same sound", corpora, round(best.share or 0.0, 4))
        pair = dataclasses.replace(pair, evidence=round(best.evidence or 0.0, 1), agreement=round(1 - best.ber, 4))
        return _placed(pair, best.query_start_s, best.reference_start_s, best.overlap_s)

    def _apply(self, outcomes: Iterable[Outcome]) -> None:
        for outcome in outcomes:
            if "twin" in outcome:
                self._remove(outcome["number"], Twin.from_json(outcome["twin"]))
            else:
                self._note("train", outcome["number"], outcome["reason"], outcome["unreadable"])


def _listed(chunks: Iterable[Sequence[Heard]], path: Path) -> Iterator[tuple[Key, Fingerprint]]:
    """Yield the fingerprints to be indexed, and write what else is known of each clip to `path`."""
    with path.open("w", encoding="utf-8") as file:
        for heard in itertools.chain.from_iterable(chunks):
            row = {
                "number": heard.number,
                "hashes": [text for text in (heard.file_sha256, heard.pcm_hash) if text],
                "reason": heard.error or heard.mute,
                "unreadable": bool(heard.error),
            }
            file.write(json.dumps(row) + "\n")
            if heard.fingerprint is not None:
                yield heard.number, heard.fingerprint


def _once(clips: Sequence[Clip]) -> Iterator[tuple[int, Clip]]:
    """Yield the clips with their numbers, the same span of the same file only once."""
    seen: set[tuple[str, int, float, float]] = set()
    for number, clip in enumerate(clips):
        place = clip.path, clip.offset_bytes, clip.start_s, clip.duration_s
        if place not in seen:
            seen.add(place)
            yield number, clip


def _shared_s(a: Clip, b: Clip) -> float:
    """Return how much two spans of one file have in common; 0 where it is only what neighbours share."""
    shared_s = min(a.start_s + a.duration_s, b.start_s + b.duration_s) - max(a.start_s, b.start_s)
    return shared_s if shared_s >= min(_SHARED_S, a.duration_s / 2, b.duration_s / 2) else 0.0


def _placed(pair: Twin, removed_at_s: float, kept_at_s: float, overlap_s: float) -> Twin:
    return dataclasses.replace(
        pair,
        removed_at_s=round(max(0.0, removed_at_s), 3),
        kept_at_s=round(max(0.0, kept_at_s), 3),
        overlap_s=round(overlap_s, 3),
    )


def _key(train: Sequence[Clip], evaluation: Sequence[Clip], config: LeakageConfig, listens: bool) -> str:
    """Return the hash of what decides the outcome, the tolerance apart.

    Of the audio it holds size and time of change, which costs microseconds a file: reusing what was found in files that
    have been replaced would be worse than searching again in files that were merely copied.
    """
    stamp = functools.lru_cache(maxsize=1 << 16)(_stamp)
    digest = hashlib.sha256()
    for side in (train, evaluation):
        for clip in side:
            digest.update(repr((clip, stamp(clip.path) if listens else "")).encode())
        digest.update(b"|")
    code = [path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py"))]
    rest = [hashlib.sha256(text).hexdigest() for text in code]
    return content_hash([digest.hexdigest(), config.stages, config.blacklists, rest])


def _stamp(path: str) -> str:
    try:
        found = Path(path).stat()
    except OSError:
        return "missing"
    return f"{found.st_size} {found.st_mtime_ns}"


def _write(search: _Search, out: Path) -> None:
    for stage in STAGES:
        write_jsonl(out / f"{stage}.jsonl", (pair.to_json() for pair in search.twins[stage]))
    write_jsonl(out / "unheard.jsonl", (dataclasses.asdict(item) for item in search.unheard))
    left = (clip for number, clip in enumerate(search.train) if number not in search.gone)
    num_left = write_manifest(out / "manifest.jsonl", left)
    by_corpus: dict[str, Counter[str]] = defaultdict(Counter)
    for pair in itertools.chain.from_iterable(search.twins.values()):
        by_corpus[pair.removed_source].update(pair.corpora)
    sides = {"train": search.train, "eval": search.evaluation}
    summary = {
        "num_train": len(search.train),
        "num_eval": len(search.evaluation),
        "num_left": num_left,
        "removed": {stage: len(search.twins[stage]) for stage in STAGES},
        "by_corpus": {source: dict(sorted(found.items())) for source, found in sorted(by_corpus.items())},
        "num_identified": {side: sum(bool(clip.upstream_ids) for clip in clips) for side, clips in sides.items()},
        "num_unheard": {side: sum(item.side == side for item in search.unheard) for side in sides},
        "num_unreadable": sum(item.unreadable and item.side == "train" for item in search.unheard),
        "eval_sources": sorted({clip.source for clip in search.evaluation}),
    }
    write_json(out / "summary.json", {**summary, "stages": list(search.config.stages)})


def _read(out: Path) -> Leakage:
    summary = read_json(out / "summary.json")
    sources = tuple(summary.get("eval_sources", ()))
    others = {name: value for name, value in summary.items() if name not in ("stages", "eval_sources")}
    return Leakage(folder=out, eval_sources=sources, **others)


def search_key(path: Path) -> str:
    """Return the key of the finished search whose manifest `path` is, or whose folder; empty where it is none."""
    folder = path if path.is_dir() else path.parent
    if not ((folder / "summary.json").is_file() and (folder / "identifier.jsonl").is_file()):
        return ""
    done = folder / "DONE"
    return done.read_text(encoding="utf-8").strip() if done.is_file() else ""
