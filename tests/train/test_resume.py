"""A run that is stopped anywhere and started again ends with the same bits as one that was left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from uniwhisper.checkpoint import latest_checkpoint, read_state
from uniwhisper.errors import CheckpointError
from uniwhisper.files import read_json, write_json
from uniwhisper.manifest import write_manifest
from uniwhisper.train import loop
from uniwhisper.train import run as running
from uniwhisper.train import step as stepping
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.loop import Interrupted, train
from uniwhisper.train.metrics import read_metrics
from uniwhisper.train.run import Run

from .conftest import World

STEPS = 20
TIMES = (
    "seconds",
    "examples_per_s",
    "answer_tokens_per_s",
    "positions_per_s",
    "audio_s_per_s",
    "tflops_per_s",
    "mfu",
    "memory_mb",
    "data_wait_share",
)
# Over a window of the last clips that a process has seen, which a new process has not.
WINDOWS = ("embedding_rank", "mean_cosine", "warning")

CHILD = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(1)
from uniwhisper.files import read_json
from uniwhisper.manifest import read_manifest
from uniwhisper.train import loop
from uniwhisper.train import run as running
from uniwhisper.train import step as stepping
from uniwhisper.train.config import from_json

step = loop.train_step
def killed(run, group, **settings):
    if run.step == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run, group, **settings)
loop.train_step = killed
folder = Path(sys.argv[1])
config, clips = from_json(read_json(folder / "config.json")), read_manifest(folder / "manifest.jsonl")
loop.train(config, clips, folder / "out", quiet=True)
"""


@pytest.fixture(scope="module")
def config(world: World) -> TrainConfig:
    """Everything that a checkpoint has to carry: moments, an average, the start, a place within the data."""
    return world.config(
        optim={"steps": STEPS},
        accumulation=2,
        ema_decay=0.8,
        original_share=0.25,
        start={"calibration": "center"},
        finish={"calibration": "scale"},
    )


