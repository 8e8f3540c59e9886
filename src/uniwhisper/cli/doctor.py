"""`uniwhisper doctor`: looks at this machine, or at an encoder, and says what is wrong and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from uniwhisper.encoders.conformance import Finding

__all__ = ["command"]


@click.command()
@click.argument("encoder", required=False)
@click.option("--device", default="cpu", show_default=True, help="Torch device for ENCODER.")
@click.option("--quick", is_flag=True, help="Leave the ten-minute clip out when ENCODER is checked.")
def command(encoder: str | None, device: str, quick: bool) -> None:
    """Check this machine: Python, torch and its speed, decoders, cache, weights, and where more can be had.

    Of training it says which device, precision and attention kernel would be used, and how fast audio is decoded.

    With ENCODER (anything that `uniwhisper evaluate` takes, your own class as my_pkg.module:MyEncoder), check that
    encoder instead: shapes, lengths, independence of neighbours, silence, a tenth of a second, ten minutes.

    A `note` is something optional that is missing, or odd. Exits with code 1 where something essential is broken
    (`FAIL`).
    """
    if encoder is None:
        _check_machine()
    else:
        _check_encoder(encoder, device, quick)


def _check_machine() -> None:
    from uniwhisper.cli._checks import CHECKS

    broken = 0
    for check in CHECKS:
        for finding in check():
            broken += finding.state == "FAIL"
            click.echo(f"{finding.state:<5} {finding.name:<9} {finding.text}")
    if broken:
        raise click.ClickException(f"{broken} essential {'thing is' if broken == 1 else 'things are'} broken")


def _check_encoder(name: str, device: str, quick: bool) -> None:
    from uniwhisper.encoders import load_encoder
    from uniwhisper.encoders.conformance import check_encoder

    def show(finding: Finding) -> None:
        click.echo(f"{finding.state:<5} {finding.name:<11} {finding.text}")

    encoder = load_encoder(name, device=device)
    findings = check_encoder(encoder, long_clip=not quick, on_finding=show)
    broken = sum(finding.state == "FAIL" for finding in findings)
    if broken:
        raise click.ClickException(
            f"{name} does not conform: {broken} {'check fails' if broken == 1 else 'checks fail'}"
        )
    click.echo(f"{name} conforms")
