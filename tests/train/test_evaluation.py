from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uniwhisper.model.dims import EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.uniwhisper import AudioModel
from uniwhisper.train.evaluation import EVALUATIONS, read_evaluations, run_evaluation, undisturbed


@pytest.fixture
def model() -> AudioModel:
    dims = EncoderDims(n_mels=80, n_audio_ctx=100, n_audio_state=16, n_audio_head=2, n_audio_layer=1)
    model = AudioModel(AudioEncoder(dims))
    next(iter(model.parameters())).requires_grad_(False)
    model.train()
    model.subsampler.eval()
    return model


def upset(model: torch.nn.Module, step: int) -> dict[str, float]:
    """Change everything that a careless evaluation can change."""
    assert not model.training
    assert not torch.is_grad_enabled()
    assert not torch.is_autocast_enabled("cpu")
    torch.manual_seed(step)
    np.random.seed(step)  # noqa: NPY002 - what careless code does
    random.seed(step)
    torch.set_num_threads(torch.get_num_threads() + 1)
    torch.set_default_dtype(torch.float64)
    torch.set_grad_enabled(True)
    model.train()
    model.requires_grad_(False)
    return {"esc50": 0.5, "mean": 0.5}


def state(model: AudioModel) -> list[Any]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    return [
        torch.get_rng_state().tolist(),
        random.getstate(),
        numpy_state[1].tolist(),
        numpy_state[2],
        torch.get_num_threads(),
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_autocast_enabled("cpu"),
        [module.training for module in model.modules()],
        [parameter.requires_grad for parameter in model.parameters()],
    ]


def fail(model: torch.nn.Module, step: int) -> dict[str, float]:
    upset(model, step)
    raise FileNotFoundError(f"no clip at {step}.wav")


@pytest.mark.parametrize("evaluate", [upset, fail])
def test_the_run_does_not_notice(model: AudioModel, tmp_path: Path, evaluate: Callable[..., Any]) -> None:
    np.random.random(3)  # noqa: NPY002 - in the middle of a block of numbers
    with torch.autocast("cpu", dtype=torch.bfloat16):
        before = state(model)
        assert before[7]
        scores = run_evaluation(evaluate, model, 7, tmp_path)
        assert state(model) == before
    assert (scores is None) == (evaluate is fail)  # what `upset` expects was so
    assert "no clip at 7.wav" in read_evaluations(tmp_path)[0].get("error", "no clip at 7.wav")


def test_scores_are_returned_written_and_told(model: AudioModel, tmp_path: Path) -> None:
    told: list[str] = []
    found: Any = {"esc50": np.float32(0.25)}
    scores = run_evaluation(lambda model, step: found, model, 500, tmp_path, note=told.append)
    assert scores == {"esc50": 0.25}
    (row,) = read_evaluations(tmp_path)
    assert row == {"step": 500, "scores": {"esc50": 0.25}, "seconds": row["seconds"]}
    assert 0 <= row["seconds"] < 60
    assert told == [f"evaluation after step 500: esc50 0.250  ({row['seconds']:.1f} s)"]


def test_a_failure_is_written_and_told(model: AudioModel, tmp_path: Path) -> None:
    told: list[str] = []
    assert run_evaluation(fail, model, 3, tmp_path, note=told.append) is None
    (row,) = read_evaluations(tmp_path)
    assert row["error"] == "FileNotFoundError: no clip at 3.wav"
    assert "scores" not in row
    assert told == ["evaluation after step 3 failed, training goes on: FileNotFoundError: no clip at 3.wav"]


@pytest.mark.parametrize("scores", [{"esc50": float("nan")}, {"esc50": "high"}, None, {"esc50": None}])
def test_what_is_no_score_is_a_failure(model: AudioModel, tmp_path: Path, scores: Any) -> None:
    assert run_evaluation(lambda model, step: scores, model, 3, tmp_path) is None
    assert "error" in read_evaluations(tmp_path)[0]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_who_wants_to_stop_stops(model: AudioModel, tmp_path: Path, error: type[BaseException]) -> None:
    def stop(model: AudioModel, step: int) -> dict[str, float]:
        raise error

    before = state(model)
    with pytest.raises(error):
        run_evaluation(stop, model, 3, tmp_path)
    assert state(model) == before
    assert read_evaluations(tmp_path) == []


def test_steps_that_come_again_replace_their_rows(model: AudioModel, tmp_path: Path) -> None:
    for step, score in ((10, 0.1), (20, 0.2), (30, 0.3), (20, 0.9)):  # resumed from a checkpoint between 10 and 20
        run_evaluation(lambda model, step, score=score: {"mean": score}, model, step, tmp_path)
    assert [(row["step"], row["scores"]["mean"]) for row in read_evaluations(tmp_path)] == [(10, 0.1), (20, 0.9)]


@pytest.mark.parametrize("damage", ["folder", "text"])
def test_a_row_that_cannot_be_written_does_not_end_the_run(model: AudioModel, tmp_path: Path, damage: str) -> None:
    if damage == "folder":
        (tmp_path / EVALUATIONS).mkdir()
    else:
        (tmp_path / EVALUATIONS).write_text('{"st', encoding="utf-8")
    told: list[str] = []
    assert run_evaluation(lambda model, step: {"mean": 0.5}, model, 3, tmp_path, note=told.append) == {"mean": 0.5}
    assert told[1].startswith(f"evaluation after step 3: expected to write {tmp_path / EVALUATIONS}, found: ")


def test_an_error_in_any_letters_is_written(model: AudioModel, tmp_path: Path) -> None:
    def fail(model: AudioModel, step: int) -> dict[str, float]:
        raise FileNotFoundError(os.fsdecode(b"caf\xe9.wav"))

    assert run_evaluation(fail, model, 3, tmp_path) is None
    assert read_evaluations(tmp_path)[0]["error"] == "FileNotFoundError: caf?.wav"


def test_gpus_that_hold_the_model_are_put_back(model: AudioModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """No GPU is needed to see which states are asked for."""
    asked: list[list[int]] = []

    class Parameter:
        device = torch.device("cuda:1")
        requires_grad = True

        def requires_grad_(self, needed: bool) -> None:
            self.requires_grad = needed

    real = torch.random.fork_rng
    monkeypatch.setattr(model, "parameters", lambda: iter([Parameter()]))
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: asked.append(list(devices)) or real(devices=[]))
    monkeypatch.setattr(torch, "autocast", lambda device, enabled: torch.no_grad())
    with undisturbed(model):
        pass
    assert asked == [[1]]
