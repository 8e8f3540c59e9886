from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from uniwhisper.cli import INTERRUPTED
from uniwhisper.cli.train import command
from uniwhisper.files import read_json, read_jsonl
from uniwhisper.recipes import list_recipes
from uniwhisper.train import loop

from .conftest import RECIPE, Cli

TABLE = Path(__file__).parents[1] / "fixtures" / "table" / "root" / "clips.csv"


def test_the_options_are_these_and_no_others() -> None:
    options = sorted(option for parameter in command.params for option in parameter.opts)
    assert options == ["--data", "--dry-run", "--out", "--seed", "--set", "--stop-after", "recipe"]


def test_finished_run(trained: Path, cli: Cli, tiny_recipe: str, corpus: Path) -> None:
    assert (trained / "encoder" / "DONE").is_file()
    assert len(list(read_jsonl(trained / "metrics.jsonl"))) == 3
    before = (trained / "config.json").stat().st_mtime_ns
    again = cli("train", tiny_recipe, "--data", corpus / "manifest.jsonl", "--out", trained)
    assert again.exit_code == 0
    assert again.stdout == f"{trained / 'encoder'}\n"
    assert (trained / "config.json").stat().st_mtime_ns == before


def test_set_and_seed_reach_the_run(cli: Cli, tiny_recipe: str, corpus: Path, tmp_path: Path) -> None:
    options = ("--set", "optim.steps=1", "--set", "optim.encoder_lr=3e-5", "--seed", 7)
    result = cli("train", tiny_recipe, "--data", corpus, "--out", tmp_path / "run", *options)
    assert result.exit_code == 0, result.output
    config = read_json(tmp_path / "run" / "config.json")["config"]
    assert (config["optim"]["steps"], config["optim"]["encoder_lr"], config["seed"]) == (1, 3e-5, 7)


def test_planned_stop_and_going_on(cli: Cli, tiny_recipe: str, corpus: Path, trained: Path, tmp_path: Path) -> None:
    arguments = ("train", tiny_recipe, "--data", corpus, "--out", tmp_path / "run")
    stopped = cli(*arguments, "--stop-after", 2)
    assert stopped.exit_code == 0
    assert stopped.stdout == ""
    saved = tmp_path / "run" / "checkpoints" / "step_0000002"
    assert stopped.stderr.endswith(f"stopped after step 2; saved {saved}. Run the same command again to go on\n")
    assert not (tmp_path / "run" / "encoder").exists()
    assert cli(*arguments).exit_code == 0
    weights = [run / "encoder" / "model.safetensors" for run in (trained, tmp_path / "run")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def test_ctrl_c_has_its_own_exit_code(
    cli: Cli, tiny_recipe: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object, **options: object) -> None:
        raise loop.Interrupted("stopped after step 1")

    monkeypatch.setattr(loop, "train", interrupted)
    result = cli("train", tiny_recipe, "--data", corpus, "--out", tmp_path, "--stop-after", 2)
    assert (result.exit_code, result.stdout, result.stderr) == (INTERRUPTED, "", "stopped after step 1\n")


@pytest.mark.slow
def test_ctrl_c_saves_in_a_real_process(models: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    text = RECIPE.format(name="long_run", encoder=str(models["whisper"]), decoder=str(models["lm"]))
    (tmp_path / "my_recipes.py").write_text(text.replace("steps=3", "steps=100_000"), encoding="utf-8")
    arguments = ["train", "my_recipes:long_run", "--data", str(corpus), "--out", "run"]
    command = [sys.executable, "-m", "uniwhisper", *arguments]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stdout) == (INTERRUPTED, ""), stderr
    assert "Run the same command again to go on" in stderr
    assert "Traceback" not in stderr
    assert list((tmp_path / "run" / "checkpoints").glob("step_*/DONE"))


def test_dry_run_shows_and_writes_nothing(cli: Cli, tiny_recipe: str, corpus: Path, tmp_path: Path) -> None:
    options = ("--data", corpus, "--data", TABLE, "--out", tmp_path / "run", "--set", "batches.weights.prompts=0")
    result = cli("train", tiny_recipe, *options, "--dry-run")
    assert result.exit_code == 0, result.output
    config, _, rest = result.stdout.partition("\n}\n")
    assert json.loads(config + "}")["batches"]["weights"] == {"prompts": 0.0}
    lines = {line.split()[0]: line.split()[-6:-2] for line in rest.splitlines() if "of the mixture" in line}
    assert lines == {
        "bells": ["60.0%", "of", "the", "mixture"],
        "prompts": ["0.0%", "of", "the", "mixture"],
        "talk": ["40.0%", "of", "the", "mixture"],
    }
    assert not (tmp_path / "run").exists()


def test_own_recipe_is_found_from_its_folder(
    cli: Cli, models: dict[str, Path], corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"""
from uniwhisper.train.config import TrainConfig

def small() -> TrainConfig:
    return TrainConfig(encoder={str(models["whisper"])!r}, decoder="smollm2-135m")
"""
    (tmp_path / "my_recipes.py").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(os.fspath(tmp_path / "elsewhere"))  # restores sys.path, which the verb extends
    result = cli("train", "my_recipes:small", "--data", corpus, "--out", "run", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "decoder smollm2-135m: would be fetched" in result.stdout


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        ("tiny_ran", (), "expected a recipe out of {recipes}, or module.path:function; found 'tiny_ran'"),
        ("tiny_run", ("--set", "optim.steps=many"), "--set optim.steps: expected int, found 'many'"),
        (
            "tiny_run",
            ("--data", "clips.txt"),
            "--data: expected a manifest.jsonl, a folder that holds one, or a table (.csv, .jsonl, .parquet); found "
            "nothing at clips.txt. `uniwhisper convert` makes such a folder",
        ),
        (
            "uniwhisper.recipes.tiny_run:tiny_run_words",
            (),
            "recipe 'uniwhisper.recipes.tiny_run:tiny_run_words': expected it to return a TrainConfig, found str",
        ),
    ],
)
def test_bad_input(
    cli: Cli,
    tiny_recipe: str,
    corpus: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    recipe: str,
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.syspath_prepend(os.fspath(tmp_path / "elsewhere"))
    result = cli("train", recipe, "--data", corpus, "--out", tmp_path / "run", *options)
    assert result.exit_code == 1
    assert result.stderr == f"Error: {message.format(recipes=', '.join(list_recipes()))}\n"
    assert not (tmp_path / "run").exists()


def test_the_same_data_twice(cli: Cli, tiny_recipe: str, corpus: Path, tmp_path: Path) -> None:
    result = cli("train", tiny_recipe, "--data", corpus, "--data", corpus, "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: --data: expected ids to be unique within source 'bells', found 'bells-0'")
