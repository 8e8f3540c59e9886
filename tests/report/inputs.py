"""Synthetic inputs of a report: results with stored predictions, training metrics, embeddings, sine waves to play."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from uniwhisper.evaluate.bootstrap import Replicates, interval, replicate
from uniwhisper.evaluate.compare import means, weighted_means
from uniwhisper.evaluate.neighbours import Errors, Neighbour, Recording, WrongClip, write_errors
from uniwhisper.evaluate.predictions import Predictions, write_predictions
from uniwhisper.evaluate.predictions.kinds import ClipPredictions, SegmentPredictions, TextPredictions
from uniwhisper.evaluate.results import (
    Absent,
    Contamination,
    EncoderInfo,
    Failure,
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
WORDS = ("the", "birch", "canoe", "slid", "on", "smooth", "planks", "glue", "sheet", "to", "dark", "blue", "is", "easy")


@dataclass(frozen=True, kw_only=True)
class Fake:
    """A task to make up."""

    title: str
    domain: str
    metric: str = "accuracy"
    num_classes: int = 5
    num_clips: int = 120
    has_knn: bool = True
    weight: float | None = None
    num_folds: int = 1


PAPER: dict[str, Fake] = {
    "asvspoof2015": Fake(title="ASV2015", domain="speech", num_classes=2, weight=2000),
    "crema_d": Fake(title="CREMA-D", domain="speech", num_classes=6, weight=1116),
    "fluent_speech_commands": Fake(title="Fluent Speech Commands", domain="speech", num_classes=90, weight=2000),
    "libricount": Fake(title="LibriCount", domain="speech", num_classes=11, weight=1144, num_folds=5),
    "librispeech_100h": Fake(title="LibriSpeech-100h", domain="speech", metric="iwer", has_knn=False, weight=10_000),
    "librispeech_mf": Fake(title="LibriSpeech-MF", domain="speech", num_classes=2, weight=2620),
    "ravdess": Fake(title="RAVDESS", domain="speech", num_classes=8, weight=360, num_folds=4),
    "speech_commands_v1": Fake(title="Speech Commands V1", domain="speech", num_classes=30, weight=2000),
    "vocalsound": Fake(title="VocalSound", domain="speech", num_classes=6, weight=2000),
    "voxceleb1": Fake(title="VoxCeleb1", domain="speech", num_classes=120, num_clips=300, weight=2000),
    "voxlingua33": Fake(title="VoxLingua33", domain="speech", num_classes=33, weight=1609),
    "fma_small": Fake(title="Free Music Archive Small", domain="music", num_classes=8, weight=800),
    "gtzan": Fake(title="GTZAN Genre", domain="music", num_classes=10, weight=100, num_folds=10),
    "nsynth_instruments": Fake(title="NSynth-Instruments", domain="music", num_classes=11, weight=2000),
    "desed": Fake(title="DESED", domain="sound", metric="segment_f1", num_classes=10, has_knn=False, weight=1153),
    "esc50": Fake(title="ESC-50", domain="sound", num_classes=50, num_clips=250, weight=400, num_folds=5),
    "fsdkaggle2018": Fake(title="FSDKaggle2018", domain="sound", metric="map", num_classes=12, weight=1600),
    "fsd50k": Fake(title="FSD50k", domain="sound", metric="map", num_classes=16, weight=2000),
    "urbansound8k": Fake(title="UrbanSound8K", domain="sound", num_classes=10, weight=873, num_folds=10),
    "vocal_imitation": Fake(title="Vocal Imitation", domain="sound", num_classes=100, weight=1867),
}
"""The paper's twenty tasks, with few clips."""


def make_predictions(
    task: str, shares: tuple[float, float], *, num_clips: int, num_classes: int, num_folds: int = 1, knn: bool = True
) -> ClipPredictions:
    """Return predictions of which about `shares` (kNN, probe) are right; the truth depends on the task alone."""
    rng = np.random.default_rng(zlib.crc32(task.encode()))
    truth = rng.integers(num_classes, size=num_clips)
    luck = rng.random((4, num_clips))  # one draw per clip: a better encoder is right on a superset, as in real pairs
    slip = rng.integers(1, min(4, num_classes), size=num_clips) if num_classes > 2 else 1

    def guess(share: float, row: int) -> np.ndarray:
        return np.where(luck[row] < share, truth, (truth + slip) % num_classes)

    return ClipPredictions(
        ids=np.array([f"{task}/{i}.ogg" for i in range(num_clips)]),
        classes=np.array([f"class {c}" for c in range(num_classes)]),
        truth=truth,
        fold=np.arange(num_clips) % num_folds,
        unit=np.arange(num_clips),
        knn=guess(shares[0], 0) if knn else None,
        probe=np.stack([guess(shares[1], row) for row in (1, 2, 3)]),
    )


