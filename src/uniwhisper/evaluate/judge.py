"""Score one task: what the encoder makes of its clips, what kNN and probes make of that, and what is computed from it.

Reads: a task, its plan and an encoder. Returns: predictions for every test clip, then the task's entry in the results.
Guarantees: everything in the entry but `learning_rates` and `notes` is a function of the task and of the predictions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from uniwhisper.cache import EmbeddingCache, audio_hash, embedding_key
from uniwhisper.errors import EncoderError, TaskError
from uniwhisper.evaluate.asr import AsrConfig, transcribe
from uniwhisper.evaluate.bootstrap import Replicates, interval, resampling_units
from uniwhisper.evaluate.embeddings import embed_clips
from uniwhisper.evaluate.frames import frame_bytes, store_frames
from uniwhisper.evaluate.knn import KnnConfig, neighbours, votes_of
from uniwhisper.evaluate.maps import MapClips, sample_clips
from uniwhisper.evaluate.neighbours import Errors, sample_errors
from uniwhisper.evaluate.predictions import ClipPredictions, Predictions, SegmentPredictions
from uniwhisper.evaluate.probes import ProbeConfig, XaresProbeConfig, train_frame_probes, train_probes
from uniwhisper.evaluate.results import Contamination, ProbeScore, TaskResult
from uniwhisper.evaluate.splits import Plan
from uniwhisper.evaluate.task import Task

__all__ = ["Judged", "Methods", "Watch", "describe", "predict"]

_FILES_PER_CALL = 256
"""Files handed at once to an encoder of files: enough for it to sort by length, few enough for progress to show."""

Watch = Callable[[str, int, int], object]
"""Called with what is being done, the parts done and the parts in all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Methods:
    """How encoders are judged in a run."""

    knn: KnnConfig
    probe: ProbeConfig | XaresProbeConfig
    asr: AsrConfig
    device: str = "cpu"
    """Torch device that trains probes; the encoder has its own."""
    cache: EmbeddingCache | None = None
    frames: Path | None = None
    """Folder for the stored frames of tasks that need them; None: by content, below `files.home()`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """What a task's clips came to."""

    predictions: Predictions
    learning_rates: tuple[float, ...]
    notes: tuple[str, ...] = ()
    map_clips: MapClips | None = None
    errors: Errors | None = None


def predict(task: Task, plan: Plan, encoder: Any, methods: Methods, watch: Watch) -> Judged:
    """Return the predictions for every test clip, made as the task's kind asks for.

    Raises:
        EncoderError: The encoder fails on a clip, or gives no frames to a task that needs them.
        AudioError: A clip cannot be read.
    """
    if task.kind in ("clip", "multilabel"):
        return _predict_labels(task, plan, encoder, methods, watch)
    if not hasattr(encoder, "frames"):
        raise EncoderError(f"{task.name}: expected an encoder with frames(waves), found one with embed(paths) alone")
    size_gb = frame_bytes(encoder, task.clips) / 1e9
    count = _Counter(watch, f"frames, {size_gb:.1f} GB", len(task.clips))
    folder = None if methods.frames is None else methods.frames / task.name
    frames = store_frames(encoder, task.clips, folder, on_done=count.add)
    if task.kind == "frame":
        watch("frame probes", 0, 1)
        return _predict_segments(task, plan, frames, methods)
    predictions, outcome = transcribe(frames, task, plan, config=methods.asr, device=methods.device, progress=watch)
    rates = (methods.asr.learning_rate,) * len(plan.folds)
    return Judged(predictions=predictions, learning_rates=rates, notes=outcome.notes)


def describe(
    task: Task,
    plan: Plan,
    judged: Judged,
    replicates: Replicates,
    *,
    path: str,
    key: str,
    contamination: Contamination | None,
    notes: Sequence[str] = (),
) -> TaskResult:
    """Return the task's entry in the results: scores with intervals, and what they rest on.

    Args:
        task: The task.
        plan: Its folds.
        judged: What `predict` returned.
        replicates: Of the predictions.
        path: Where the predictions are stored, relative to the results' folder.
        key: Hash of everything that the scores depend on.
        contamination: What the encoder's training shares with the task.
        notes: What a reader should know besides the plan's and the probes' notes.
    """
    predictions = judged.predictions
    unit, unit_notes = _unit(task, predictions)
    per_seed = predictions.probe_scores(task.metric)
    probe = interval(float(np.mean(per_seed)), replicates.probe)
    knn = predictions.knn_score(task.metric)
    if (knn is None) != (replicates.knn is None):
        raise TaskError(f"{task.where}: expected replicates of the scores that there are, found others")
    chance, majority = _blind_scores(task, plan, predictions)
    return TaskResult(
        name=task.name,
        title=task.title,
        domain=task.domain,
        kind=task.kind,
        data_sha256=task.digest,
        key=key,
        num_clips=len(task.clips),
        num_test_clips=len(predictions.ids),
        num_classes=len(task.classes),
        num_folds=len(plan.folds),
        scheme=plan.scheme,
        metric=task.metric,
        chance=chance,
        majority=majority,
        resampling_unit=unit,
        weight=task.weight,
        knn_weight=task.knn_weight,
        knn=None if knn is None or replicates.knn is None else interval(knn, replicates.knn),
        probe=ProbeScore(**asdict(probe), per_seed=tuple(per_seed), learning_rates=judged.learning_rates),
        other=_others(task, predictions),
        predictions=path,
        predictions_digest=predictions.digest(),
        contamination=contamination,
        notes=tuple(dict.fromkeys((*notes, *plan.notes, *judged.notes, *predictions.notes(task.metric), *unit_notes))),
    )


