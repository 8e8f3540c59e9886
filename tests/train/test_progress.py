from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from uniwhisper.train import progress
from uniwhisper.train.progress import LINE_EVERY_S, ProgressLine, time_text


class Clock:
    """A clock that stands where it is put."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def row(step: int, **changes: Any) -> dict[str, Any]:
    values = {"step": step, "loss": 2.0, "num_examples": 30, "audio_s": 90.0, "seconds": 10.0}
    return values | {"num_answer_tokens": 1200, "num_positions": 4000} | changes


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("step")]


def test_a_line_says_everything(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(total_steps=61, start=0, clock=Clock())
    line.show(row(0, tflops_per_s=0.41, mfu=0.552, memory_mb=1234.0, data_wait_share=0.03))
    line.close()
    assert lines(capsys) == [
        "step 1/61  loss 2.000  3.0 examples/s  9.0 audio-s/s  120 answer tokens/s  400 positions/s  0.41 TFLOP/s  "
        "MFU 55%  1.2 GB  data wait 3%  10 min left"
    ]


def test_a_line_every_half_minute(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    line = ProgressLine(total_steps=100, start=0, clock=clock)
    shown = []
    for step in range(100):
        clock.now_s += 1
        line.show(row(step, seconds=1.0))
        shown += [step] * len(lines(capsys))
    line.close()
    assert shown == [0, 30, 60, 90]
    assert LINE_EVERY_S == 30


def test_time_left_is_that_of_the_last_steps_and_all_between_them(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    line = ProgressLine(total_steps=1010, start=0, clock=clock)
    for step in range(10):
        clock.now_s += 200 if step == 9 else 40  # after the ninth step, an evaluation of 160 s
        line.show(row(step, seconds=40.0))
    line.close()
    assert lines(capsys)[-1].endswith("  15 h 33 min left")  # 1000 steps of 56 s, not of 40 s


def test_one_slow_step_does_not_frighten(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    line = ProgressLine(total_steps=1049, start=0, clock=clock)
    for step in range(49):
        seconds = 500.0 if step == 48 else 10.0
        clock.now_s += seconds
        line.show(row(step, seconds=seconds))
    line.close()
    last = lines(capsys)[-1]
    assert last.endswith("  5 h 33 min left")  # 1000 steps of 20 s, not of 500 s
    assert "1.5 examples/s" in last


def test_only_the_last_steps_count(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    line = ProgressLine(total_steps=160, start=0, clock=clock)
    for step in range(120):
        seconds = 40.0 if step < 60 else 1.0
        clock.now_s += seconds + 5.0 * (step == 71)  # a checkpoint before the first step of the last fifty
        line.show(row(step, seconds=seconds))
    clock.now_s += 40
    line.show(row(120, seconds=1.0))
    line.close()
    assert lines(capsys)[-1].endswith("  73 s left")  # 39 steps of 94 s / 50


def test_a_resumed_run_counts_its_own_steps_alone(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    line = ProgressLine(total_steps=1000, start=900, clock=clock)
    line.show(row(900))
    line.close()
    (text,) = lines(capsys)
    assert text.startswith("step 901/1000")
    assert text.endswith("  16 min left")  # 99 steps of 10 s


def test_the_loss_is_smoothed_and_survives_one_that_is_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    line = ProgressLine(total_steps=1000, start=0, clock=clock)
    for step, loss in enumerate([2.0, float("nan"), 1.0]):
        clock.now_s += 60
        line.show(row(step, loss=loss))
    line.close()
    assert [text.split("  ")[1] for text in lines(capsys)] == ["loss 2.000", "loss 2.000", "loss 1.950"]


def test_a_terminal_has_a_bar_and_no_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=200))
    line = ProgressLine(total_steps=4, start=0, clock=Clock())
    line.show(row(0))
    line.note("a [b] note")
    line.close()
    shown = screen.getvalue()
    assert "1/4" in shown
    assert "loss 2.000  3.0 examples/s" in shown
    assert "a [b] note" in shown
    assert "step 1/4" not in shown


def test_quiet_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    line = ProgressLine(total_steps=4, start=0, quiet=True, clock=Clock())
    line.show(row(0))
    line.note("nothing")
    line.close()
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5300, "88 min"),
        (5400, "1 h 30 min"),
        (86400, "24 h 0 min"),
        (129_600, "1 d 12 h"),
        (187_199, "2 d 4 h"),
    ],
)
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
