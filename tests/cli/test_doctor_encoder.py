"""`uniwhisper doctor ENCODER`; what it says of the machine is tested in test_doctor.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from uniwhisper.encoders import conformance

from .conftest import Cli

BROKEN = '''from uniwhisper.encoders.log_mel import LogMelEncoder


class Mine(LogMelEncoder):
    """Half the frames that hop_ms promises, and the others double."""

    def frames(self, waves):
        return [frames[::2].astype("float32") for frames in super().frames(waves)]
'''


@pytest.fixture(autouse=True)
def short_long_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conformance, "_LONG_S", 30.0)


def test_an_encoder_that_conforms(cli: Cli) -> None:
    result = cli("doctor", "log-mel")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "ok    attributes  log-mel: 16000 Hz, 160 values, a frame every 10 ms"
    assert lines[-2].startswith("ok    ten minutes 3000 frames in ")
    assert lines[-1] == "log-mel conforms"


def test_the_long_clip_is_left_out(cli: Cli) -> None:
    result = cli("doctor", "log-mel", "--quick")
    assert "note  ten minutes left out, as asked" in result.stdout


def test_a_class_that_does_not_conform(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "doctor_cli_toy.py").write_text(BROKEN, encoding="utf-8")
    result = cli("doctor", "doctor_cli_toy:Mine")
    assert result.exit_code == 1
    assert (
        "FAIL  frame count expected duration / hop_ms (10) frames within one, found 50 frames for 1 s" in result.stdout
    )
    assert result.stderr == "Error: doctor_cli_toy:Mine does not conform: 3 checks fail\n"


def test_a_class_that_is_not_there(cli: Cli) -> None:
    result = cli("doctor", "no_such_package:Mine")
    assert result.exit_code == 1
    assert "no_such_package:Mine: expected an importable module 'no_such_package'" in result.stderr
