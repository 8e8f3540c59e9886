from __future__ import annotations

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from uniwhisper.errors import TrainingError
from uniwhisper.train.metrics import (
    ExampleLoss,
    MetricsLog,
    RankStep,
    SilentLog,
    peak_memory_mb,
    read_metrics,
    step_figures,
    summarise,
)

RECORDS = (
    ExampleLoss("bells", "tagging", "sound", 2.0, 1),
    ExampleLoss("talk", "asr", "speech", 1.0, 6),
    ExampleLoss("bells", "captioning", "sound", 0.5, 3),
    ExampleLoss("talk", "tagging", "speech", 3.0, 2),
)


def rank(examples: tuple[ExampleLoss, ...], **changes: Any) -> RankStep:
    values = {"audio_s": 4.0, "num_positions": 100, "flops": 6e12, "waited_s": 0.5, "memory_mb": 700.0}
    return RankStep(examples=examples, **(values | changes))


def row(step: int, **changes: Any) -> dict[str, Any]:
    values = {"step": step, "loss": 2.0 - step / 10, "num_examples": 270, "audio_s": 810.0, "seconds": 90.0}
    return values | {"loss_by_source": {"bells": 1.5}} | changes


def test_losses_are_weighted_by_answer_tokens() -> None:
    figures = summarise(RECORDS)
    assert figures["loss"] == pytest.approx((2 * 1 + 1 * 6 + 0.5 * 3 + 3 * 2) / 12)
    assert (figures["num_examples"], figures["num_answer_tokens"]) == (4, 12)
    assert figures["loss_by_source"] == {"bells": pytest.approx(3.5 / 4), "talk": pytest.approx(12 / 8)}
    assert figures["loss_by_family"] == {
        "asr": pytest.approx(1.0),
        "captioning": pytest.approx(0.5),
        "tagging": pytest.approx(8 / 3),
    }
    assert figures["answer_share_by_domain"] == {"sound": pytest.approx(4 / 12), "speech": pytest.approx(8 / 12)}
    assert sum(figures["answer_share_by_domain"].values()) == pytest.approx(1)


def test_losses_of_parts_add_up_to_the_loss() -> None:
    figures = summarise(RECORDS)
    tokens = {"bells": 4, "talk": 8}
    assert sum(figures["loss_by_source"][name] * count for name, count in tokens.items()) / 12 == pytest.approx(
        figures["loss"], rel=1e-15
    )


def test_no_order_of_the_ranks_changes_a_bit() -> None:
    rng = random.Random(0)
    records = [
        ExampleLoss(rng.choice("abc"), rng.choice("xy"), "sound", rng.random() * 9, rng.randrange(1, 60))
        for _ in range(500)
    ]
    first = summarise(records)
    for _ in range(5):
        rng.shuffle(records)
        assert summarise(records) == first


def test_examples_without_an_answer_and_no_examples() -> None:
    silent = ExampleLoss("talk", "asr", "speech", math.nan, 0)
    figures = summarise([*RECORDS, silent])
    assert figures["loss"] == summarise(RECORDS)["loss"]
    assert figures["num_examples"] == 5
    assert math.isnan(summarise([])["loss"])
    assert summarise([])["answer_share_by_domain"] == {}


def test_step_figures_are_those_of_all_ranks() -> None:
    ranks = [rank(RECORDS[:2]), rank(RECORDS[2:], audio_s=2.0, flops=2e12, waited_s=0.1, memory_mb=900.0)]
    figures = step_figures(ranks, seconds=2.0, peak_flops=10e12)
    assert {name: figures[name] for name in summarise(RECORDS)} == summarise(RECORDS)
    assert figures["audio_s"] == 6.0
    assert figures["audio_s_per_s"] == 3.0
    assert figures["examples_per_s"] == 2.0
    assert figures["answer_tokens_per_s"] == 6.0
    assert figures["positions_per_s"] == 100.0
    assert figures["tflops_per_s"] == 4.0
    assert figures["mfu"] == pytest.approx(8 / 2 / (2 * 10))  # of the peak of both devices
    assert figures["rank_imbalance"] == pytest.approx(1 - 4 / 6)
    assert figures["memory_mb"] == 900.0
    assert figures["data_wait_share"] == 0.25


def test_what_nobody_counted_is_left_out() -> None:
    alone = step_figures([rank(RECORDS)], seconds=1.0)
    assert "tflops_per_s" in alone
    assert not {"mfu", "rank_imbalance"} & alone.keys()
    uncounted = step_figures([rank(RECORDS, flops=0.0)] * 2, seconds=1.0, peak_flops=1e12)
    assert not {"tflops_per_s", "mfu", "rank_imbalance"} & uncounted.keys()


def test_peak_memory_is_that_of_this_process() -> None:
    before = peak_memory_mb(torch.device("cpu"))
    values = torch.ones(25_000_000)
    after = peak_memory_mb(torch.device("cpu"))
    assert 100 < before < 50_000
    assert after >= before
    assert after >= values.nbytes / 1e6