def _predict_labels(task: Task, plan: Plan, encoder: Any, methods: Methods, watch: Watch) -> Judged:
    count = _Counter(watch, "clips", len(task.clips))
    vectors = _vectors(encoder, task, methods.cache, count)
    watch("probes", 0, 1)
    targets, num_classes = task.targets(), len(task.classes)
    wants_scores = "map" in (task.metric, *task.other_metrics) and task.kind == "clip"
    outcomes = train_probes(
        vectors,
        targets,
        plan.folds,
        num_classes=num_classes,
        config=methods.probe,
        settings=task.xares,
        device=methods.device,
        want_scores=wants_scores,
    )
    rows, fold, unit, order = _test_rows(task, plan)
    votes, errors = _vote(task, plan, vectors, targets, methods, order) if task.has_knn else (None, None)
    scores = [outcome.scores for outcome in outcomes if outcome.scores is not None]
    predictions = ClipPredictions(
        ids=np.array([task.ids[i] for i in rows]),
        classes=np.array(task.classes),
        truth=targets[rows],
        fold=fold,
        unit=unit,
        knn=votes if votes is None or task.multilabel else votes.argmax(axis=1),
        probe=np.concatenate([outcome.predictions for outcome in outcomes], axis=1)[:, order],
        knn_votes=votes if wants_scores else None,
        probe_logits=np.concatenate(scores, axis=1)[:, order] if scores else None,
    )
    return Judged(
        predictions=predictions,
        learning_rates=tuple(outcome.learning_rate for outcome in outcomes),
        map_clips=sample_clips(task, rows, vectors),
        errors=errors,
    )


def _predict_segments(task: Task, plan: Plan, frames: Any, methods: Methods) -> Judged:
    outcomes = train_frame_probes(frames, task, plan, config=methods.probe, device=methods.device)
    test = [fold.test for fold in plan.folds]
    rows = np.concatenate(test)
    fold = np.repeat(np.arange(len(test)), [len(part) for part in test])
    predictions = SegmentPredictions(
        ids=np.array([task.ids[i] for i in rows]),
        classes=np.array(task.classes),
        fold=fold,
        unit=resampling_units(None if task.groups is None else [task.groups[i] for i in rows], fold)[0],
        segments_per_clip=np.concatenate([outcome.segments_per_clip for outcome in outcomes]),
        truth=np.concatenate([outcome.truth for outcome in outcomes]),
        probe=np.concatenate([outcome.probabilities for outcome in outcomes], axis=1),
    )
    return Judged(predictions=predictions, learning_rates=tuple(outcome.learning_rate for outcome in outcomes))


def _test_rows(task: Task, plan: Plan) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return row, fold and resampling unit of every test clip, by row, and the order that sorts the folds' parts so."""
    test = np.concatenate([fold.test for fold in plan.folds])
    order = np.argsort(test, kind="stable")
    rows = test[order]
    fold = np.repeat(np.arange(len(plan.folds)), [len(fold.test) for fold in plan.folds])[order]
    unit, _ = resampling_units(None if task.groups is None else [task.groups[i] for i in rows], fold)
    return rows, fold, unit, order


def _vote(
    task: Task, plan: Plan, vectors: np.ndarray, targets: np.ndarray, methods: Methods, order: np.ndarray
) -> tuple[np.ndarray, Errors]:
    """Return the votes for every test clip [N, C] in the order of rows, and some of the wrong ones."""
    votes, near, similar = [], [], []
    for fold in plan.folds:
        gallery = np.sort(fold.train) if methods.knn.gallery == "train" else np.union1d(fold.train, fold.valid)
        indices, similarities = _nearest(vectors, gallery, fold.test, methods.knn)
        votes.append(
            votes_of(indices, similarities, targets[gallery], num_classes=len(task.classes), config=methods.knn)
        )
        near.append(gallery[indices])
        similar.append(similarities)
    rows = np.concatenate([fold.test for fold in plan.folds])[order]
    voted, near_rows = np.concatenate(votes)[order], _stack(near)[order]
    guesses = voted if task.multilabel else voted.argmax(axis=1)
    return voted, sample_errors(task, rows, targets[rows], guesses, near_rows, _stack(similar)[order])


