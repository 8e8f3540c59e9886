from __future__ import annotations

from uniwhisper.sources import list_sources

from .conftest import Cli


def test_listing_has_a_line_for_every_source(cli: Cli) -> None:
    result = cli("sources")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["name", "domain", "clips"]
    assert [line.split()[0] for line in lines[1:]] == list(list_sources())


def test_show_says_how_to_convert(cli: Cli) -> None:
    result = cli("sources", "show", "table")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "table"
    assert "uniwhisper convert table --out DIR --root PATH" in result.stdout


def test_unknown_source(cli: Cli) -> None:
    result = cli("sources", "show", "esc51")
    assert result.exit_code == 1
    assert result.stderr == f"Error: expected a source out of {', '.join(list_sources())}; found 'esc51'\n"
