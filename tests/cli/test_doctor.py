from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from uniwhisper.cli import _checks, _training
from uniwhisper.cli._findings import Finding

from .conftest import Cli


@pytest.fixture(autouse=True)
def quick_and_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_training, "_MATMUL_S", 0.01)
    monkeypatch.setattr(_training, "_DATA_S", 0.01)
    monkeypatch.setenv("UNIWHISPER_OFFLINE", "1")


def test_this_machine_can_run(cli: Cli) -> None:
    result = cli("doctor")
    assert result.exit_code == 0, result.output
    lines = {line.split()[1]: line for line in result.stdout.splitlines()}
    assert {"python", "packages", "torch", "device", "decoders", "cache", "disk", "weights"} <= lines.keys()
    assert {"matmul", "attention", "data", "extras", "processes"} <= lines.keys()
    assert "wav, flac, ogg" in lines["decoders"]
    assert lines["network"].endswith("not asked, UNIWHISPER_OFFLINE=1; only what is here can be used")
    assert "FAIL" not in result.stdout


def test_a_broken_essential_sets_the_exit_code(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> Iterator[Finding]:
        yield Finding(state="FAIL", name="torch", text="expected to import torch")

    monkeypatch.setattr(_checks, "CHECKS", (broken,))
    result = cli("doctor")
    assert result.exit_code == 1
    assert result.stdout == "FAIL  torch     expected to import torch\n"
    assert result.stderr == "Error: 1 essential thing is broken\n"


def test_cache_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setenv("UNIWHISPER_HOME", str(tmp_path / "file"))
    (finding,) = _checks.check_cache()
    assert finding.state == "FAIL"
    assert finding.text.startswith(f"expected to write in {tmp_path / 'file'}, found: ")


def test_little_room_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checks, "_ROOM_GB", 1e9)
    assert [finding.state for finding in _checks.check_cache() if finding.name == "disk"] == ["note"]


def test_a_package_that_does_not_import(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checks, "_PACKAGES", ("numpy", "no_such_package"))
    states = {finding.state: finding.text for finding in _checks.check_python() if finding.name == "packages"}
    assert states["FAIL"].startswith("expected to import no_such_package, found No module named 'no_such_package'")


def test_a_format_that_cannot_be_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_checks, "_NEWER_FORMATS", {"opus": ("OGG", "NOT_A_CODEC")})
    findings = [finding for finding in _checks.check_decoders() if finding.text.startswith("no opus")]
    assert [finding.state for finding in findings] == ["note"]


def test_network_asks_all_and_waits_for_none(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    monkeypatch.delenv("UNIWHISPER_OFFLINE")
    monkeypatch.setattr(_checks, "ANSWER_S", 0.2)
    silence = threading.Event()

    def refuse() -> Finding:
        raise ConnectionError("no route")

    def hang() -> Finding:
        silence.wait(5)
        return Finding(state="ok", name="apt", text="late")

    for name, question in {"_hub": refuse, "_pip": refuse, "_npm": refuse, "_apt": hang}.items():
        monkeypatch.setattr(_checks, name, question)
    findings = list(_checks.check_network())
    silence.set()
    assert [(finding.name, finding.state) for finding in findings] == [
        (n, "note") for n in ("hub", "pip", "npm", "apt")
    ]
    assert findings[0].text == "no answer: no route"
    assert findings[3].text == "no answer in 0 s"
