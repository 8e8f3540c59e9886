from __future__ import annotations

import os
from pathlib import Path

import pytest

from uniwhisper.evaluate.results import read_results

from .conftest import Cli

FIXTURES = Path(__file__).parents[1] / "fixtures"


def test_scores_are_written(judged: Path, models: dict[str, Path]) -> None:
    results = read_results(judged)
    assert results.encoder.name == str(models["whisper"])
    assert [task.name for task in results.tasks] == ["tones"]
    assert results.tasks[0].num_test_clips == 12
    assert len(results.tasks[0].probe.per_seed) == 1


def test_differences_to_a_baseline(cli: Cli, judged: Path, trained: Path, eval_table: Path, tmp_path: Path) -> None:
    options = ("--seeds", 1, "--baseline", judged / "results.json", "--table-domain", "tones=sound")
    result = cli("evaluate", trained, "--table", eval_table, "--out", tmp_path, *options)
    assert result.exit_code == 0, result.output
    assert "delta kNN" in result.stdout
    assert result.stdout.endswith(f"{tmp_path / 'results.json'}\n")
    assert read_results(tmp_path).tasks[0].domain == "sound"


def test_a_failed_task_sets_the_exit_code(cli: Cli, models: dict[str, Path], eval_table: Path, tmp_path: Path) -> None:
    missing = tmp_path / "eval_none.csv"
    options = ("--table", missing, "--table", eval_table, "--out", tmp_path / "out", "--seeds", 1)
    result = cli("evaluate", models["whisper"], *options)
    assert result.exit_code == 1
    assert f"failed: none: expected a CSV table at {missing}" in result.stdout
    assert result.stderr.endswith("Error: 1 of 2 tasks failed: none\n")
    assert [task.name for task in read_results(tmp_path / "out").tasks] == ["tones"]


def test_a_wrong_baseline_costs_no_evaluation(
    cli: Cli, models: dict[str, Path], eval_table: Path, tmp_path: Path
) -> None:
    options = ("--table", eval_table, "--out", tmp_path / "out", "--baseline", tmp_path / "none.json")
    result = cli("evaluate", models["whisper"], *options)
    assert result.exit_code == 1
    expected = f"expected a JSON file at {tmp_path / 'none.json'}, found nothing there"
    assert result.stderr == f"Error: cannot read results: {expected}\n"
    assert not (tmp_path / "out").exists()


def test_domain_without_a_task(cli: Cli, models: dict[str, Path], eval_table: Path, tmp_path: Path) -> None:
    result = cli("evaluate", models["whisper"], "--table", eval_table, "--out", tmp_path, "--table-domain", "sound")
    assert result.exit_code == 2
    assert "--table-domain: expected TASK=VALUE such as esc50=sound, found 'sound'." in result.stderr


@pytest.mark.parametrize("protocol", ["strict", "xares"])
def test_a_mock_run_walks_through_every_kind_of_task(cli: Cli, models: dict[str, Path], protocol: str) -> None:
    home = Path(os.environ["UNIWHISPER_HOME"])
    before = {path for path in home.rglob("*") if path.is_file()}
    result = cli("evaluate", models["whisper"], "--mock", "--seeds", 1, "--protocol", protocol)
    assert result.exit_code == 0, result.output
    for name in ("mock_folds", "mock_tags", "mock_events", "mock_words"):
        assert f"\n{name} " in result.stdout
    assert "results.json" not in result.stdout
    assert {path for path in home.rglob("*") if path.is_file()} == before, "a mock run must leave nothing behind"


def test_fields_of_the_probe_can_be_set_and_are_recorded(
    cli: Cli, models: dict[str, Path], eval_table: Path, tmp_path: Path
) -> None:
    changes = ("--set", "probe.hidden_layers=1", "--set", "probe.hidden_size=16", "--set", "knn.k=3")
    result = cli("evaluate", models["whisper"], "--table", eval_table, "--out", tmp_path, "--seeds", 2, *changes)
    assert result.exit_code == 0, result.output
    protocol = read_results(tmp_path).protocol
    assert (protocol["probe"]["hidden_layers"], protocol["probe"]["hidden_size"], protocol["knn"]["k"]) == (1, 16, 3)
    assert protocol["probe"]["seeds"] == 2


def test_the_declared_tasks_are_listed(cli: Cli) -> None:
    result = cli("evaluate", "--list")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["task", "domain", "kind", "metric", "classes", "weight", "corpus"]
    assert any(line.split() == ["esc50", "sound", "clip", "accuracy", "50", "400", "esc50"] for line in lines)


def test_absent_corpora_are_listed_and_the_others_judged(cli: Cli, models: dict[str, Path], tmp_path: Path) -> None:
    corpora = tmp_path / "corpora"
    corpora.mkdir()
    (corpora / "gtzan").symlink_to(FIXTURES / "gtzan" / "xares")
    options = ("--corpora", corpora, "--tasks", "gtzan,librispeech_mf", "--out", tmp_path / "out", "--seeds", 1)
    result = cli("evaluate", models["whisper"], *options, "--protocol", "xares")
    assert result.exit_code == 0, result.output
    assert "not tried: librispeech_mf" in result.stdout
    assert "librispeech: librispeech/ from https://" in result.stdout
    results = read_results(tmp_path / "out")
    assert [task.name for task in results.tasks] == ["gtzan"]
    assert [one.task for one in results.absent] == ["librispeech_mf"]
    assert str(tmp_path) not in (tmp_path / "out" / "results.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "expected --out FOLDER"),
        (("--out", "x"), "expected --corpora FOLDER, --table CSV or --mock"),
        (("--out", "x", "--table", "a.csv", "--tasks", "esc50"), "choose among the tasks of --corpora"),
        (("--out", "x", "--corpora", ".", "--tasks", "esc"), "did you mean esc50?"),
        (("--out", "x", "--corpora", ".", "--tasks", "gtzan"), "none of the 1 tasks' corpora is in ."),
        (("--mock", "--set", "probe.hidden_layers=1", "--protocol", "xares"), "no field 'hidden_layers'"),
        (("--out", "x", "--table", "a.csv", "--leakage", "none"), "expected a finished folder of `uniwhisper leakage`"),
        (("--mock", "--device", "abacus"), "expected a device that torch can use, found 'abacus'"),
        (("--mock", "--set", "hidden_layers=1"), "expected knn., probe. or asr. and a field"),
    ],
)
def test_what_cannot_be_judged_is_said(
    cli: Cli, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = cli("evaluate", models["whisper"], *options)
    assert result.exit_code != 0
    assert message in result.stderr


def test_an_encoder_is_needed(cli: Cli) -> None:
    result = cli("evaluate", "--mock")
    assert result.exit_code == 2
    assert "expected the name of an encoder" in result.stderr
