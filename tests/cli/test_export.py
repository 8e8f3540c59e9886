from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper import cli as commands

from .conftest import Cli


@pytest.fixture(autouse=True)
def listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(commands.VERBS, "export", "Write an encoder as a file that another harness loads.")


@pytest.mark.parametrize(
    ("form", "name", "usage"),
    [
        ("xares", "uniwhisper_encoder.py", "python -m xares.run --max-jobs 0 uniwhisper_encoder.py TASKS..."),
        ("xares-llm", "uniwhisper_llm_encoder.py", "xares_llm.run uniwhisper_llm_encoder.UniWhisperEncoder"),
        ("hear", "uniwhisper_hear.py", "hear-validator uniwhisper_hear"),
        ("mteb", "uniwhisper_mteb.py", "import mteb, uniwhisper_mteb as m"),
    ],
)
def test_every_format(cli: Cli, models: dict[str, Path], tmp_path: Path, form: str, name: str, usage: str) -> None:
    result = cli("export", form, models["whisper"], "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"{tmp_path / name}\n"
    assert usage in result.stderr
    assert f"cd {tmp_path} && " in result.stderr
    assert str(models["whisper"]) in (tmp_path / name).read_text(encoding="utf-8")


def test_a_class_of_the_current_folder(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = "from uniwhisper.encoders.log_mel import LogMelEncoder\n\n\nclass Mine(LogMelEncoder):\n    name = 'mine'\n"
    (tmp_path / "export_cli_toy.py").write_text(text, encoding="utf-8")
    result = cli("export", "xares", "export_cli_toy:Mine", "--out", "enc.py")
    assert result.exit_code == 0, result.output
    assert "super().__init__('export_cli_toy:Mine')" in (tmp_path / "enc.py").read_text(encoding="utf-8")


def test_an_unknown_format(cli: Cli, tmp_path: Path) -> None:
    result = cli("export", "onnx", "log-mel", "--out", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == "Error: expected a format out of xares, xares-llm, hear, mteb, found 'onnx'\n"
