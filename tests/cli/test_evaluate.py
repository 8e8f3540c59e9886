from __future__ import annotations

from pathlib import Path

from uniwhisper.evaluate.results import read_results

from .conftest import Cli


def test_scores_are_written(judged: Path, models: dict[str, Path]) -> None:
    results = read_results(judged)
    assert results.encoder.name == str(models["whisper"])
    assert [task.name for task in results.tasks] == ["tones"]
    assert results.tasks[0].num_test_clips == 12
    assert len(results.tasks[0].probe.per_seed) == 1


def test_differences_to_a_baseline(cli: Cli, judged: Path, trained: Path, eval_table: Path, tmp_path: Path) -> None:
    options = ("--seeds", 1, "--baseline", judged / "results.json", "--domain", "tones=sound")
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
    assert result.stderr.endswith("Error: 1 of 2 tasks failed; the table says why\n")
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
    result = cli("evaluate", models["whisper"], "--table", eval_table, "--out", tmp_path, "--domain", "sound")
    assert result.exit_code == 2
    assert "--domain: expected TASK=DOMAIN such as esc50=sound, found 'sound'." in result.stderr
