from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from uniwhisper.train.metrics import MetricsLog, mean_by, read_metrics


def row(step: int, **changes: Any) -> dict[str, Any]:
    values = {"step": step, "loss": 2.0 - step / 10, "examples_per_s": 3.0, "audio_s_per_s": 9.0, "seconds": 90.0}
    return values | {"loss_by_source": {"bells": 1.5}} | changes


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
    with pytest.raises(json.JSONDecodeError):
        MetricsLog(tmp_path, total_steps=9, start=3, quiet=True)


def test_tensorboard_gets_every_number(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with MetricsLog(tmp_path, total_steps=2, start=0, quiet=True) as log:
        log.write(row(0))
        log.write(row(1))
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {
        "loss",
        "examples_per_s",
        "audio_s_per_s",
        "seconds",
        "loss_by_source/bells",
    }
    assert [(event.step, pytest.approx(event.value)) for event in events.Scalars("loss")] == [(0, 2.0), (1, 1.9)]


def test_progress_says_loss_and_speed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with MetricsLog(tmp_path, total_steps=2, start=0) as log:
        log.write(row(0))
        log.write(row(1))
    shown = capsys.readouterr()
    assert shown.out == ""
    for part in ("2/2", "loss 1.995", "3.0 examples/s", "9 audio-s/s", "step 1/2", "about 2 min left"):
        assert part in shown.err


def test_mean_by_groups_and_sorts() -> None:
    assert list(mean_by(["b", "a", "b"], [1.0, 5.0, 2.0]).items()) == [("a", 5.0), ("b", 1.5)]
