"""`uniwhisper lint`: what is wrong with a corpus folder, before it is converted."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("source")
@click.argument("path", type=click.Path(path_type=Path, exists=True))
@click.option("--decode", is_flag=True, help="Decode all audio; otherwise headers are read.")
@click.option("--workers", type=click.IntRange(min=0), default=0, help="Processes; 0 = one per CPU (default).")
def command(source: str, path: Path, decode: bool, workers: int) -> None:
    """Check the corpus SOURCE in the folder (or file) PATH and list every kind of fault.

    Errors are what would make converting or training fail or lie; they end with exit code 1. Warnings should be looked
    at.
    """
    from uniwhisper.lint import lint

    report = lint(source, path, decode=decode, workers=workers)
    for name, count in report.rows.items():
        click.echo(f"{name}: {count} rows")
    click.echo(f"{source}: {report.num_clips} clips, {report.hours:.2f} hours readable, {report.num_dropped} left out")
    for finding in report.findings:
        click.echo(f"{finding.level}: {finding.what} ({finding.count})")
        for example in finding.examples:
            click.echo(f"    {example}")
        if finding.count > len(finding.examples):
            click.echo(f"    and {finding.count - len(finding.examples)} more")
    if report.failed:
        raise click.exceptions.Exit(1)
    click.echo("nothing found" if not report.findings else "no errors")
