"""Synthetic inputs of a report: results with stored predictions, training metrics, embeddings, sine waves to play."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from uniwhisper.evaluate.bootstrap import interval, replicate
from uniwhisper.evaluate.compare import means
from uniwhisper.evaluate.predictions import Predictions, write_predictions
from uniwhisper.evaluate.results import (
    EncoderInfo,
    Failure,
    KnnScore,
    ProbeScore,
    Results,
    TaskResult,
    write_results,
)

PROTOCOL = {
    "name": "strict",
    "frames": None,
    "overlap": "error",
    "valid_share": 0.1,
    "split_seed": 0,
    "knn": {"k": 10, "temperature": 0.07},
    "probe": {"hidden_layers": 0, "seeds": 3, "learning_rates": [0.0003, 0.001]},
    "bootstrap": {"num_replicates": 2000, "percentiles": [2.5, 97.5], "draws": "units and seeds"},
}


def make_predictions(task: str, shares: tuple[float, float], *, num_clips: int, num_classes: int) -> Predictions:
    """Return predictions of which about `shares` (kNN, probe) are right; the truth depends on the task alone."""
    rng = np.random.default_rng(zlib.crc32(task.encode()))
    truth = rng.integers(num_classes, size=num_clips)
    luck = rng.random((4, num_clips))  # one draw per clip: a better encoder is right on a superset, as in real pairs

    def guess(share: float, row: int) -> np.ndarray:
        return np.where(luck[row] < share, truth, (truth + 1) % num_classes)

    return Predictions(
        ids=np.array([f"{task}/{i}.ogg" for i in range(num_clips)]),
        classes=np.array([f"class {c}" for c in range(num_classes)]),
        truth=truth,
        fold=np.zeros(num_clips, dtype=np.int64),
        unit=np.arange(num_clips),
        knn=guess(shares[0], 0),
        probe=np.stack([guess(shares[1], row) for row in (1, 2, 3)]),
    )


def make_results(
    folder: Path,
    scores: dict[str, tuple[float, float]],
    *,
    name: str = "whisper-base",
    num_clips: int = 300,
    domains: Sequence[str] = ("sound", "speech", "music"),
    failures: Sequence[tuple[str, str]] = (),
) -> Path:
    """Write results.json with its predictions and return its path; `scores` maps a task to (kNN, probe)."""
    folder.mkdir(parents=True, exist_ok=True)
    tasks, replicates = [], {}
    for t, (task, shares) in enumerate(scores.items()):
        predictions = make_predictions(task, shares, num_clips=num_clips, num_classes=5)
        stem = f"predictions_{t}.npz"
        write_predictions(folder / stem, predictions)
        drawn = replicates[task] = replicate(predictions, num_replicates=200)
        per_seed = tuple(predictions.score(seed) for seed in predictions.probe)
        knn = interval(predictions.score(predictions.knn), drawn.knn)
        probe = interval(float(np.mean(per_seed)), drawn.probe)
        tasks.append(
            TaskResult(
                name=task,
                domain=domains[t % len(domains)],
                table_sha256=f"{zlib.crc32(task.encode()):08x}" * 8,
                key="",
                num_clips=4 * num_clips,
                num_test_clips=num_clips,
                num_classes=5,
                num_folds=1,
                scheme="train/test",
                multilabel=False,
                metric="accuracy",
                chance=0.2,
                majority=0.25,
                resampling_unit="clip",
                knn=KnnScore(score=knn.score, low=knn.low, high=knn.high, macro_f1=0.5),
                probe=ProbeScore(
                    score=probe.score,
                    low=probe.low,
                    high=probe.high,
                    macro_f1=0.5,
                    per_seed=per_seed,
                    learning_rates=(0.001,),
                ),
                predictions=stem,
                predictions_digest=predictions.digest(),
                notes=("one test speaker only",) if t == 1 else (),
            )
        )
    return write_results(
        Results(
            encoder=EncoderInfo(name=name, fingerprint=f"{zlib.crc32(name.encode()):08x}" * 8, dim=512),
            protocol=PROTOCOL,
            tasks=tuple(tasks),
            means=means(tasks, replicates) if tasks else {},
            failures=tuple(Failure(task=task, table=f"{task}.csv", error=error) for task, error in failures),
            environment={"python": "3.11.2", "numpy": "2.4.6", "torch": "2.13.0", "uniwhisper": "0.1.0"},
            folder=folder,
        )
    )


def make_training(folder: Path, *, num_steps: int = 60, sources: Sequence[str] = ("alpha", "beta")) -> Path:
    """Write metrics.jsonl with falling losses and return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    lines = []
    for step in range(num_steps):
        levels = {s: float(2 + 4 * np.exp(-step / 25) + 0.3 * i + rng.normal(0, 0.2)) for i, s in enumerate(sources)}
        row = {
            "step": step,
            "loss": float(np.mean(list(levels.values()))),
            "lr_encoder": 1e-4 * min(1.0, max(0.0, (step - 10) / 20)) * (1 - step / num_steps),
            "lr_adapter": 3e-4 * min(1.0, step / 10) * (1 - step / num_steps),
            "grad_norm": 1.0,
            "num_examples": 12,
            "audio_s": 40.0,
            "examples_per_s": 5.0,
            "seconds": 2.4,
            "loss_by_source": {s: loss for i, (s, loss) in enumerate(levels.items()) if (step + i) % 3},
        }
        lines.append(json.dumps(row))
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def make_tones(folder: Path, names: Sequence[str], *, duration_s: float = 0.3) -> None:
    """Write a sine wave for every name."""
    for i, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        time_s = np.arange(int(duration_s * 16_000)) / 16_000
        soundfile.write(file, 0.3 * np.sin(2 * np.pi * (220 + 7 * i) * time_s), 16_000)


def make_embeddings(
    file: Path, tasks: Mapping[str, Sequence[str]], *, spread: float = 0.5, clips_per_label: int = 8
) -> Path:
    """Write an npz of clips in clusters: `tasks` maps a task to its labels; paths are `<task>/<i>.wav`."""
    rng = np.random.default_rng(0)
    vectors, labels, names, paths = [], [], [], []
    for task, task_labels in tasks.items():
        centres = rng.normal(size=(len(task_labels), 32))
        for i in range(clips_per_label * len(task_labels)):
            label = i % len(task_labels)
            vectors.append(centres[label] + spread * rng.normal(size=32))
            labels.append(task_labels[label])
            names.append(task)
            paths.append(f"{task}/{i}.wav")
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays: dict[str, Any] = {"labels": np.array(labels), "task": np.array(names), "paths": np.array(paths)}
    np.savez(file, vectors=np.array(vectors, dtype=np.float32), **arrays)
    return file


BEFORE = {"esc50": (0.60, 0.78), "digits": (0.72, 0.93), "notes": (0.41, 0.66)}
AFTER = {"esc50": (0.74, 0.82), "digits": (0.66, 0.90), "notes": (0.63, 0.67)}
