"""`uniwhisper sources`: the corpora that can be converted, and everything that one of them declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from uniwhisper.sources import SourceSpec

__all__ = ["command"]


@click.group(invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List the corpora that can be converted.

    `uniwhisper sources show NAME` says all about one of them.
    """
    if ctx.invoked_subcommand is not None:
        return
    from uniwhisper.sources import get_source, list_sources

    rows = [_row(get_source(name).SPEC) for name in list_sources()]
    header = ("name", "domain", "clips", "hours", "fetched by", "description")
    widths = [max(len(row[i]) for row in (header, *rows)) for i in range(len(header))]
    for row in (header, *rows):
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Say all about the source NAME."""
    from uniwhisper.sources import get_source

    spec = get_source(name).SPEC
    facts = {
        "description": spec.description,
        "domain": spec.domain,
        "families": ", ".join(spec.families),
        "languages": ", ".join(spec.languages) or "as in the data",
        "splits": ", ".join(spec.splits),
        "size": f"{spec.num_clips} clips, {spec.hours:.2f} hours" if spec.num_clips else "as in the data",
        "version": spec.version,
        "license": spec.license,
        "citation": spec.citation,
        "homepage": spec.homepage,
        "packages": ", ".join(spec.packages) or "none; give its folder or file",
        "convert": f"uniwhisper convert {spec.name} --out DIR" + ("" if spec.packages else " --root PATH"),
    }
    click.echo(spec.name)
    for key, value in facts.items():
        click.echo(f"  {key:<12} {value}")


def _row(spec: SourceSpec) -> tuple[str, ...]:
    size = (str(spec.num_clips), f"{spec.hours:.2f}") if spec.num_clips else ("-", "-")
    return (spec.name, spec.domain, *size, "apt" if spec.packages else "you", spec.description)
