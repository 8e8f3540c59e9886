"""Tiny models, clips and tables on disk, a recipe among those of the package, and a caller of the command line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from click.testing import CliRunner, Result

from tiny import tiny_clips, tiny_lm, tiny_whisper, tone
from uniwhisper import recipes
from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.cli import app
from uniwhisper.manifest import write_manifest

Cli = Callable[..., Result]

RECIPE = '''"""A recipe for the tests."""

from uniwhisper.batches import BatchConfig
from uniwhisper.model.dims import AdapterConfig
from uniwhisper.train.config import TrainConfig
from uniwhisper.train.optim import OptimConfig
from uniwhisper.train.warm_start import StartConfig


def {name}() -> TrainConfig:
    """Three steps of two clips."""
    return TrainConfig(
        encoder={encoder!r},
        decoder={decoder!r},
        precision="fp32",
        adapter=AdapterConfig(hidden=16),
        batches=BatchConfig(tokens=110, window=16),
        optim=OptimConfig(steps=3, align_steps=1, warmup_steps=1),
        start=StartConfig(clips=4),
    )


def {name}_words() -> str:
    """Return something else than a configuration."""
    return "a configuration"
'''


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Return a function that runs `uniwhisper` with the arguments given."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="uniwhisper")

    return run


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folders of a random Whisper and a random language model."""
    folder = tmp_path_factory.mktemp("models")
    return {
        "whisper": tiny_whisper(folder / "whisper", width=32, heads=2, layers=1),
        "lm": tiny_lm(folder / "lm", layers=1),
    }


@pytest.fixture(scope="session")
def tiny_recipe(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Iterator[str]:
    """Put a recipe `tiny_run` among those of the package and return its name."""
    folder = tmp_path_factory.mktemp("recipes")
    name = "tiny_run"
    text = RECIPE.format(name=name, encoder=str(models["whisper"]), decoder=str(models["lm"]))
    (folder / f"{name}.py").write_text(text, encoding="utf-8")
    recipes.__path__.append(str(folder))
    yield name
    recipes.__path__.remove(str(folder))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a manifest of ten short clips of two sources."""
    folder = tmp_path_factory.mktemp("corpus")
    write_manifest(folder / "manifest.jsonl", tiny_clips(folder / "audio"))
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory, cli: Cli, tiny_recipe: str, corpus: Path) -> Path:
    """Return the folder of a finished run."""
    out = tmp_path_factory.mktemp("run") / "run"
    result = cli("train", tiny_recipe, "--data", corpus, "--out", out)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{out / 'encoder'}\n"
    return out


@pytest.fixture(scope="session")
def eval_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a table of low and high tones, half of them for training."""
    folder = tmp_path_factory.mktemp("eval")
    rows: list[dict[str, Any]] = []
    for number in range(24):
        label = ("low", "high")[number % 2]
        path = folder / f"{number}.wav"
        wave = tone(0.2, 200 if label == "low" else 2000, seed=number)
        soundfile.write(path, wave, SAMPLE_RATE, subtype="PCM_16")
        rows.append({"path": path.name, "label": label, "split": ("train", "test")[number // 12]})
    table = folder / "eval_tones.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return table


@pytest.fixture(scope="session")
def judged(tmp_path_factory: pytest.TempPathFactory, cli: Cli, models: dict[str, Path], eval_table: Path) -> Path:
    """Return the folder of the stock encoder's results."""
    out = tmp_path_factory.mktemp("results") / "stock"
    result = cli("evaluate", models["whisper"], "--table", eval_table, "--out", out, "--seeds", 1)
    assert result.exit_code == 0, result.output
    return out
