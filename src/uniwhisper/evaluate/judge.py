"""Score one task from its embeddings: predictions first, then everything that is computed from them.

Reads: a task, its plan and its embeddings. Returns: predictions for every test clip, and the task's results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np

from uniwhisper.evaluate.bootstrap import interval, replicate, resampling_units
from uniwhisper.evaluate.knn import KnnConfig, knn_votes
from uniwhisper.evaluate.predictions import Predictions
from uniwhisper.evaluate.probe import ProbeConfig, ProbeOutcome, train_probes
from uniwhisper.evaluate.results import KnnScore, ProbeScore, TaskResult
from uniwhisper.evaluate.splits import Fold, Plan
from uniwhisper.evaluate.tables import Task

__all__ = ["judge", "predict"]


def predict(
    task: Task, plan: Plan, vectors: np.ndarray, *, knn: KnnConfig, probe: ProbeConfig, device: str = "cpu"
) -> tuple[Predictions, tuple[ProbeOutcome, ...]]:
    """Return the kNN's and the probes' predictions for every test clip, and how each fold's probes were chosen.

    Args:
        task: The task.
        plan: Its folds.
        vectors: Embeddings of all its clips [N, D], in row order.
        knn: How neighbours vote.
        probe: How probes are trained.
        device: Torch device that trains.
    """
    targets, num_classes = task.targets(), len(task.classes)
    outcomes = train_probes(vectors, targets, plan.folds, num_classes=num_classes, config=probe, device=device)
    votes = [_vote(vectors, targets, fold, num_classes, knn) for fold in plan.folds]
    test = np.concatenate([fold.test for fold in plan.folds])
    order = np.argsort(test, kind="stable")
    rows = test[order]
    fold = np.repeat(np.arange(len(plan.folds)), [len(fold.test) for fold in plan.folds])[order]
    unit, _ = resampling_units(None if task.groups is None else [task.groups[i] for i in rows], fold)
    predictions = Predictions(
        ids=np.array([task.ids[i] for i in rows]),
        classes=np.array(task.classes),
        truth=targets[rows],
        fold=fold,
        unit=unit,
        knn=np.concatenate(votes)[order],
        probe=np.concatenate([outcome.predictions for outcome in outcomes], axis=1)[:, order],
    )
    return predictions, outcomes


def judge(
    task: Task, plan: Plan, predictions: Predictions, outcomes: Sequence[ProbeOutcome], *, path: str, key: str = ""
) -> TaskResult:
    """Return the task's entry in the results: scores with intervals, and what they rest on.

    Args:
        task: The task.
        plan: Its folds.
        predictions: What `predict` predicted.
        outcomes: How its probes were chosen.
        path: Where the predictions are stored, relative to the results' folder.
        key: Hash of everything that the scores depend on.
    """
    unit, notes = _unit(task, predictions)
    knn, probe = _scores(predictions, outcomes)
    chance, majority = _blind_scores(task, plan, predictions)
    return TaskResult(
        name=task.name,
        domain=task.domain,
        table_sha256=task.table_sha256,
        key=key,
        num_clips=len(task.ids),
        num_test_clips=len(predictions.ids),
        num_classes=len(task.classes),
        num_folds=len(plan.folds),
        scheme=plan.scheme,
        multilabel=task.multilabel,
        metric="mAP" if task.multilabel else "accuracy",
        chance=chance,
        majority=majority,
        resampling_unit=unit,
        knn=knn,
        probe=probe,
        predictions=path,
        predictions_digest=predictions.digest(),
        notes=(*plan.notes, *notes),
    )


def _vote(vectors: np.ndarray, targets: np.ndarray, fold: Fold, num_classes: int, config: KnnConfig) -> np.ndarray:
    """Return the kNN's class indices of the fold's test clips, or its votes in a multi-label task."""
    parts = [fold.train] if config.gallery == "train" else [fold.train, fold.valid]
    gallery = np.sort(np.concatenate(parts))
    votes = knn_votes(vectors[gallery], targets[gallery], vectors[fold.test], num_classes=num_classes, config=config)
    return votes if targets.ndim == 2 else votes.argmax(axis=1)


def _unit(task: Task, predictions: Predictions) -> tuple[str, list[str]]:
    """Return what the bootstrap resamples, and a note where that is less than the table's groups ask for."""
    if task.groups is None:
        return "clip", []
    group = dict(zip(task.ids, task.groups, strict=True))
    groups = [group[id] for id in predictions.ids.tolist()]
    _, unit = resampling_units(groups, predictions.fold)
    if unit == "group":
        return unit, []
    found = f"{len(set(groups))} {task.group_column}(s) in the test parts"
    return unit, [f"{found}: too few to resample, so the intervals resample clips and say nothing of other ones"]


def _scores(predictions: Predictions, outcomes: Sequence[ProbeOutcome]) -> tuple[KnnScore, ProbeScore]:
    replicates = replicate(predictions)
    per_seed = [predictions.score(guess) for guess in predictions.probe]
    f1 = [value for value in map(predictions.macro_f1, predictions.probe) if value is not None]
    knn = interval(predictions.score(predictions.knn), replicates.knn)
    probe = interval(float(np.mean(per_seed)), replicates.probe)
    return KnnScore(**asdict(knn), macro_f1=predictions.macro_f1(predictions.knn)), ProbeScore(
        **asdict(probe),
        macro_f1=float(np.mean(f1)) if f1 else None,
        per_seed=tuple(per_seed),
        learning_rates=tuple(outcome.learning_rate for outcome in outcomes),
    )


def _blind_scores(task: Task, plan: Plan, predictions: Predictions) -> tuple[float, float | None]:
    """Return chance, and the accuracy of always answering the training part's most frequent class."""
    if task.multilabel:
        present = predictions.truth.any(axis=0)
        return float(predictions.truth[:, present].mean()), None
    targets = task.targets()
    usual = [(fold, np.bincount(targets[fold.train]).argmax()) for fold in plan.folds]
    return 1 / len(task.classes), float(np.mean([np.mean(targets[fold.test] == guess) for fold, guess in usual]))
