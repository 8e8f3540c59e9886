"""What goes wrong in the middle of a run: each failure ends with a good checkpoint and advice, or does not end it."""

from __future__ import annotations

import errno
import os
import shutil
from collections import namedtuple
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from tiny import tiny_lm
from uniwhisper.checkpoint import best_checkpoint, latest_checkpoint
from uniwhisper.errors import CheckpointError, ShardError, TrainingError, WeightsError
from uniwhisper.files import read_json
from uniwhisper.shards import open_shards, write_shards
from uniwhisper.train import step as stepping
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.evaluation import read_evaluations
from uniwhisper.train.loop import Interrupted, train
from uniwhisper.train.metrics import read_metrics

from .conftest import World

Config = Callable[..., TrainConfig]


def out_of_memory(monkeypatch: pytest.MonkeyPatch, *, calls: Sequence[int], error: BaseException) -> list[int]:
    """Let these calls of `accumulate_gradients` fail as if memory had run out; returns the pieces of every call."""
    original, seen = stepping.accumulate_gradients, []

    def failing(*args: Any, **settings: Any) -> Any:
        seen.append(settings["pieces"])
        if len(seen) - 1 in calls:
            raise error
        return original(*args, **settings)

    monkeypatch.setattr(stepping, "accumulate_gradients", failing)
    return seen


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: 8 bytes"
        ),
    ],
)
def test_out_of_memory_halves_the_batches_once_and_says_so(
    world: World,
    config: Config,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
) -> None:
    made = config(optim={"steps": 4, "align_steps": 0})
    with monkeypatch.context() as patch:
        pieces = out_of_memory(patch, calls=[0], error=error)
        halved = train(made, world.clips, tmp_path / "halved")
    assert pieces == [1, 2, 2, 2, 2]
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("out of memory with batches of about 120 decoder positions in 1 piece") == 1
    assert "going on with 2 pieces, half the budget each" in said
    whole = train(made, world.clips, tmp_path / "whole", quiet=True)
    losses = [[row["loss"] for row in read_metrics(folder.parent / "metrics.jsonl")] for folder in (halved, whole)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # the same batches, in other pieces


def test_out_of_memory_again_ends_with_advice_and_clean_gradients(
    world: World, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = torch.OutOfMemoryError("CUDA out of memory")
    pieces = out_of_memory(monkeypatch, calls=[6, 8], error=error)
    with pytest.raises(TrainingError, match=r"step 7: out of memory .* in 2 pieces\. .*--set machine\.pieces=4"):
        train(config(optim={"steps": 12}), world.clips, tmp_path, quiet=True)
    assert pieces == [1] * 7 + [2, 2]
    assert latest_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "step_0000005"


def test_out_of_memory_twice_in_one_step_ends(
    world: World, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory(monkeypatch, calls=[0, 1], error=torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(TrainingError, match=r"and again in 2\. .*machine\.pieces=4"):
        train(config(), world.clips, tmp_path, quiet=True)


def test_other_errors_are_not_taken_for_memory(
    world: World, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pieces = out_of_memory(monkeypatch, calls=[0], error=RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train(config(), world.clips, tmp_path, quiet=True)
    assert pieces == [1]


def test_a_gradient_that_is_not_finite_changes_no_weight(
    world: World, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, seen = stepping.accumulate_gradients, []

    def poisoned(network: Any, *args: Any, **settings: Any) -> Any:
        losses = original(network, *args, **settings)
        if len(seen) == 6:
            seen.append({name: value.clone() for name, value in network.model.trainable_state().items()})
            next(p for p in network.model.parameters() if p.grad is not None).grad.view(-1)[0] = float("nan")
            seen.append(network.model)
        elif len(seen) < 6:
            seen.append(None)
        return losses

    monkeypatch.setattr(stepping, "accumulate_gradients", poisoned)
    with pytest.raises(TrainingError, match=r"step 6: expected finite gradients, found norms .*no weight has changed"):
        train(config(), world.clips, tmp_path, quiet=True)
    before, model = seen[-2:]
    assert all(torch.equal(before[name], value) for name, value in model.trainable_state().items())
    assert latest_checkpoint(tmp_path / "checkpoints") == tmp_path / "checkpoints" / "step_0000005"


def test_a_full_disk_ends_the_run_and_leaves_the_older_checkpoint(
    world: World, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = config(optim={"steps": 12})
    reference = train(made, world.clips, tmp_path / "reference", quiet=True)
    with pytest.raises(Interrupted):
        train(made, world.clips, tmp_path / "run", quiet=True, stop_after=6)
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12 - 1000, 1000))
        with pytest.raises(CheckpointError, match=r"disk is full: .*step 10 needs .*Make room.*step_0000006 is still"):
            train(made, world.clips, tmp_path / "run", quiet=True)
    assert latest_checkpoint(tmp_path / "run" / "checkpoints") == tmp_path / "run" / "checkpoints" / "step_0000006"
    assert not list((tmp_path / "run" / "checkpoints").glob(".*.part"))
    encoder = train(made, world.clips, tmp_path / "run", quiet=True)
    assert (encoder / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def shards(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shards") / "set"
    write_shards(world.clips, folder)
    return folder


def test_a_shard_that_is_gone_is_named_before_anything_begins(shards: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(shards, tmp_path / "set")
    next(copy.glob("bells-*.tar")).unlink()
    with pytest.raises(ShardError, match=r"found: No such file.*fetch it again"):
        open_shards(copy, split="train")


def test_a_shard_that_goes_while_training_ends_the_run_by_name(
    world: World, config: Config, shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shutil.copytree(shards, tmp_path / "set")
    data = open_shards(copy, split="train")
    for path in copy.glob("bells-*.tar"):
        path.unlink()
    with pytest.raises(ShardError, match=r"bells-train-0+\.tar"):
        train(config(start={"clips": 0}, cache_mb=0.0), data, tmp_path / "run", quiet=True)


def test_a_damaged_member_ends_the_run_by_clip_and_after_repair_it_goes_on(
    world: World, config: Config, shards: Path, tmp_path: Path
) -> None:
    made = config(start={"clips": 0}, optim={"steps": 12})
    reference = train(made, open_shards(shards, split="train"), tmp_path / "reference", quiet=True)
    copy = shutil.copytree(shards, tmp_path / "set")
    data = open_shards(copy, split="train")
    clip = data.sources["talk"][2]
    with Path(clip.path).open("r+b") as file:
        file.seek(clip.offset_bytes)
        good = file.read(clip.num_bytes)
        file.seek(clip.offset_bytes)
        file.write(b"\0" * clip.num_bytes)
    with pytest.raises(Exception, match=rf"(?s){clip.id}.*talk-train-0+\.tar|talk-train-0+\.tar.*{clip.id}"):
        train(made, data, tmp_path / "run", quiet=True)
    with Path(clip.path).open("r+b") as file:
        file.seek(clip.offset_bytes)
        file.write(good)
    encoder = train(made, open_shards(copy, split="train"), tmp_path / "run", quiet=True)
    assert (encoder / "model.safetensors").read_bytes() == (reference / "model.safetensors").read_bytes()


def test_weights_that_cannot_be_had_offline_are_an_error_with_all_ways(
    world: World, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNIWHISPER_OFFLINE", "1")
    monkeypatch.setenv("UNIWHISPER_HOME", str(tmp_path / "home"))
    with pytest.raises(WeightsError, match="UNIWHISPER_OFFLINE=1"):
        train(config(encoder="whisper-large-v3"), world.clips, tmp_path / "run", quiet=True)


def test_a_decoder_without_pad_token_trains(world: World, config: Config, tmp_path: Path) -> None:
    lm = tiny_lm(tmp_path / "lm", chat=True, scale=0.3, pad=False)
    assert read_json(lm / "tokenizer_config.json").get("pad_token") is None
    made = config(decoder=str(lm), optim={"steps": 3, "align_steps": 1})
    assert (train(made, world.clips, tmp_path / "run", quiet=True) / "DONE").is_file()


class Judge:
    """A callback that scores by step, and fails where it is told to."""

    def __init__(self, *, failing: Sequence[int] = (), best: int = 4) -> None:
        self.failing = failing
        self.best = best
        self.steps: list[int] = []

    def __call__(self, audio: torch.nn.Module, step: int) -> dict[str, float]:
        self.steps.append(step)
        torch.manual_seed(99)  # whatever it does to random states
        torch.set_grad_enabled(False)
        for parameter in audio.parameters():
            parameter.zero_()
        if step in self.failing:
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), "test-clip.wav")
        return {"task": 0.5, "mean": 1.0 - abs(step - self.best) / 100}


def test_evaluation_is_logged_keeps_the_best_and_disturbs_nothing(world: World, config: Config, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"optim": {"steps": 12}, "ema_decay": 0.5}
    plain = train(config(**settings), world.clips, tmp_path / "plain", quiet=True)
    judge = Judge()
    made = config(**settings, evaluate_every=2, keep_checkpoints=1)
    judged = train(made, world.clips, tmp_path / "run", quiet=True, evaluate=judge)
    assert judge.steps == [2, 4, 6, 8, 10, 12]
    assert (judged / "model.safetensors").read_bytes() == (plain / "model.safetensors").read_bytes()
    assert [row["scores"]["task"] for row in read_evaluations(tmp_path / "run")] == [0.5] * 6
    kept = best_checkpoint(tmp_path / "run" / "checkpoints")
    assert kept is not None
    assert kept.name == "step_0000004"
    assert latest_checkpoint(tmp_path / "run" / "checkpoints") == tmp_path / "run" / "checkpoints" / "step_0000012"


def test_a_failing_evaluation_is_written_down_and_loses_nothing(world: World, config: Config, tmp_path: Path) -> None:
    made = config(optim={"steps": 6}, evaluate_every=3, keep_checkpoints=5)
    train(made, world.clips, tmp_path / "run", quiet=True, evaluate=Judge(failing=[3]))
    rows = read_evaluations(tmp_path / "run")
    assert [row["step"] for row in rows] == [3, 6]
    assert "test-clip.wav" in rows[0]["error"]
    assert rows[1]["scores"]["task"] == 0.5
    assert (tmp_path / "run" / "checkpoints" / "step_0000003" / "DONE").is_file()


def test_an_evaluation_that_a_kill_cut_off_is_made_up_for(world: World, config: Config, tmp_path: Path) -> None:
    made = config(optim={"steps": 6}, evaluate_every=3)

    def killed(audio: torch.nn.Module, step: int) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(made, world.clips, tmp_path / "run", quiet=True, evaluate=killed)
    judge = Judge()
    train(made, world.clips, tmp_path / "run", quiet=True, evaluate=judge)
    assert judge.steps == [3, 6]
