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
from uniwhisper.manifest import read_manifest
from uniwhisper.recipes import list_recipes
from uniwhisper.train import loop

from .conftest import RECIPE, Cli

TABLE = Path(__file__).parents[1] / "fixtures" / "table" / "root" / "clips.csv"


def test_the_options_are_these_and_no_others() -> None:
    options = sorted(option for parameter in command.params for option in parameter.opts)
    assert options == [
        "--data",
        "--device",
        "--dry-run",
        "--evaluate-corpora",
        "--evaluate-every",
        "--evaluate-table",
        "--evaluate-task",
        "--out",
        "--profile",
        "--seed",
        "--set",
        "--stop-after",
        "--wandb",
        "recipe",
    ]


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
        raise loop.Interrupted("stopped after step 1", by_user=True)

    monkeypatch.setattr(loop, "train", interrupted)
    result = cli("train", tiny_recipe, "--data", corpus, "--out", tmp_path, "--stop-after", 2)
    assert (result.exit_code, result.stdout, result.stderr) == (INTERRUPTED, "", "stopped after step 1\n")


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, INTERRUPTED), (signal.SIGTERM, 0)])
def test_signals_save_in_a_real_process(
    models: dict[str, Path], corpus: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    command = [sys.executable, "-m", "uniwhisper", *long_run(models, corpus, tmp_path)]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for_steps(process, tmp_path)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stdout) == (code, ""), stderr
    assert "Run the same command again to go on" in stderr
    assert "Traceback" not in stderr
    assert list((tmp_path / "run" / "checkpoints").glob("step_*/DONE"))


def long_run(models: dict[str, Path], corpus: Path, folder: Path) -> list[str]:
    """Write a recipe that nobody waits for, and return the arguments that start it in `folder`."""
    text = RECIPE.format(name="long_run", encoder=str(models["whisper"]), decoder=str(models["lm"]))
    (folder / "my_recipes.py").write_text(text.replace("steps=3", "steps=100_000"), encoding="utf-8")
    return ["train", "my_recipes:long_run", "--data", str(corpus), "--out", "run", "--set", "accumulation=2"]


def wait_for_steps(process: subprocess.Popen[str], folder: Path) -> None:
    metrics = folder / "run" / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_size):
        time.sleep(0.05)


@pytest.mark.slow
def test_two_ranks_by_torchrun_stop_and_go_on_as_one(models: dict[str, Path], corpus: Path, tmp_path: Path) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = long_run(models, corpus, tmp_path)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*torchrun, "-m", "uniwhisper", *arguments],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_for_steps(process, tmp_path)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=300)
    assert stderr.count("Run the same command again to go on") == 1, stderr
    saved = sorted((tmp_path / "run" / "checkpoints").glob("step_*/DONE"))
    assert saved
    stopped = int(saved[-1].parent.name.removeprefix("step_"))
    alone = [sys.executable, "-m", "uniwhisper", *arguments, "--stop-after", str(stopped + 2)]
    ended = subprocess.run(alone, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = list(read_jsonl(tmp_path / "run" / "metrics.jsonl"))
    assert [row["step"] for row in rows] == list(range(stopped + 2))
    assert all("rank_imbalance" in row for row in rows[:stopped])
    assert not any("rank_imbalance" in row for row in rows[stopped:])


def test_judging_while_training(cli: Cli, tiny_recipe: str, corpus: Path, tmp_path: Path) -> None:
    judging = ("--evaluate-table", corpus.parent / "eval_bells.csv", "--evaluate-every", 2)
    clips = [clip for clip in read_manifest(corpus / "manifest.jsonl") if clip.source == "bells"]
    rows = [f"{clip.path},{clip.annotation.labels[0]},fold{n % 2 + 1}" for n, clip in enumerate(clips)]
    judging[1].write_text("\n".join(["path,label,split", *rows]) + "\n", encoding="utf-8")  # type: ignore[union-attr]
    result = cli("train", tiny_recipe, "--data", corpus, "--out", tmp_path / "run", *judging)
    assert result.exit_code == 0, result.output
    found = list(read_jsonl(tmp_path / "run" / "evaluations.jsonl"))
    assert [row["step"] for row in found] == [2]
    assert found[0]["scores"].keys() == {"bells", "mean"}, found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected --data and --out"),
        (("--data", "x", "--out", "y", "--evaluate-every", "5"), "expected an --evaluate-table or --evaluate-task"),
        (("--data", "x", "--out", "y", "--evaluate-table", "t.csv"), "expected --evaluate-every STEPS"),
        (("--data", "x", "--out", "y", "--evaluate-task", "esc50"), "go together"),
    ],
)
def test_options_that_do_not_fit(cli: Cli, tiny_recipe: str, options: tuple[str, ...], message: str) -> None:
    result = cli("train", tiny_recipe, *options)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())


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
