from __future__ import annotations

import json
from pathlib import Path

import pytest

from uniwhisper.errors import ReportError
from uniwhisper.report.training import Training, read_training, training_charts

from .inputs import make_training


def read(folder: Path) -> Training:
    training = read_training(folder)
    assert training is not None
    return training


def test_charts_of_a_long_run_are_averaged_and_say_so(tmp_path: Path) -> None:
    training = read(make_training(tmp_path, num_steps=1000))
    charts = {chart.id: (chart, caption) for chart, caption in training_charts(training)}
    assert set(charts) == {"chart-loss", "chart-sources", "chart-rate"}
    chart, caption = charts["chart-loss"]
    assert len(chart.x) == 200
    assert "means of 5 steps" in caption
    first = training.scalars["loss"][:5]
    assert chart.lines[0].y[0] == pytest.approx(sum(v for v in first if v is not None) / 5)
    assert [line.name for line in charts["chart-sources"][0].lines] == ["alpha", "beta"]


def test_learning_rates_far_apart_get_a_logarithmic_axis(tmp_path: Path) -> None:
    rows = [{"step": i, "lr_encoder": 1e-6, "lr_adapter": 1e-3} for i in range(3)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    ((chart, caption),) = training_charts(read(tmp_path))
    assert chart.is_log
    assert "logarithmic" in caption


def test_a_repeated_step_and_half_a_last_line(tmp_path: Path) -> None:
    text = '{"step": 1, "loss": 5}\n{"step": 0, "loss": NaN}\n{"step": 1, "loss": 3}\n{"step": 2, "lo'
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    training = read(tmp_path)
    assert training.steps == (0, 1)
    assert training.scalars["loss"] == (None, 3.0)
    assert training.num_not_finite == 1


@pytest.mark.parametrize(
    "text", ["", "{\n", "[1]\n", '{"loss": 1}\n', '{"step": "1"}\n', '{"step": 1, "loss_by_source": [1]}\n']
)
def test_metrics_that_cannot_be_read_are_a_report_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(ReportError, match=r"metrics\.jsonl"):
        read_training(tmp_path)


def test_no_metrics_is_none(tmp_path: Path) -> None:
    assert read_training(tmp_path) is None
