from __future__ import annotations

import re
import subprocess
import sys

import click
import pytest

from uniwhisper import __version__
from uniwhisper.cli import INTERRUPTED, VERBS, app
from uniwhisper.errors import ConfigError

from .conftest import Cli


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Make the verb `doctor` raise the test's parameter."""

    @click.command()
    def command() -> None:
        raise request.param

    monkeypatch.setattr(app, "get_command", lambda ctx, name: command)


def test_listing_names_every_verb(cli: Cli) -> None:
    result = cli("--help")
    assert result.exit_code == 0
    listed = re.findall(r"^  ([a-z]+)  +[A-Z]", result.stdout.partition("Verbs:")[2], re.MULTILINE)
    assert listed == list(VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(cli: Cli, verb: str) -> None:
    result = cli(verb, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"Usage: uniwhisper {verb} ")
    assert len(result.stdout.splitlines()) > 6


def test_verbs_without_arguments_show_usage(cli: Cli) -> None:
    result = cli("train")
    assert result.exit_code == 2
    assert "Error: Missing argument 'RECIPE'." in result.stderr


def test_unknown_verb(cli: Cli) -> None:
    result = cli("trian")
    assert result.exit_code == 2
    assert "No such command 'trian'" in result.stderr


def test_version(cli: Cli) -> None:
    assert cli("--version").stdout == f"uniwhisper, version {__version__}\n"


@pytest.mark.parametrize("broken", [ConfigError("expected a, found b")], indirect=True)
def test_our_error_is_one_message(cli: Cli, broken: None) -> None:
    result = cli("doctor")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: expected a, found b\n")


@pytest.mark.parametrize("broken", [ConfigError("expected a, found b")], indirect=True)
def test_debug_keeps_the_error(cli: Cli, broken: None) -> None:
    result = cli("--debug", "doctor")
    assert isinstance(result.exception, ConfigError)


@pytest.mark.parametrize("broken", [PermissionError(13, "Permission denied", "runs/x")], indirect=True)
def test_error_of_the_file_system_is_one_message(cli: Cli, broken: None) -> None:
    result = cli("doctor")
    assert (result.exit_code, result.stderr) == (1, "Error: Permission denied: runs/x\n")


@pytest.mark.parametrize("broken", [ZeroDivisionError("a bug")], indirect=True)
def test_a_bug_is_not_hidden(cli: Cli, broken: None) -> None:
    assert isinstance(cli("doctor").exception, ZeroDivisionError)


@pytest.mark.parametrize("broken", [KeyboardInterrupt()], indirect=True)
def test_ctrl_c(cli: Cli, broken: None) -> None:
    result = cli("doctor")
    assert (result.exit_code, result.stderr) == (INTERRUPTED, "Interrupted.\n")


def test_as_a_module() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "uniwhisper", "convert", "nothing", "--out", "x"], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: expected one of the ")
    assert done.stderr.endswith("sources of `uniwhisper sources`, found 'nothing'\n")
