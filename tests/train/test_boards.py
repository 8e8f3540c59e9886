from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from uniwhisper.errors import ConfigError
from uniwhisper.train.boards import open_boards
from uniwhisper.train.metrics import MetricsLog


class FakeRun:
    """Takes down what it is sent."""

    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def log(self, numbers: dict[str, float], *, step: int) -> None:
        self.logged.append((step, numbers))

    def finish(self) -> None:
        self.finished += 1


class FakeWandb(ModuleType):
    """Stands for the package."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[dict[str, Any]] = []
        self.run = FakeRun()
        self.error: Exception | None = None

    def init(self, **arguments: Any) -> FakeRun:
        if self.error:
            raise self.error
        self.begun.append(arguments)
        return self.run


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    module = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.delenv("UNIWHISPER_OFFLINE", raising=False)
    return module


def test_nothing_is_sent_unless_asked(tmp_path: Path, wandb: FakeWandb) -> None:
    (board,) = open_boards(tmp_path, start=0, wandb="", config={})
    board.close()
    assert wandb.begun == []


def test_every_number_is_sent(tmp_path: Path, wandb: FakeWandb) -> None:
    row = {"step": 7, "loss": 2.0, "seconds": 1.0, "loss_by_source": {"bells": 1.5}, "warning": "odd"}
    with MetricsLog(tmp_path, total_steps=9, start=7, quiet=True, wandb="ears", config={"seed": 1}) as log:
        log.write(row)
        log.write_scores(8, {"esc50": 0.5})
        log.sync()
        assert not wandb.run.finished
    assert wandb.run.logged == [
        (7, {"loss": 2.0, "seconds": 1.0, "loss_by_source/bells": 1.5}),
        (8, {"evaluation/esc50": 0.5}),
    ]
    assert wandb.run.finished == 1
    (begun,) = wandb.begun
    assert (begun["project"], begun["dir"], begun["config"]) == ("ears", str(tmp_path), {"seed": 1})
    assert begun["mode"] is None


def test_a_resumed_folder_is_the_same_run(tmp_path: Path, wandb: FakeWandb) -> None:
    for folder, project in (("a", "ears"), ("a", "ears"), ("b", "ears"), ("a", "eyes")):
        for board in open_boards(tmp_path / folder, start=3, wandb=project, config={}):
            board.close()
    (tmp_path / "b" / "wandb.json").unlink()  # the folder was removed, and another run begun in its place
    for board in open_boards(tmp_path / "b", start=0, wandb="ears", config={}):
        board.close()
    first, again, *others = [begun["id"] for begun in wandb.begun]
    assert first == again
    assert len({first, *others}) == 4
    assert {begun["resume"] for begun in wandb.begun} == {"allow"}


@pytest.mark.parametrize(("stated", "mode"), [("", "offline"), ("disabled", None)])
def test_offline_is_honoured(
    tmp_path: Path, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch, stated: str, mode: str | None
) -> None:
    monkeypatch.setenv("UNIWHISPER_OFFLINE", "1")
    if stated:
        monkeypatch.setenv("WANDB_MODE", stated)  # wandb reads it where no mode is given
    for board in open_boards(tmp_path, start=0, wandb="ears", config={}):
        board.close()
    assert wandb.begun[0]["mode"] == mode


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match=r"package wandb for project 'ears': pip install 'uniwhisper\[wandb\]'"):
        open_boards(tmp_path, start=0, wandb="ears", config={})
    assert not (tmp_path / "tensorboard").exists()


def test_a_refusal_says_what_to_do(tmp_path: Path, wandb: FakeWandb) -> None:
    wandb.error = RuntimeError("no API key")
    with pytest.raises(ConfigError, match=r"found RuntimeError: no API key. Log in with `wandb login`, set WANDB_MODE"):
        open_boards(tmp_path, start=0, wandb="ears", config={})