@pytest.fixture(scope="module")
def reference(world: World, config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run that nobody disturbed."""
    out = tmp_path_factory.mktemp("reference")
    train(config, world.clips, out, quiet=True)
    return out


def rows(out: Path) -> list[dict[str, Any]]:
    """Return the metrics without what the clock says."""
    return [
        {k: v for k, v in row.items() if k not in (*TIMES, *WINDOWS)} for row in read_metrics(out / "metrics.jsonl")
    ]


def assert_same_run(found: Path, expected: Path) -> None:
    weights = [(out / "encoder" / "model.safetensors").read_bytes() for out in (found, expected)]
    assert weights[0] == weights[1]
    assert [row["step"] for row in rows(found)] == list(range(STEPS))
    assert rows(found) == rows(expected)
    assert read_json(found / "encoder" / "config.json") == read_json(expected / "encoder" / "config.json")


def signalled(monkeypatch: pytest.MonkeyPatch, step: int, *numbers: int) -> None:
    """Make the process send itself signals during a step."""
    original = loop.train_step

    def wrapped(run: Run, group: Any, **settings: Any) -> dict[str, Any]:
        if run.step == step:
            for number in numbers:
                os.kill(os.getpid(), number)
        return original(run, group, **settings)

    monkeypatch.setattr(loop, "train_step", wrapped)


def test_the_same_run_twice_gives_the_same_bits(
    world: World, config: TrainConfig, reference: Path, tmp_path: Path
) -> None:
    train(config, world.clips, tmp_path, quiet=True)
    assert_same_run(tmp_path, reference)


@pytest.mark.slow
@pytest.mark.parametrize("step", [13])
def test_kill_9_and_resume(world: World, config: TrainConfig, reference: Path, tmp_path: Path, step: int) -> None:
    write_json(tmp_path / "config.json", config.to_json())
    write_manifest(tmp_path / "manifest.jsonl", world.clips)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(tmp_path), str(step)]
    child = subprocess.run(command, env=environment, capture_output=True, check=False, timeout=600)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()[-2000:]
    out = tmp_path / "out"
    newest = latest_checkpoint(out / "checkpoints")
    assert newest is not None
    assert newest.name == "step_0000010"
    assert [row["step"] for row in rows(out)] == list(range(13))  # three steps that have to be done again
    with (out / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"step": 13, "loss": 1.')  # half a line, as a full disk or a power cut leaves it
    train(config, world.clips, out, quiet=True)
    assert_same_run(out, reference)


@pytest.mark.parametrize("stops", [(1,), (7,), (3, 4, 19)])
def test_stop_and_resume(
    world: World, config: TrainConfig, reference: Path, tmp_path: Path, stops: tuple[int, ...]
) -> None:
    for stop in stops:
        with pytest.raises(Interrupted, match=f"stopped after step {stop};"):
            train(config, world.clips, tmp_path, quiet=True, stop_after=stop)
    train(config, world.clips, tmp_path, quiet=True)
    assert_same_run(tmp_path, reference)


def test_a_crash_before_the_first_checkpoint_starts_over(
    world: World, config: TrainConfig, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stepping, "clip_gradients", lambda *args: pytest.fail("as if the machine went down"))
        with pytest.raises(pytest.fail.Exception):
            train(config, world.clips, tmp_path, quiet=True)
    train(config, world.clips, tmp_path, quiet=True)
    assert_same_run(tmp_path, reference)


def test_a_crash_while_the_encoder_is_written_is_made_good(
    world: World, config: TrainConfig, reference: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save_audio_model", lambda *args: pytest.fail("as if the disk were full"))
        with pytest.raises(pytest.fail.Exception):
            train(config, world.clips, tmp_path, quiet=True)
    assert not (tmp_path / "DONE").exists()
    train(config, world.clips, tmp_path, quiet=True)
    assert_same_run(tmp_path, reference)


def test_a_damaged_newest_checkpoint_can_be_deleted(
    world: World, config: TrainConfig, reference: Path, tmp_path: Path
) -> None:
    with pytest.raises(Interrupted):
        train(config, world.clips, tmp_path, quiet=True, stop_after=8)
    newest = latest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    damaged = next(newest.glob("*.safetensors"))
    damaged.write_bytes(b"\0" * 64)
    with pytest.raises(CheckpointError, match=rf"{damaged.name}.*Remove .*step_0000008 to go on from step_0000005"):
        train(config, world.clips, tmp_path, quiet=True)
    for path in sorted(newest.iterdir()):
        path.unlink()
    newest.rmdir()
    train(config, world.clips, tmp_path, quiet=True)
    assert_same_run(tmp_path, reference)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_save_and_say_how_to_go_on(
    world: World,
    config: TrainConfig,
    reference: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: signal.Signals,
) -> None:
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        signalled(patch, 6, number)
        message = r"stopped after step 7; saved .*step_0000007\. Run the same command again to go on"
        with pytest.raises(Interrupted, match=message):
            train(config, world.clips, tmp_path, quiet=True)
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    train(config, world.clips, tmp_path, quiet=True)
    assert_same_run(tmp_path, reference)


def test_a_second_ctrl_c_stops_at_once(
    world: World, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signalled(monkeypatch, 2, signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(config, world.clips, tmp_path, quiet=True)
    assert latest_checkpoint(tmp_path / "checkpoints") is None


def test_a_checkpoint_holds_the_whole_state(world: World, config: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(config, world.clips, tmp_path, quiet=True, stop_after=6)
    newest = latest_checkpoint(tmp_path / "checkpoints")
    assert newest is not None
    document = read_json(newest / "state.json")
    made = read_state(newest, key=document["key"])["provenance"]
    assert made["corpora"]["talk"]["clips"] == sum(clip.source == "talk" for clip in world.clips)
    assert {"version", "torch", "config", "data", "clips_drawn", "mixture", "leakage"} <= made.keys()
    tensors = {name for path in newest.glob("*.safetensors") for name in load_file(path)}
    assert {name.partition(".")[0] for name in tensors} == {"model", "optim", "average", "original"}
    assert not any(name.startswith("model.decoder") for name in tensors)
    moments = {name.rpartition(".")[2] for name in tensors if name.startswith("optim.")}
    assert moments == {"step", "exp_avg", "exp_avg_sq"}


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_checkpoint_of_another_network_is_refused(
    world: World, config: TrainConfig, tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Interrupted):
        train(config, world.clips, tmp_path, quiet=True, stop_after=2)
    original: Callable[[Run], dict[str, Any]] = running.run_tensors

    def changed(run: Run) -> dict[str, Any]:
        tensors = original(run)
        value = tensors.pop("model.adapter.skip.weight")
        return tensors if change == "unknown" else tensors | {"model.adapter.skip.weight": value, "model.more": value}

    monkeypatch.setattr(running, "run_tensors", changed)
    with pytest.raises(CheckpointError, match=r"model\.(more|adapter\.skip\.weight)"):
        train(config, world.clips, tmp_path, quiet=True)