def _ranked(task: str, share: float, fake: Fake) -> ClipPredictions:
    rng = np.random.default_rng(zlib.crc32(task.encode()))
    shape = (fake.num_clips, fake.num_classes)
    truth = (rng.random(shape) < 0.08).astype(np.uint8)
    logits = rng.normal(size=(3, *shape)) + 6 * (share - 0.3) * truth
    common = _common(task, fake)
    classes = np.array([f"sound {c}" for c in range(fake.num_classes)])
    return ClipPredictions(**common, classes=classes, truth=truth, knn=logits[0] - 0.5 * logits[1], probe=logits)


def _segments(task: str, share: float, fake: Fake) -> SegmentPredictions:
    rng = np.random.default_rng(zlib.crc32(task.encode()))
    shape = (10 * fake.num_clips, fake.num_classes)
    truth = (rng.random(shape) < 0.1).astype(np.uint8)
    noise = rng.normal(scale=0.3, size=(3, *shape))
    probe = np.clip(0.25 + share * 0.5 * truth + noise * (1.1 - share), 0, 1)
    classes = np.array(["Speech", "Dog", "Cat", "Dishes", "Frying", "Blender", "Vacuum", "Shaver", "Alarm", "Water"])
    lengths = np.full(fake.num_clips, 10)
    return SegmentPredictions(
        **_common(task, fake), classes=classes, segments_per_clip=lengths, truth=truth, probe=probe
    )


def _texts(task: str, share: float, fake: Fake) -> TextPredictions:
    rng = np.random.default_rng(zlib.crc32(task.encode()))
    said = [[WORDS[w] for w in rng.integers(len(WORDS), size=12)] for _ in range(fake.num_clips)]

    def heard(words: list[str]) -> str:
        return " ".join(word if rng.random() < share else WORDS[rng.integers(len(WORDS))] for word in words)

    probe = np.array([[heard(words) for words in said] for _ in range(3)])
    return TextPredictions(**_common(task, fake), reference=np.array([" ".join(words) for words in said]), probe=probe)


def _common(task: str, fake: Fake) -> dict[str, np.ndarray]:
    number = np.arange(fake.num_clips)
    return {"ids": np.array([f"{task}-{i:04d}" for i in number]), "fold": number % fake.num_folds, "unit": number}


def _predict(task: str, shares: tuple[float, float], fake: Fake) -> Predictions:
    if fake.metric == "map":
        return _ranked(task, shares[1], fake)
    if fake.metric == "segment_f1":
        return _segments(task, shares[1], fake)
    if fake.metric == "iwer":
        return _texts(task, shares[1], fake)
    sizes = {"num_clips": fake.num_clips, "num_classes": fake.num_classes, "num_folds": fake.num_folds}
    return make_predictions(task, shares, knn=fake.has_knn, **sizes)


_KINDS = {"accuracy": "clip", "map": "multilabel", "segment_f1": "frame", "iwer": "asr"}


def _judged(
    task: str, fake: Fake, predictions: Predictions, path: str, contamination: Contamination | None
) -> tuple[TaskResult, Replicates]:
    drawn = replicate(predictions, metric=fake.metric, num_replicates=200)
    per_seed = tuple(predictions.probe_scores(fake.metric))
    knn = predictions.knn_score(fake.metric)
    probe = interval(float(np.mean(per_seed)), drawn.probe)
    rates = {"per_seed": per_seed, "learning_rates": (0.001,) * fake.num_folds}
    result = TaskResult(
        name=task,
        title=fake.title,
        domain=fake.domain,
        kind=_KINDS[fake.metric],
        data_sha256=f"{zlib.crc32(task.encode()):08x}" * 8,
        key="",
        num_clips=4 * fake.num_clips,
        num_test_clips=fake.num_clips,
        num_classes=0 if fake.metric == "iwer" else fake.num_classes,
        num_folds=fake.num_folds,
        scheme="train/test",
        metric=fake.metric,
        chance=1 / fake.num_classes if fake.metric == "accuracy" else None,
        majority=1.25 / fake.num_classes if fake.metric == "accuracy" else None,
        resampling_unit="clip",
        weight=fake.weight,
        knn_weight=fake.weight if knn is not None and fake.metric == "accuracy" else None,
        knn=None if knn is None or drawn.knn is None else interval(knn, drawn.knn),
        probe=ProbeScore(score=probe.score, low=probe.low, high=probe.high, **rates),
        other={},
        predictions=path,
        predictions_digest=predictions.digest(),
        contamination=contamination,
        notes=(),
    )
    return result, drawn


