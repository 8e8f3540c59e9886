"""How many planted copies the dedup finds, how often it is wrong, and what true leakage it hears.

Reads the reference pack beside the repository: its protected clips (`dedup_data`) are indexed, copies of some of them
are searched (`distortions.KINDS`), and so is all other audio, whole and in pieces. Clips fall into two halves by a hash
of their recording: constants were set on the first, what counts is the second.

What is a false alarm? Two clips are related where their Freesound ids say so. The data also hold twins of which no
table knows (the same sound in two collections). A confirmed pair that no table relates is judged by its waveform
(`dedup_search.is_twin`): if it is not one recording it is a false alarm, else it is listed as a twin. Writes a result
file with `--write`.
"""

from __future__ import annotations

import argparse
import itertools
import subprocess
import time
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import beta

from dedup_data import Sound, read_sounds
from dedup_search import Alarm, Search, exhaustive, holds
from distortions import KINDS
from timing import hardware, peak_memory_mb, table, write_result
from uniwhisper import audio
from uniwhisper.allocator import keep_freed_memory
from uniwhisper.dedup.fingerprint import fingerprint
from uniwhisper.dedup.hashing import file_sha256, pcm_hash
from uniwhisper.dedup.index import MIN_EVIDENCE, MIN_SUPPORT, FingerprintIndex, Match

