"""Intervals of all 20 tasks from stored predictions, against a loop that draws clips and calls scikit-learn or jiwer.

Predictions are synthetic, of the test sizes, classes and folds that the tasks declare; resampling units are clips,
which is the slower case. The loop is measured on a few replicates of every task and multiplied up to all of them: in
full it would take hours. Checks first that both give the same scores on the same draws.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable

import jiwer
import numpy as np
from sklearn.exceptions import UndefinedMetricWarning
from sklearn.metrics import accuracy_score, average_precision_score, f1_score

from timing import hardware, table, write_result
from uniwhisper.evaluate.bootstrap import NUM_REPLICATES, replicate
from uniwhisper.evaluate.bootstrap.precision import count_type, mean_precision_of_counts, rank_clips
from uniwhisper.evaluate.predictions import ClipPredictions, Predictions, SegmentPredictions, TextPredictions
from uniwhisper.evaluate.tasks import TaskSpec, suite
from uniwhisper.evaluate.transcripts import normalise
from uniwhisper.threads import num_threads, one_thread_each

SEEDS = 3
FOLDS = {"libricount": 5, "ravdess": 4, "gtzan": 10, "esc50": 5, "urbansound8k": 10, "vocal_imitation": 3, "crema_d": 5}
SEGMENTS = 10
LABELS_A_CLIP = 3.8
"""Of FSD50K's evaluation part, parent classes included."""
WORDS = np.array([f"word{i}" for i in range(2000)])


def make_predictions(spec: TaskSpec) -> Predictions:
    """Return predictions of the task's size that are right about two times in three."""
    rng, num_clips = np.random.default_rng(0), spec.num_test_clips or int(spec.weight or 0)
    common = {
        "ids": np.array([f"clip{i}" for i in range(num_clips)]),
        "fold": np.arange(num_clips) % FOLDS.get(spec.name, 1),
        "unit": np.arange(num_clips),
    }
    if spec.kind == "asr":
        said = [rng.choice(WORDS, rng.integers(5, 35)) for _ in range(num_clips)]
        heard = [[" ".join(np.where(rng.random(len(w)) < 0.9, w, "x")) for w in said] for _ in range(SEEDS)]
        return TextPredictions(**common, reference=np.array([" ".join(w) for w in said]), probe=np.array(heard))
    classes = np.array([f"class{i}" for i in range(spec.num_classes)])
    if spec.kind == "frame":
        truth = rng.random((num_clips * SEGMENTS, len(classes))) < 0.15
        right = rng.random((SEEDS, *truth.shape)) < 0.9
        return SegmentPredictions(
            **common,
            classes=classes,
            segments_per_clip=np.full(num_clips, SEGMENTS),
            truth=truth,
            probe=np.where(right == truth, 0.9, 0.1),
        )
    if spec.kind == "multilabel":
        share = rng.pareto(1.2, len(classes)) + 0.3
        truth = rng.random((num_clips, len(classes))) < np.minimum(share / share.sum() * LABELS_A_CLIP, 0.4)
        return ClipPredictions(
            **common, classes=classes, truth=truth, probe=rng.normal(size=(SEEDS, *truth.shape)) + 2.5 * truth
        )
    truth = rng.integers(0, len(classes), num_clips)
    guess = np.where(rng.random((SEEDS + 1, num_clips)) < 0.66, truth, 0)
    logits = rng.normal(size=(SEEDS, num_clips, len(classes))) if spec.metric == "map" else None
    if logits is not None:
        logits += 3 * np.eye(len(classes))[guess[1:]]
    knn = guess[0] if spec.has_knn else None
    return ClipPredictions(**common, classes=classes, truth=truth, knn=knn, probe=guess[1:], probe_logits=logits)