def _nearest(vectors: np.ndarray, gallery: np.ndarray, test: np.ndarray, knn: KnnConfig) -> tuple[np.ndarray, Any]:
    return neighbours(vectors[gallery], vectors[test], k=knn.k, scaling=knn.scaling)


def _stack(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the folds' neighbours in one array; a small gallery has fewer than k, and the columns are cut to that."""
    width = min(part.shape[1] for part in parts)
    return np.concatenate([part[:, :width] for part in parts])


def _vectors(encoder: Any, task: Task, cache: EmbeddingCache | None, count: _Counter) -> np.ndarray:
    """Return one vector a clip [N, D], from `frames(waves)` or, for an encoder of files alone, from `embed(paths)`."""
    if hasattr(encoder, "frames"):
        return embed_clips(encoder, task.clips, cache=cache, on_done=count.add)
    spans = [clip.id for clip in task.clips if clip.num_bytes or clip.start_s]
    if spans:
        raise EncoderError(
            f"{task.name}: expected an encoder with frames(waves), since {spans[0]} and others are parts of files; "
            "found one with embed(paths) alone"
        )
    return np.stack(list(_file_vectors(encoder, [Path(clip.path) for clip in task.clips], cache, count)))


def _file_vectors(encoder: Any, paths: Sequence[Path], cache: EmbeddingCache | None, count: _Counter) -> Iterator[Any]:
    """Yield what `embed(paths)` returns for every file; what has a fingerprint is kept from run to run."""
    fingerprint = str(getattr(encoder, "fingerprint", ""))
    for start in range(0, len(paths), _FILES_PER_CALL):
        batch = paths[start : start + _FILES_PER_CALL]
        known: dict[str, np.ndarray] = {}
        keys = [str(path) for path in batch]
        if cache is not None and fingerprint:
            place = {"encoder": fingerprint, "preprocessing": "embed(paths)", "kind": "embed"}
            keys = [embedding_key(**place, audio=audio_hash(path)) for path in batch]
            known = cache.get_many(keys)
        new = {key: path for key, path in zip(keys, batch, strict=True) if key not in known}
        if new:
            known |= dict(zip(new, _embedded(encoder, list(new.values())), strict=True))
            if cache is not None and fingerprint:
                cache.put_many({key: known[key] for key in new})
        yield from (known[key] for key in keys)
        count.add(len(batch))


def _embedded(encoder: Any, paths: list[Path]) -> np.ndarray:
    vectors = np.asarray(encoder.embed(paths))
    if vectors.ndim != 2 or len(vectors) != len(paths):
        raise EncoderError(f"expected embeddings [{len(paths)}, D] from the encoder, found {list(vectors.shape)}")
    if not np.isfinite(vectors).all():
        raise EncoderError(f"expected finite embeddings, found NaN or infinity for {paths[0]} or one of the next files")
    return vectors.astype(np.float32)


class _Counter:
    """Adds up what a pass reports and passes the sum on."""

    def __init__(self, watch: Watch, what: str, total: int) -> None:
        self._watch, self._what, self._total, self._done = watch, what, total, 0

    def add(self, num_done: int) -> None:
        self._done += num_done
        self._watch(self._what, self._done, self._total)


def _unit(task: Task, predictions: Predictions) -> tuple[str, list[str]]:
    """Return what the bootstrap resamples, and a note where that is less than the task's groups ask for."""
    if task.groups is None:
        return "clip", []
    group = dict(zip(task.ids, task.groups, strict=True))
    groups = [group[id] for id in predictions.ids.tolist()]
    _, unit = resampling_units(groups, predictions.fold)
    if unit == "group":
        return unit, []
    found = f"{len(set(groups))} {task.group_kind}(s) in the test parts"
    return unit, [f"{found}: too few to resample, so the intervals resample clips and say nothing of other ones"]


def _others(task: Task, predictions: Predictions) -> dict[str, dict[str, float | None]]:
    """Return the scores by every further metric that the predictions allow."""
    return {
        metric: {
            "knn": predictions.knn_score(metric),
            "probe": float(np.mean(predictions.probe_scores(metric))),
        }
        for metric in predictions.metrics
        if metric != task.metric
    }


def _blind_scores(task: Task, plan: Plan, predictions: Predictions) -> tuple[float | None, float | None]:
    """Return chance, and the accuracy of always answering the training part's most frequent class."""
    if not isinstance(predictions, ClipPredictions):
        return None, None
    if task.metric == "map":
        positives = predictions.positives()
        return float(positives[:, positives.any(axis=0)].mean()), None
    targets = task.targets()
    usual = [(fold, np.bincount(targets[fold.train]).argmax()) for fold in plan.folds]
    return 1 / len(task.classes), float(np.mean([np.mean(targets[fold.test] == guess) for fold, guess in usual]))