def make_results(
    folder: Path,
    scores: Mapping[str, tuple[float, float]],
    *,
    name: str = "whisper-base",
    num_clips: int = 300,
    domains: Sequence[str] = ("sound", "speech", "music"),
    failures: Sequence[tuple[str, str]] = (),
    absent: Sequence[str] = (),
    tasks: Mapping[str, Fake] | None = None,
    contamination: Mapping[str, Contamination] | None = None,
    protocol: str = "strict",
    trained_on: tuple[str, ...] = (),
) -> Path:
    """Write results.json with its predictions and return its path; `scores` maps a task to (kNN, probe)."""
    folder.mkdir(parents=True, exist_ok=True)
    judged: list[TaskResult] = []
    replicates: dict[str, Replicates] = {}
    for t, (task, shares) in enumerate(scores.items()):
        fake = (tasks or {}).get(task) or Fake(title=task, domain=domains[t % len(domains)], num_clips=num_clips)
        predictions = _predict(task, shares, fake)
        stem = f"predictions_{t}.parquet"
        write_predictions(folder / stem, predictions)
        result, replicates[task] = _judged(task, fake, predictions, stem, (contamination or {}).get(task))
        judged.append(replace(result, notes=("one test speaker only",)) if t == 1 else result)
    known = {"trained_on": trained_on, "training_known": bool(trained_on)}
    return write_results(
        Results(
            encoder=EncoderInfo(
                name=name, fingerprint=f"{zlib.crc32(name.encode()):08x}" * 8, dim=512, hop_ms=20.0, **known
            ),
            protocol={**PROTOCOL, "name": protocol},
            tasks=tuple(judged),
            means=means(judged, replicates) if judged else {},
            weighted=weighted_means(judged, replicates) if judged else {},
            failures=tuple(Failure(task=task, where=f"{task}.csv", error=error) for task, error in failures),
            absent=tuple(_absent(task) for task in absent),
            environment={"python": "3.11.2", "numpy": "2.4.6", "torch": "2.13.0", "uniwhisper": "0.1.0"},
            folder=folder,
        )
    )


def _absent(task: str) -> Absent:
    title = PAPER[task].title if task in PAPER else task
    placement = f"{task}/ from https://example.org/{task}\n{task}/audio/*.wav and {task}/labels.csv"
    return Absent(task=task, title=title, source=task, placement=placement)


def make_paper(folder: Path) -> list[Path]:
    """Write the results of three encoders on the paper's tasks: one with all, one contaminated, one with gaps."""
    rng = np.random.default_rng(7)
    base = {task: (float(rng.uniform(0.2, 0.6)), float(rng.uniform(0.45, 0.8))) for task in PAPER}
    better = {task: (min(k + 0.15, 0.95), min(p + 0.12, 0.98)) for task, (k, p) in base.items()}
    partial = {task: (k + 0.03, p - 0.02) for task, (k, p) in base.items() if task not in ("fsd50k", "vocalsound")}
    shared = {
        "urbansound8k": Contamination(corpora=("urban_sed",), clips={"identifier": 12, "fingerprint": 3}),
        "librispeech_mf": Contamination(corpora=("libri_adhoc40",), clips={}),
    }
    common: dict[str, Any] = {"tasks": PAPER}
    return [
        make_results(folder / "base", base, name="whisper-base", **common),
        make_results(
            folder / "ours",
            better,
            name="uniwhisper-base_run-3",
            contamination=shared,
            trained_on=("audioset", "urban_sed", "libri_adhoc40"),
            **common,
        ),
        make_results(
            folder / "partial",
            partial,
            name="facebook/wav2vec2-large",
            failures=[("vocalsound", "expected 16 kHz audio at clip 12, found <none>; convert the corpus again")],
            absent=("fsd50k",),
            **common,
        ),
    ]


def make_errors(folder: Path, audio: Path, tasks: Sequence[str], *, count: int = 10) -> None:
    """Write misjudged clips beside results: sine waves below `audio`, two clips a file."""
    names = [f"{task}/{i}.wav" for task in tasks for i in range(count)]
    make_tones(audio, names, duration_s=1.0)

    def recording(task: str, i: int, half: int) -> Recording:
        return Recording(path=str(audio / task / f"{i % count}.wav"), start_s=0.5 * half, duration_s=0.5)

    def wrong(task: str, i: int) -> WrongClip:
        near = tuple(
            Neighbour(
                id=f"{task}-train-{i + n}",
                recording=recording(task, i + n, 1),
                labels=(f"class {(i + 1) % 5}",),
                similarity=0.9 - 0.07 * n,
            )
            for n in range(3)
        )
        clip = {"id": f"{task}-{i:04d}", "recording": recording(task, i, 0), "labels": (f"class {i % 5}",)}
        return WrongClip(**clip, guess=f"class {(i + 1) % 5}", neighbours=near)

    kept = [
        Errors(task=task, num_clips=300, num_wrong=73, errors=tuple(wrong(task, i) for i in range(count)))
        for task in tasks
    ]
    write_errors(folder, kept)


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
