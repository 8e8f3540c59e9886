"""`uniwhisper doctor`: looks at this machine, and says what works, what is missing and what to do about it."""

from __future__ import annotations

import click

__all__ = ["command"]


@click.command()
def command() -> None:
    """Check this machine: Python, torch and its speed, decoders, cache, weights, and where more can be had.

    A `note` is something optional that is missing. Exits with code 1 where something essential is broken (`FAIL`).
    """
    from uniwhisper.cli._checks import CHECKS

    broken = 0
    for check in CHECKS:
        for finding in check():
            broken += finding.state == "FAIL"
            click.echo(f"{finding.state:<5} {finding.name:<9} {finding.text}")
    if broken:
        raise click.ClickException(f"{broken} essential {'thing is' if broken == 1 else 'things are'} broken")