REPOSITORY = Path(__file__).resolve().parents[1]
DEFAULT = REPOSITORY.parent / "shared" / "data"
GOAL = [kind for kind in KINDS if kind.startswith(("mp3", "opus", "resampled", "gain", "shift"))]
GOAL += ["crop 2 s", "crop 3 s"]
GOAL_RECALL, GOAL_FALSE = 0.99, 1e-4
LENGTHS_S = (0.0, 1.0, 2.0, 4.0, 8.0)
PIECES_S = (2.0, 1.0)
CONFIDENCE = 0.95
CLIPPED, CLIPPED_SHARES = 0.9999, (0.0, 0.01, 0.1, 0.3)
EVIDENCES = (5.0, 7.5, 10.0, 12.5, 15.0, 20.0, 30.0, 60.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """A planted copy that was searched."""

    sound: Sound
    kind: str
    duration_s: float
    usable: bool
    """Whether query and clip have sound enough to be found, by the criterion that knows nothing of the outcome."""
    match: Match | None
    start_s: float
    clipped: float
    """Share of the copy's samples at full scale."""


def generator(seed: int, *names: str) -> np.random.Generator:
    """Return a generator that depends on the seed and the names only."""
    return np.random.default_rng([seed, zlib.crc32("/".join(names).encode())])


def plant(search: Search, usable: Sequence[bool], others: Sequence[Sound], clips: int, seed: int) -> list[Trial]:
    """Return the outcome for every kind of copy of so many clips of each domain."""
    trials: list[Trial] = []
    for domain in ("speech", "sound", "music"):
        members = [i for i, sound in enumerate(search.sounds) if sound.domain == domain]
        for number in generator(seed, domain).permutation(members)[:clips].tolist():
            sound = search.sounds[number]
            wave = sound.wave
            for kind, make in KINDS.items():
                rng = generator(seed, sound.path, kind)
                other = others[int(rng.integers(len(others)))]
                copy = make(wave, other.wave, rng)
                if copy is None:
                    continue
                mixed_with = other.recording if kind.startswith("mixed") else ""
                prints, matches = search.ask(sound, copy.wave, "planted copies", mixed_with=mixed_with)
                own = [match for match in matches if match.key == number]
                trials.append(
                    Trial(
                        sound=sound,
                        kind=kind,
                        duration_s=len(copy.wave) / audio.SAMPLE_RATE,
                        usable=usable[number] and prints.is_usable,
                        match=own[0] if own else None,
                        start_s=copy.start_s,
                        clipped=float(np.mean(np.abs(copy.wave) >= CLIPPED)) if len(copy.wave) else 0.0,
                    )
                )
    return trials


def stream(search: Search, sounds: Iterable[Sound]) -> None:
    """Search all other audio, whole and in pieces."""
    for sound in sounds:
        wave = sound.wave
        search.ask(sound, wave, "other audio, whole")
        for piece_s in PIECES_S:
            count = round(piece_s * audio.SAMPLE_RATE)
            for start in range(0, len(wave) - count + 1, count):
                search.ask(sound, wave[start : start + count], f"other audio, pieces of {piece_s:g} s")


def is_found(trial: Trial, evidence: float = MIN_EVIDENCE) -> bool:
    """Return whether the copy was found and confirmed."""
    return trial.match is not None and holds(trial.match, evidence)


def share(trials: Sequence[Trial], evidence: float = MIN_EVIDENCE) -> str:
    """Return recall and count of trials, such as `0.998 (512)`."""
    if not trials:
        return "-"
    return f"{sum(is_found(t, evidence) for t in trials) / len(trials):.4f} ({len(trials)})"


def interval(successes: int, trials: int) -> tuple[float, float]:
    """Return the exact interval of a share. Source: Clopper and Pearson, Biometrika 26 (1934), pages 404-413."""
    tail = (1 - CONFIDENCE) / 2
    low = float(beta.ppf(tail, successes, trials - successes + 1)) if successes else 0.0
    high = float(beta.ppf(1 - tail, successes + 1, trials - successes)) if successes < trials else 1.0
    return low, high


def recall_tables(trials: Sequence[Trial]) -> list[str]:
    """Return recall by kind and domain, and by kind and length."""
    test = [t for t in trials if t.sound.half == "test"]
    usable = [t for t in test if t.usable]
    by_domain, by_length = [], []
    for kind in KINDS:
        these = [t for t in usable if t.kind == kind]
        everything = [t for t in test if t.kind == kind]
        proposed = sum(t.match is not None for t in these) / max(1, len(these))
        cells = [share([t for t in these if t.sound.domain == domain]) for domain in ("speech", "sound", "music")]
        goal = ("met" if sum(map(is_found, these)) >= GOAL_RECALL * len(these) else "MISSED") if kind in GOAL else ""
        by_domain.append([kind, share(these), *cells, f"{proposed:.4f}", share(everything), goal])
        edges = [*LENGTHS_S, np.inf]
        bins = [[t for t in these if low <= t.duration_s < high] for low, high in itertools.pairwise(edges)]
        by_length.append([kind, *map(share, bins)])
    names = [f"{low:g}-{high:g} s" for low, high in itertools.pairwise(LENGTHS_S)]
    header = ["copy", "recall", "speech", "sound", "music", "proposed", "with unusable", f"goal {GOAL_RECALL}"]
    errors = [
        abs(t.match.reference_start_s - t.match.query_start_s - t.start_s) for t in usable if t.match and is_found(t)
    ]
    return [
        "### Recall of planted copies, by domain (half not used for constants)",
        "",
        "Of clips and copies with sound enough (`Fingerprint.is_usable`); in brackets how many. `proposed`: share that "
        "the words alone propose; `with unusable`: of all.",
        "",
        table(header, by_domain),
        "",
        f"Place of the copy in the clip: error {1e3 * np.median(errors):.2f} ms in the median, "
        f"{1e3 * np.quantile(errors, 0.99):.2f} ms at 99 %.",
        "",
        "### By length of the copy",
        "",
        table(["copy", *names, f"{LENGTHS_S[-1]:g} s and more"], by_length),
        "",
        *clipping_lines([t for t in usable if t.kind == "gain +12 dB"]),
    ]


def clipping_lines(trials: Sequence[Trial]) -> list[str]:
    """Return recall of a gain by how much of the copy it drives to full scale."""
    edges = [*CLIPPED_SHARES, np.inf]
    names = [f"{low:.0%} and more" for low in CLIPPED_SHARES]
    cells = [share([t for t in trials if low <= t.clipped < high]) for low, high in itertools.pairwise(edges)]
    return ["### Gain of +12 dB, by the share of clipped samples", "", table(names, [cells])]


def unusable_table(search: Search, usable: Sequence[bool], trials: Sequence[Trial]) -> list[str]:
    """Return how many clips and copies have too little sound to be found with certainty, and what still is found."""
    rows = []
    for corpus in sorted({sound.corpus for sound in search.sounds}):
        flags = [usable[i] for i, sound in enumerate(search.sounds) if sound.corpus == corpus]
        poor = [t for t in trials if t.sound.corpus == corpus and not t.usable]
        rows.append([corpus, len(flags), f"{1 - np.mean(flags):.4f}", share(poor)])
    return [
        "### Not fingerprintable, by a criterion that knows nothing of the outcome",
        "",
        "Fewer than 200 ms of words with sound: shorter than 0.6 s, or silent.",
        "",
        table(["clips", "number", "share not fingerprintable", "recall of copies with too little sound"], rows),
    ]


def false_table(search: Search) -> list[str]:
    """Return how many queries were answered with an unrelated clip."""
    rows = []
    for half in ("dev", "test"):
        origins = sorted({origin for origin, of in search.queries if of == half})
        for origin in [*origins, "all"]:
            chosen = origins if origin == "all" else [origin]
            total = sum(search.queries[name, half] for name in chosen)
            wrong = {
                (alarm.origin, alarm.number)
                for alarm in search.false(MIN_EVIDENCE)
                if alarm.origin in chosen and alarm.half == half
            }
            low, high = interval(len(wrong), total)
            rows.append([half, origin, total, len(wrong), f"{len(wrong) / total:.1e}", f"{low:.1e} to {high:.1e}"])
    header = ["half", "queries", "number", "false", "rate", f"{CONFIDENCE:.0%} interval"]
    lines = ["### False alarms per query, over all indexed clips", "", f"Goal: at most {GOAL_FALSE:g}.", ""]
    return [*lines, table(header, rows), "", *doubtful(search)]


def doubtful(search: Search) -> list[str]:
    """Return the confirmed pairs that no table relates: how many are twins by the delays, and the weakest of them."""
    best: dict[tuple[str, str], Alarm] = {}
    for alarm in search.alarms:
        pair = alarm.query.path, alarm.found.path
        if pair not in best or (alarm.match.evidence or 0) > (best[pair].match.evidence or 0):
            best[pair] = alarm
    ranked = sorted(best.values(), key=lambda alarm: alarm.match.evidence or 0.0)
    confirmed = [alarm for alarm in ranked if alarm.match.is_confirmed]
    sides = Counter((alarm.query.corpus, alarm.found.corpus, search.is_twin(alarm)) for alarm in confirmed)
    rows = [[a, b, "one recording" if twin else "FALSE", n] for (a, b, twin), n in sorted(sides.items())]
    below = [alarm for alarm in ranked if not alarm.match.is_confirmed][-10:]
    weakest = [
        [
            f"{alarm.match.evidence:.1f}",
            f"{alarm.match.share:.2f}",
            f"{alarm.match.ber:.2f}",
            f"{alarm.match.overlap_s:.2f}",
            "one recording" if search.is_twin(alarm) else "two",
            alarm.query.path.removeprefix("audio/"),
            alarm.found.path.removeprefix("audio/"),
        ]
        for alarm in [*below, *confirmed[:15]]
    ]
    header = ["evidence", "share", "bit errors", "common s", "judged", "query", "found"]
    return [
        "Confirmed pairs of clips that no table relates:",
        "",
        table(["query", "found", "verdict", "pairs"], rows),
        "",
        f"Around the bound of {MIN_EVIDENCE:g}:",
        "",
        table(header, weakest),
    ]


def threshold_table(search: Search, trials: Sequence[Trial]) -> list[str]:
    """Return recall and false alarms on the half on which the bound was set."""
    dev = [t for t in trials if t.sound.half == "dev" and t.usable]
    total = sum(number for (_, half), number in search.queries.items() if half == "dev")
    rows = []
    for bound in EVIDENCES:
        wrong = {(a.origin, a.number) for a in search.false(bound) if a.half == "dev"}
        goal = [t for t in dev if t.kind in GOAL]
        rest = [t for t in dev if t.kind not in GOAL]
        rows.append([f"{bound:g}", share(goal, bound), share(rest, bound), len(wrong), f"{len(wrong) / total:.1e}"])
    header = ["evidence", "recall, kinds of the goal", "other kinds", "false queries", "rate"]
    return ["### The bound on evidence, on the half used for constants", "", table(header, rows)]


def leakage_lines(search: Search, leaked: Sequence[Sound], data: Path) -> list[str]:
    """Return what hash, fingerprint and an exhaustive search say about clips that are leakage by identifier."""
    evaluation = [(i, sound) for i, sound in enumerate(search.sounds) if sound.corpus == "esc50"]
    hashes = {pcm_hash(sound.wave) for _, sound in evaluation} - {""}
    files = {file_sha256((data / sound.path).read_bytes()) for _, sound in evaluation}
    by_hash = sum(pcm_hash(s.wave) in hashes or file_sha256((data / s.path).read_bytes()) in files for s in leaked)
    same, other, missed, poor = [], [], [], 0
    for sound in leaked:
        wave = sound.wave
        prints, matches = search.ask(sound, wave, "clips of leakage_truth.csv")
        found = [search.sounds[int(match.key)] for match in matches if match.is_confirmed]
        poor += not prints.is_usable
        if any(s.corpus == "esc50" and s.recording == sound.recording for s in found):
            same.append(sound)
            continue
        if any(s.corpus == "esc50" for s in found):
            other.append(sound)
        scores = [exhaustive(wave, s.wave) for _, s in evaluation if s.recording == sound.recording]
        if max(scores, default=0.0) >= MIN_EVIDENCE:
            missed.append(sound)
    ids = len({s.recording for s in leaked})
    return [
        "### True leakage: UrbanSound8K clips that share a Freesound id with ESC-50",
        "",
        f"- {len(leaked)} clips of {ids} recordings; {poor} with too little sound for a fingerprint",
        f"- by hash of file or samples: {by_hash}",
        f"- by fingerprint, an ESC-50 clip of the same recording: {len(same)} clips of "
        f"{len({s.recording for s in same})} recordings",
        f"- only an ESC-50 clip of another recording: {len(other)}",
        f"- of the other {len(leaked) - len(same)}, an exhaustive search of all alignments with the recording's ESC-50 "
        f"clips finds common sound in {len(missed)}: {', '.join(Path(s.path).stem for s in missed) or 'none'}",
    ]


def cost_lines(search: Search, indexed_s: float, building_s: float, num_seconds: float) -> list[str]:
    """Return what the index holds and what a query costs."""
    audio_s = search.seconds["audio"]
    costs = ", ".join(
        f"{step} {3600 * search.seconds[step] / audio_s:.2f} s" for step in ("fingerprint", "search", "listen")
    )
    rate = audio_s / sum(search.seconds[step] for step in ("fingerprint", "search", "listen"))
    return [
        f"- index: {len(search.index)} clips, {num_seconds / 3600:.2f} h, {search.index.num_words} words, "
        f"{search.index.num_bytes / 2**20:.1f} MiB ({search.index.num_bytes / num_seconds:.0f} bytes a second); "
        f"fingerprints {indexed_s:.1f} s, index {building_s:.1f} s",
        f"- an hour of queries: {costs}: {rate:.0f} times real time; "
        f"{search.proposals / sum(search.queries.values()):.3f} proposals a query",
        f"- peak memory {peak_memory_mb():.0f} MB, most of it the benchmark's audio",
    ]


def report(data: Path, clips: int, limit: int | None, seed: int) -> list[str]:
    """Return the whole report as lines of Markdown."""
    began = time.perf_counter()
    sides = read_sounds(data, limit)
    read = time.perf_counter()
    prints = [fingerprint(sound.wave) for sound in sides["eval"]]
    fingerprinted = time.perf_counter()
    index = FingerprintIndex.build(enumerate(prints))
    built = time.perf_counter()
    search = Search(index, sides["eval"])
    usable = [p.is_usable for p in prints]
    trials = plant(search, usable, sides["train"], clips, seed)
    stream(search, sides["train"])
    leakage = leakage_lines(search, sides["leakage_truth"], data)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], cwd=REPOSITORY, capture_output=True, text=True)
    num_seconds = sum(len(sound.samples) for sound in sides["eval"]) / audio.SAMPLE_RATE
    head = [
        f"- commit {commit.stdout.strip() or 'none'}, seed {seed}; support at least {MIN_SUPPORT:g}, evidence at least "
        f"{MIN_EVIDENCE:g}; {hardware()}",
        f"- {sum(search.queries.values())} queries, {len(trials)} of them copies; reading {read - began:.0f} s, all "
        f"{time.perf_counter() - began:.0f} s",
        *cost_lines(search, fingerprinted - read, built - fingerprinted, num_seconds),
    ]
    parts = [
        head,
        recall_tables(trials),
        unusable_table(search, usable, trials),
        false_table(search),
        threshold_table(search, trials),
        leakage,
    ]
    return [line for part in parts for line in [*part, ""]]


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, default=DEFAULT, help="the reference pack's data folder")
    parser.add_argument("--clips", type=int, default=450, help="clips of each domain of which copies are planted")
    parser.add_argument("--limit", type=int, help="read only so many clips of each table")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/dedup_recall_*.md")
    options = parser.parse_args()
    if not (options.data / "train.csv").is_file():
        print(f"skipped: expected the reference pack's tables in {options.data}, found none; pass --data")
        return
    keep_freed_memory()
    lines = report(options.data, options.clips, options.limit, options.seed)
    print("\n".join(lines))
    if options.write:
        print(write_result("dedup_recall", "\n".join(lines)))


if __name__ == "__main__":
    main()
