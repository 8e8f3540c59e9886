from __future__ import annotations

import csv
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from tiny import tiny_whisper, tone
from uniwhisper import embed
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.cache import EmbeddingCache
from uniwhisper.checkpoint import save_audio_model
from uniwhisper.errors import AudioError, ConfigError, TaskError
from uniwhisper.evaluate import monitor
from uniwhisper.evaluate.mock import mock_tasks
from uniwhisper.evaluate.monitor import knn_monitor
from uniwhisper.evaluate.probes import ProbeConfig
from uniwhisper.evaluate.run import Settings, evaluate
from uniwhisper.evaluate.wanted import as_wanted
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.uniwhisper import AudioModel
from uniwhisper.train.evaluation import read_evaluations, run_evaluation


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_whisper(tmp_path_factory.mktemp("whisper"), width=32, heads=2, layers=1)


@pytest.fixture
def model(whisper: Path) -> AudioModel:
    return AudioModel(load_encoder(whisper)).train()


@pytest.fixture
def table(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes tones of three pitches and a table that names them."""

    def write(name: str = "pitch.csv", *, num_clips: int = 30, duration_s: float = 0.4) -> Path:
        with (tmp_path / name).open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["path", "label", "split"])
            for number in range(num_clips):
                path = tmp_path / f"{Path(name).stem}-{number}.wav"
                wave = tone(duration_s, (200, 250, 320)[number % 3], seed=number, noise=0.4)
                soundfile.write(path, wave, SAMPLE_RATE, subtype="PCM_16")
                rows.writerow([path.name, "abc"[number % 3], "test" if number % 2 else "train"])
        return tmp_path / name

    return write


def test_scores_are_those_of_evaluate(model: AudioModel, tmp_path: Path) -> None:
    tasks = [replace(task, has_knn=True) for task in mock_tasks(tmp_path / "clips") if task.labels]
    scores = knn_monitor(tasks, limit=1000, clip_s=30.0)(model, 5)
    save_audio_model(tmp_path / "encoder", model, {})
    settings = Settings(seeds=1, probe=ProbeConfig(max_epochs=1, learning_rates=(1e-3,)))
    cache = EmbeddingCache(tmp_path / "embeddings.sqlite")
    results = evaluate(embed.load(tmp_path / "encoder"), tasks, tmp_path / "out", settings, cache=cache, progress=False)
    expected = {task.name: task.knn.score for task in results.tasks if task.knn is not None}
    assert expected.keys() == {"mock_folds", "mock_parts", "mock_tags"}  # folds, average precision, several labels
    assert {name: scores[name] for name in expected} == pytest.approx(expected, abs=1e-6)
    assert scores["mean"] == pytest.approx(np.mean([score for name, score in scores.items() if name != "mean"]))


def test_the_weights_alone_change_the_scores(model: AudioModel, table: Callable[..., Path]) -> None:
    score = knn_monitor([table()])
    first = score(model, 1)
    assert first.keys() == {"pitch", "mean"}
    assert score(model, 2) == first  # neither the step nor the number of calls
    with torch.no_grad():
        for parameter in model.encoder.parameters():
            parameter.mul_(0.0)
    assert score(model, 2)["pitch"] <= 0.5  # every clip is the same now: nothing was kept from the weights before
    assert first["pitch"] > 0.5


def test_the_model_is_not_touched(model: AudioModel, table: Callable[..., Path], tmp_path: Path) -> None:
    model.encoder.requires_grad_(False)
    weights = {name: (value.data_ptr(), value.clone()) for name, value in model.state_dict().items()}
    flags = [module.training for module in model.modules()], [p.requires_grad for p in model.parameters()]
    random_state, threads = torch.get_rng_state(), torch.get_num_threads()
    knn_monitor([table()])(model, 1)
    assert [m.training for m in model.modules()] == flags[0]
    assert [p.requires_grad for p in model.parameters()] == flags[1]
    for name, value in model.state_dict().items():
        assert value.data_ptr() == weights[name][0]
        assert torch.equal(value, weights[name][1])
    assert torch.equal(torch.get_rng_state(), random_state)
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


def gradients(model: AudioModel) -> list[torch.Tensor]:
    mels = [torch.randn(80, 100, generator=torch.Generator().manual_seed(0))]
    model.zero_grad()
    model(mels, [mels[0][:, :2]]).split()[0].square().mean().backward()
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def test_training_goes_on_to_the_same_bits(model: AudioModel, table: Callable[..., Path], tmp_path: Path) -> None:
    monitored = knn_monitor([table()])
    before = gradients(model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert run_evaluation(monitored, model, 1, tmp_path) is not None
        mixed = knn_monitor([table()])(model, 1)
    assert mixed == knn_monitor([table()])(model, 1)  # judged in its own precision
    after = gradients(model)
    assert len(before) == len(after) > 5
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert "scores" in read_evaluations(tmp_path)[0]


def test_weights_are_shared_and_not_copied(model: AudioModel) -> None:
    encoder = monitor._encoder(model, 1, "fp32")
    pairs = list(zip(model.parameters(), encoder.model.parameters(), strict=True))
    assert all(a.data_ptr() == b.data_ptr() for a, b in pairs)
    assert not any(b.requires_grad for _, b in pairs)
    assert encoder.fingerprint != monitor._encoder(model, 1, "fp32").fingerprint


def test_audio_is_read_once_while_there_is_room(
    model: AudioModel, table: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    lock, real = threading.Lock(), monitor.read_clip

    def counted(clip: Any, **options: Any) -> np.ndarray:
        with lock:
            read.append(clip.id)
        return real(clip, **options)

    monkeypatch.setattr(monitor, "read_clip", counted)
    path = table(num_clips=30, duration_s=0.5)
    roomy, narrow, none = knn_monitor([path]), knn_monitor([path], audio_mb=0.1), knn_monitor([path], audio_mb=0.0)
    first = roomy(model, 1)
    count = len(read)
    assert count == len(set(read)) < 30  # clips that only choose among probes are not needed
    assert roomy(model, 2) == first
    assert len(read) == count
    assert narrow(model, 1) == narrow(model, 2) == first
    assert count < len(read) - count < 2 * count  # three clips of 32 kB fit
    assert none(model, 1) == first


def test_few_clips_and_only_their_start_are_heard(
    model: AudioModel, table: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    waves: list[np.ndarray] = []
    real = embed.AudioEmbedder.frames
    monkeypatch.setattr(embed.AudioEmbedder, "frames", lambda self, batch: waves.extend(batch) or real(self, batch))
    knn_monitor([table(num_clips=60, duration_s=1.0)], limit=24, clip_s=0.25)(model, 1)
    assert 12 < len(waves) <= 24
    assert {len(wave) for wave in waves} == {SAMPLE_RATE // 4}


def test_in_bf16_scores_are_close(model: AudioModel, table: Callable[..., Path]) -> None:
    path = table()
    assert knn_monitor([path], precision="bf16")(model, 1)["mean"] == pytest.approx(
        knn_monitor([path])(model, 1)["mean"], abs=0.2
    )


def test_mistakes_are_found_before_the_run(table: Callable[..., Path], tmp_path: Path) -> None:
    path = table()
    with pytest.raises(ConfigError, match="expected tasks of different names, none called 'mean'; found none"):
        knn_monitor([])
    with pytest.raises(ConfigError, match="found pitch, pitch"):
        knn_monitor([path, path])
    with pytest.raises(ConfigError, match="found mean"):
        knn_monitor([path.rename(tmp_path / "mean.csv")])
    with pytest.raises(ConfigError, match="expected limit >= 2"):
        knn_monitor([path], limit=1)
    with pytest.raises(ConfigError, match="expected fp32 or bf16, found 'fp16'"):
        knn_monitor([path], precision="fp16")
    with pytest.raises(TaskError):
        knn_monitor([tmp_path / "nothing.csv"])


def test_a_task_without_labels_is_refused(tmp_path: Path) -> None:
    tasks = [as_wanted(task) for task in mock_tasks(tmp_path / "clips")]
    (segments,) = [task for task in tasks if task.load()[0].kind == "frame"]
    with pytest.raises(TaskError, match="expected a task with a label a clip for kNN, found one of kind 'frame'"):
        knn_monitor([segments])


def test_a_clip_that_went_missing_is_named(model: AudioModel, table: Callable[..., Path], tmp_path: Path) -> None:
    monitored = knn_monitor([table()])
    for path in tmp_path.glob("pitch-*.wav"):
        path.unlink()
    with pytest.raises(AudioError, match=r"pitch-\d+"):
        monitored(model, 1)
    assert run_evaluation(monitored, model, 1, tmp_path) is None
