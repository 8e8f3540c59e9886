from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from uniwhisper.train.profiling import WARMUP_STEPS, profiled


def work(width: int) -> None:
    torch.mm(torch.ones(width, width), torch.ones(width, width))


def test_the_steps_after_the_warm_up_are_written(tmp_path: Path) -> None:
    with profiled(tmp_path / "profile", 2) as after_step:
        for step in range(WARMUP_STEPS + 4):
            for _ in range(3 if WARMUP_STEPS <= step < WARMUP_STEPS + 2 else 100):
                work(8)
            after_step()
            written = (tmp_path / "profile" / "trace.json").exists()
            assert written == (step >= WARMUP_STEPS + 1)  # as soon as they are done
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text(encoding="utf-8"))
    events = [event for event in trace["traceEvents"] if event.get("name") == "aten::mm"]
    assert len(events) == 6
    table = (tmp_path / "profile" / "operations.txt").read_text(encoding="utf-8")
    assert "aten::mm" in table
    assert "Self CPU %" in table


def test_a_run_that_ends_sooner_leaves_what_there_is(tmp_path: Path) -> None:
    with profiled(tmp_path, 50) as after_step:
        for _ in range(WARMUP_STEPS + 1):
            work(8)
            after_step()
    assert "aten::mm" in (tmp_path / "operations.txt").read_text(encoding="utf-8")


def test_a_run_that_ends_in_the_warm_up_leaves_nothing(tmp_path: Path) -> None:
    with profiled(tmp_path / "profile", 1) as after_step:
        after_step()
    assert not (tmp_path / "profile").exists()


def test_an_error_in_a_step_comes_out(tmp_path: Path) -> None:
    with pytest.raises(KeyError), profiled(tmp_path, 1):
        raise KeyError


def test_no_steps_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uniwhisper.train.profiling.profile", None)
    with profiled(tmp_path / "profile", 0) as after_step:
        after_step()
    assert not (tmp_path / "profile").exists()
