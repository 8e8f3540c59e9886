"""The benchmark of the training step, run with toys: its rows run, and all of them compute the same loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import bench_train_step  # type: ignore[import-not-found]
import step_sides  # type: ignore[import-not-found]
from tiny import tiny_clips, tiny_lm, tiny_whisper
from uniwhisper.manifest import write_manifest
from uniwhisper.train.config import TrainConfig

NEEDS_A_GPU = "attention: torch's kernel for packs"
NEEDS_A_PACKAGE = ("8-bit AdamW (bitsandbytes)", "8-bit AdamW (torchao)", "8-bit AdamW, bf16 weights")


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the options that make a benchmark of seconds, without weights."""
    folder = tmp_path_factory.mktemp("toys")
    encoder = tiny_whisper(folder / "whisper", width=32, heads=2)
    decoder = tiny_lm(folder / "lm", chat=True)
    manifest = folder / "manifest.jsonl"
    write_manifest(manifest, tiny_clips(folder / "clips"))
    settings = [f"encoder={encoder}", f"decoder={decoder}", "batches.tokens=100", "batches.text_tokens=20"]
    settings += ["adapter.hidden=16", "cache_mb=1"]
    return ["--data", str(manifest), *(word for one in settings for word in ("--set", one)), "--cases", "1"]


def rows(text: str) -> dict[str, list[str]]:
    """Return the cells of the table's rows by their first cell."""
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return {cells[0]: cells[1:] for cells in found}


@pytest.mark.slow
def test_every_row_runs_and_has_the_same_loss(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["--precision", "fp32", "--repeats", "1", "--check-clips", "2", "--processes", "0", "--without", "compiled"]
    text = bench_train_step.main([*words, *quick])
    found = rows(text)
    assert "share of the bound reached" in capsys.readouterr().out
    expected = {name for name in bench_train_step.ROWS if name not in ("encoder layers compiled", "float32")}
    assert expected < found.keys()
    for name in expected - {NEEDS_A_GPU, *NEEDS_A_PACKAGE}:
        assert float(found[name][0]) > 0, name
        assert float(found[name][4]) < 1e-5, name
    assert found[NEEDS_A_GPU][0] == "not here: it needs an NVIDIA GPU"
    assert found["8-bit AdamW, bf16 weights"][0] == "not here: expected precision=bf16, found fp32"
    assert float(found[bench_train_step.PLAIN][4]) < 1e-4
    assert float(found[bench_train_step.STOCK][4]) > 1e-3, "the control: attention to padding is another loss"


def test_rows_are_changes_one_can_ask_for() -> None:
    options = bench_train_step._options([])
    for config in (TrainConfig(), TrainConfig(precision="fp32")):
        kept = bench_train_step.rows(options, config)
        same = [name for name, changes in kept.items() if not bench_train_step._changes(config, changes)]
        assert same == ["ours, again"]
    assert set(bench_train_step.ALONE) < set(bench_train_step.ROWS)


def test_sides_that_differ_stop_the_benchmark(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    true = step_sides.PlainModel.encode

    def unmasked(self: object, features: torch.Tensor, frames: list[int], *, masked: bool) -> torch.Tensor:
        return true(self, features, frames, masked=False)

    monkeypatch.setattr(step_sides.PlainModel, "encode", unmasked)
    config = bench_train_step._config(bench_train_step._options(words))
    with pytest.raises(SystemExit, match="the two sides differ in float32"):
        bench_train_step.check_equal(config, Path(words[1]), 2)


def test_weights_do_not_move(words: list[str]) -> None:
    options = bench_train_step._options([*words, "--precision", "fp32"])
    ours = step_sides.Ours(bench_train_step._config(options), options.data)
    before = {name: value.clone() for name, value in ours.model.trainable_state().items()}
    case = next(ours.cases(1))
    losses = [ours.step(ours.run, case) for _ in range(2)]
    assert losses[0] == losses[1]
    assert all(torch.equal(value, before[name]) for name, value in ours.model.trainable_state().items())
    assert case.examples == sum(len(batch.waves) for batch in case.samples)


def test_a_row_computes_under_its_own_settings(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    def noted(run: Any, group: list[Any]) -> dict[str, Any]:
        encoder, decoder = run.model.audio.encoder.execution, run.model.decoder.execution
        assert all(batch.mels and not batch.waves for batch in group)
        kind = next(iter(run.model.audio.encoder.layers[0].fc1.parameters())).dtype
        seen.append((encoder, decoder, run.config.parallel, run.pieces, len(group), type(run.optimizer), kind))
        return {"loss": 1.0, "num_answer_tokens": 1}

    monkeypatch.setattr(step_sides, "train_step", noted)
    options = bench_train_step._options([*words, "--without", "AdamW"])
    config = bench_train_step._config(options)
    ours = step_sides.Ours(config, options.data)
    case = next(ours.cases(1))
    for name, changes in bench_train_step.rows(options, config).items():
        seen.clear()
        wanted = step_sides.with_settings(config, changes)
        bench_train_step._Variant(ours, changes)(case)
        execution, size = wanted.execution, wanted.accumulation
        expected = (execution, execution, wanted.parallel, wanted.machine.pieces, size, torch.optim.AdamW)
        assert seen == [(*expected, torch.float32)] * (step_sides.BATCHES // size), name


def test_what_cannot_run_is_a_row_and_what_must_run_an_error() -> None:
    def full(case: object) -> float:
        raise RuntimeError("no such kernel | here\nand more")

    side = step_sides.Side(step=full, must_run=False)
    side(object())
    assert side.refusal == "no such kernel / here"
    with pytest.raises(RuntimeError, match="no such kernel"):
        step_sides.Side(step=full)(object())


def test_a_process_of_its_own_tells_time_and_memory(words: list[str]) -> None:
    for side in ("ours", "plain"):
        options = bench_train_step._options([*words, "--alone", side, "--keep-freed", "no"])
        found = bench_train_step.time_alone(options)
        assert found["refusal"] == ""
        assert found["seconds"][0] > 0
        assert found["peak_mb"] > 100
