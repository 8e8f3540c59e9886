"""`uniwhisper sources`: the corpora that can be converted, and everything that one of them declares."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from uniwhisper.sources import Remote, SourceSpec
    from uniwhisper.sources._spec import Use

__all__ = ["command"]

_GROUPS: dict[Use, str] = {
    "training": "Training corpora",
    "evaluation": "Evaluation corpora",
    "starter": "Starter corpus, fetched as Debian packages",
    "own": "Audio of your own",
}
_HEADER = ("name", "domain", "clips", "hours", "description")
_NUMBERS = (2, 3)
_WIDTH = 150
_FACT_WIDTH = 14


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the corpora that can be converted, by use.

    `uniwhisper sources show NAME` says all about one of them.
    """
    if ctx.invoked_subcommand is not None:
        return
    from uniwhisper.sources import get_source, list_sources

    specs = [get_source(name).SPEC for name in list_sources()]
    rows = {spec.name: _row(spec) for spec in specs}
    widths = [max(len(row[i]) for row in (_HEADER, *rows.values())) for i in range(len(_HEADER))]
    for use, title in _GROUPS.items():
        names = [spec.name for spec in specs if use in spec.uses]
        click.echo(f"{title} ({len(names)})")
        for row in (_HEADER, *(rows[name] for name in names)):
            click.echo(_line(row, widths))
        click.echo()
    click.echo("All about one of them: uniwhisper sources show NAME")


def _row(spec: SourceSpec) -> tuple[str, ...]:
    size = (f"{spec.num_clips:,}" if spec.num_clips else "-", f"{spec.hours:,.1f}" if spec.hours else "-")
    return (spec.name, spec.domain, *size, spec.description)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        cell.rjust(width) if column in _NUMBERS else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(row, widths, strict=True))
    ]
    return f"  {'  '.join(cells)}".rstrip()


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Say all about the source NAME."""
    from uniwhisper.sources import get_source

    spec = get_source(name).SPEC
    click.echo(spec.name)
    for key, value in _facts(spec).items():
        if value:
            first, *rest = _wrap(value, _WIDTH - _FACT_WIDTH - 2)
            click.echo(f"  {key:<{_FACT_WIDTH - 2}}  {first}")
            for line in rest:
                click.echo(" " * (_FACT_WIDTH + 2) + line)
    _show_block("download", [line for remote in spec.remotes for line in _remote(remote)])
    _show_block("not to be downloaded", spec.not_downloadable.strip().splitlines())
    _show_block("place below the root", spec.placement.strip().splitlines())


def _facts(spec: SourceSpec) -> dict[str, str]:
    clips = f"{spec.num_clips:,} clips" if spec.num_clips else ""
    hours = f"{spec.hours:,.2f} hours" if spec.hours else ""
    tolerance = f"at most {spec.drop_tolerance:.2%}".replace(".00%", "%")
    return {
        "description": spec.description,
        "used for": ", ".join(spec.uses),
        "domain": spec.domain,
        "families": ", ".join(spec.families),
        "languages": ", ".join(spec.languages),
        "splits": ", ".join(spec.splits),
        "size": ", ".join(filter(None, (clips, hours))) or "as in the data",
        "version": spec.version,
        "license": spec.license,
        "citation": spec.citation,
        "homepage": spec.homepage,
        "packages": ", ".join(spec.packages),
        "missing": f"{tolerance if spec.drop_tolerance else 'none'} of the clips may be missing or unusable",
        "convert": f"uniwhisper convert {spec.name} --out DIR" + ("" if spec.packages else " --root PATH"),
    }


def _show_block(title: str, lines: Iterable[str]) -> None:
    """Print a titled block; long lines go on a little further in."""
    for number, line in enumerate(lines):
        if not number:
            click.echo(f"  {title}")
        indent = " " * (4 + len(line) - len(line.lstrip()))
        first, *rest = _wrap(line.strip(), _WIDTH - len(indent) - 4)
        for part in (first, *(f"    {part}" for part in rest)):
            click.echo(indent + part)


def _wrap(text: str, width: int) -> list[str]:
    """Return the text in lines; names and addresses stay whole."""
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)


def _remote(remote: Remote) -> list[str]:
    """Return the address, and below it what the publisher states about the file."""
    stated = [f"{remote.size_bytes:,} bytes" if remote.size_bytes else "", remote.checksum]
    facts = "  ".join(filter(None, stated))
    return [remote.url, f"  {facts}"] if facts else [remote.url]