def test_peak_memory_of_a_gpu_is_what_torch_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 3_000_000 if device.index == 1 else 0)
    assert peak_memory_mb(torch.device("cuda:1")) == 3.0


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    with MetricsLog(tmp_path, total_steps=3, start=0, quiet=True) as log:
        log.write(row(0))
        assert read_metrics(tmp_path / "metrics.jsonl") == [row(0)]  # readable while the run goes on
        log.write(row(1))
        log.sync()
    assert read_metrics(tmp_path / "metrics.jsonl") == [row(0), row(1)]
    assert list((tmp_path / "tensorboard").iterdir())


@pytest.mark.parametrize("torn", ["", '{"step": 5, "lo', '{"step": 5, "loss": 1.0}'])
def test_resuming_removes_what_comes_again(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps(row(step)) + "\n" for step in range(5)) + torn, encoding="utf-8")
    with MetricsLog(tmp_path, total_steps=9, start=3, quiet=True) as log:
        log.write(row(3, loss=7.0))
    assert [(r["step"], r["loss"]) for r in read_metrics(path)] == [(0, 2.0), (1, 1.9), (2, 1.8), (3, 7.0)]


def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0}\n{"st\n{"step": 2}\n', encoding="utf-8")
    with pytest.raises(TrainingError, match=r"metrics\.jsonl:2, found .*Remove the line"):
        MetricsLog(tmp_path, total_steps=9, start=3, quiet=True)


def test_every_line_is_strict_json(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    odd = row(0, grad_norm=math.inf, loss_by_source={"bells": math.nan, "talk": 1.0})
    with MetricsLog(tmp_path, total_steps=3, start=0, quiet=True) as log:
        log.write(odd)
    (line,) = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    found = json.loads(line, parse_constant=refuse)
    assert found["grad_norm"] is None
    assert found["loss_by_source"] == {"bells": None, "talk": 1.0}
    assert found["not_finite"] == ["loss_by_source/bells", "grad_norm"]


def test_a_warning_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MetricsLog(tmp_path, total_steps=9, start=0) as log:
        for step in range(4):
            log.write(row(step, warning=f"embeddings collapse: rank {1 + step / 10}"))
        log.write(row(4, warning="disk is nearly full"))
    shown = capsys.readouterr().err
    assert shown.count("warning: embeddings collapse") == 1
    assert "after step 1: warning: embeddings collapse: rank 1.0" in shown
    assert "after step 5: warning: disk is nearly full" in shown
    assert read_metrics(tmp_path / "metrics.jsonl")[3]["warning"] == "embeddings collapse: rank 1.3"


def test_notes_are_told_unless_quiet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MetricsLog(tmp_path, total_steps=9, start=0) as log:
        log.note("going on with [half] the budget")
    assert "going on with [half] the budget\n" in capsys.readouterr().err
    with MetricsLog(tmp_path, total_steps=9, start=0, quiet=True) as log:
        log.note("going on")
        log.write(row(0))
    assert capsys.readouterr().err == ""


def test_silence_has_every_method_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    methods = {name for name in vars(MetricsLog) if not name.startswith("_")}
    assert methods == {name for name in vars(SilentLog) if not name.startswith("_")}
    with SilentLog() as log:
        log.write({"step": 0})
        log.write_scores(1, {"esc50": 0.5})
        log.note("nothing")
        log.sync()
    assert not list(tmp_path.iterdir())
    assert capsys.readouterr().err == ""


def test_everything_is_closed_after_an_error(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path, total_steps=9, start=0, quiet=True)
    with pytest.raises(KeyError), log:
        raise KeyError
    with pytest.raises(ValueError, match="closed"):
        log.write(row(0))


def test_scores_are_drawn(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path, total_steps=2, start=0, quiet=True) as log:
        log.write_scores(500, {"esc50": 0.5, "mean": 0.25})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("evaluation/esc50")] == [(500, 0.5)]
    assert not (tmp_path / "metrics.jsonl").read_text(encoding="utf-8")


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path, total_steps=2, start=0, quiet=True) as log:
        log.write(row(0, grad_norm=math.inf, warning="odd"))
        log.write(row(1, grad_norm=2.0))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    names = {"loss", "num_examples", "audio_s", "seconds", "loss_by_source/bells", "grad_norm"}
    assert set(events.Tags()["scalars"]) == names
    assert [(event.step, pytest.approx(event.value)) for event in events.Scalars("loss")] == [(0, 2.0), (1, 1.9)]
    assert [event.step for event in events.Scalars("grad_norm")] == [1]


def test_peak_memory_units_on_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    linux = peak_memory_mb(torch.device("cpu"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert peak_memory_mb(torch.device("cpu")) == pytest.approx(linux / 1024, rel=0.2)