def plain_scores(p: Predictions, metric: str, rows: np.ndarray) -> list[float]:
    """Return the score of every answer on the drawn clips `rows`, as anybody would write it down."""
    if isinstance(p, TextPredictions):
        said = [p.reference[i] for i in rows]
        return [max(1 - jiwer.wer(said, [heard[i] for i in rows]), 0.0) for heard in p.probe]
    if isinstance(p, SegmentPredictions):
        segments = (rows[:, None] * SEGMENTS + np.arange(SEGMENTS)).ravel()
        return [float(f1_score(p.truth[segments], found[segments] > p.threshold, average="macro")) for found in p.probe]
    knn, probe = p.answers(metric)
    answers = [*([] if knn is None else [knn]), *probe]
    if metric == "accuracy":
        return [float(accuracy_score(p.truth[rows], answer[rows])) for answer in answers]
    truth = p.positives()[rows]
    present = truth.any(axis=0)
    return [float(average_precision_score(truth[:, present], answer[rows][:, present])) for answer in answers]


def plain_replicate(p: Predictions, metric: str, rng: np.random.Generator) -> np.ndarray:
    """Return one replicate's score of every answer."""
    parts = [np.flatnonzero(p.fold == f) for f in np.unique(p.fold)]
    return np.mean([plain_scores(p, metric, rng.choice(part, len(part))) for part in parts], axis=0)


def check_equal(p: ClipPredictions) -> str:
    """Compare average precision on explicit draws, and say how far apart the two are."""
    rng, num_clips = np.random.default_rng(1), len(p.ids)
    counts = rng.multinomial(num_clips, np.full(num_clips, 1 / num_clips), size=3).T
    fast = mean_precision_of_counts(rank_clips(p.positives(), p.probe[0]), counts.astype(count_type(counts)))
    drawn = [np.repeat(np.arange(num_clips), column) for column in counts.T]
    slow = [plain_scores(p, "map", rows)[0] for rows in drawn]
    off = float(np.abs(fast - slow).max())
    if off > 1e-12:
        raise SystemExit(f"average precision differs by {off} from scikit-learn's on the repeated rows")
    return f"average precision of 3 resamples equals scikit-learn's on the repeated rows to {off:.0e}"


def seconds(function: Callable[[], object]) -> tuple[float, float]:
    """Return wall and processor seconds of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    function()
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--plain", type=int, default=1, help="replicates of the plain loop that are measured")
    parser.add_argument("--threads", type=int, default=num_threads())
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/bootstrap_*.md")
    options = parser.parse_args()
    warnings.simplefilter("ignore", UndefinedMetricWarning)
    rows, totals, checked = [], np.zeros(3), ""
    with one_thread_each():
        for spec in suite("paper"):
            p = make_predictions(spec)
            if isinstance(p, ClipPredictions) and p.multilabel:
                checked = check_equal(p)
            if isinstance(p, TextPredictions) and normalise(str(p.reference[0]), p.normaliser) != p.reference[0]:
                raise SystemExit("expected words that the normaliser leaves as they are")
            metric, rng = p.primary(spec.metric), np.random.default_rng(0)
            wall, processor = seconds(lambda p=p, m=metric: replicate(p, metric=m, threads=options.threads))
            plain = np.median(
                [seconds(lambda p=p, m=metric, r=rng: plain_replicate(p, m, r)) for _ in range(options.plain)], axis=0
            )
            scaled = plain[1] * NUM_REPLICATES
            totals += (wall, processor, scaled)
            rows.append(
                [spec.name, len(p.ids), spec.metric, f"{wall:.2f}", f"{processor:.2f}", f"{scaled / processor:.0f}"]
            )
    rows.append(["all", "", "", f"{totals[0]:.1f}", f"{totals[1]:.1f}", f"{totals[2] / totals[1]:.0f}"])
    lines = [
        f"{NUM_REPLICATES} replicates, {SEEDS} seeds, {options.threads} threads; {hardware()}",
        "",
        f"- {checked}",
        f"- plain loop: {options.plain} replicate(s) a task measured, times {NUM_REPLICATES}: "
        f"{totals[2] / 3600:.1f} hours of processor time in all",
        "",
        table(["task", "clips", "metric", "seconds", "processor s", "plain loop, times ours"], rows),
    ]
    print("\n".join(lines))
    if options.write:
        print(write_result("bootstrap", "\n".join(lines)))


if __name__ == "__main__":
    main()
