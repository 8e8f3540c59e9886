from __future__ import annotations

import pytest

from uniwhisper.sources import get_source, list_sources

from .conftest import Cli


def test_listing_has_a_line_for_every_source_and_use(cli: Cli) -> None:
    result = cli("sources")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    titles = [line for line in lines if line and not line.startswith(" ")]
    assert [title.split()[0] for title in titles] == ["Training", "Evaluation", "Starter", "Audio", "All"]
    listed: dict[str, list[str]] = {}
    for line in lines:
        if line in titles:
            listed[line] = []
        elif line and not line.startswith("  name "):
            listed[next(reversed(listed))].append(line.split()[0])
    assert listed.pop(titles[-1]) == []
    uses = dict(zip(("training", "evaluation", "starter", "own"), listed, strict=True))
    for use, title in uses.items():
        names = [name for name in list_sources() if use in get_source(name).SPEC.uses]
        assert listed[title] == names
        assert title.endswith(f"({len(names)})")
    assert {name for names in listed.values() for name in names} == set(list_sources())


def test_the_papers_corpora_are_all_there(cli: Cli) -> None:
    lines = cli("sources").stdout.splitlines()
    assert "Training corpora (23)" in lines
    assert "Evaluation corpora (19)" in lines  # the paper's 20 tasks: LibriSpeech stands for two


def test_the_listing_is_plain_and_aligned(cli: Cli) -> None:
    lines = cli("sources").stdout.splitlines()
    header = next(line for line in lines if line.startswith("  name"))
    place, numbers = header.index("description"), header.index("hours") + len("hours")
    rows = [line for line in lines if line.startswith("  ")]
    assert len(rows) > 50
    for line in rows:
        assert len(line) <= 155
        assert line[place - 2 : place] == "  "
        assert line[place] != " "
        assert line[numbers - 1] != " "


def test_show_says_how_to_convert(cli: Cli) -> None:
    result = cli("sources", "show", "table")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "table"
    assert "uniwhisper convert table --out DIR --root PATH" in result.stdout
    assert "  convert       uniwhisper convert asterisk --out DIR\n" in cli("sources", "show", "asterisk").stdout


@pytest.mark.parametrize("name", list_sources())
def test_show_says_everything_that_is_declared(cli: Cli, name: str) -> None:
    spec = get_source(name).SPEC
    text = cli("sources", "show", name).stdout
    assert max(map(len, text.splitlines())) <= 155
    flat = " ".join(text.split())
    stated = [spec.description, spec.license, spec.citation, spec.homepage, spec.version, ", ".join(spec.families)]
    stated += [*spec.packages, *(f"{remote.size_bytes:,} bytes" for remote in spec.remotes if remote.size_bytes)]
    stated += [text for remote in spec.remotes for text in (remote.url, remote.checksum)]
    stated += [spec.not_downloadable, spec.placement]
    for fact in stated:
        assert " ".join(fact.split()) in flat
    assert ("download" in text.split("\n  convert")[1]) == bool(spec.remotes or spec.not_downloadable)


def test_show_of_a_corpus_that_cannot_be_fetched(cli: Cli) -> None:
    lines = cli("sources", "show", "gigaspeech").stdout.splitlines()
    place = lines.index("  not to be downloaded")
    assert lines[place + 1].startswith("    ")
    assert "  place below the root" in lines[place:]


def test_unknown_source(cli: Cli) -> None:
    result = cli("sources", "show", "esc51")
    assert result.exit_code == 1
    assert result.stderr == (
        f"Error: expected one of the {len(list_sources())} sources of `uniwhisper sources`, found 'esc51'; "
        "did you mean esc50?\n"
    )
