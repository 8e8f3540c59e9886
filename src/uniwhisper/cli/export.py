"""`uniwhisper export`: an encoder as a file that a peer's harness loads."""

from __future__ import annotations

import sys
from pathlib import Path

import click

__all__ = ["command"]


@click.command()
@click.argument("format_name", metavar="FORMAT")
@click.argument("model")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .py file to write, or its folder.")
def command(format_name: str, model: str, out: Path) -> None:
    """Write MODEL for another harness, as a small Python file that imports uniwhisper and names MODEL.

    \b
    FORMAT is one of
      xares      encoder file:  python -m xares.run --max-jobs 0 FILE TASKS...
      xares-llm  encoder class: python -m xares_llm.run MODULE.UniWhisperEncoder task1 task1
      hear       HEAR module:   hear-validator MODULE
      mteb       load_model():  mteb.evaluate(MODULE.load_model(), TASKS)

    MODEL is what `uniwhisper evaluate` takes: a run folder, weights by name, module:Class and so on. X-ARES takes
    relative paths only, so run it from the folder of the file; the command to use is printed.

    Clips run at their true length. X-ARES pads the clips of a batch with zeros without saying where they end; those
    zeros are encoded, as with every encoder there.
    """  # noqa: D301 - \b keeps click from joining the lines
    from uniwhisper.exports import FORMATS, write_export

    sys.path.insert(0, str(Path.cwd()))  # a console script does not see the modules of the folder it is called from
    file = write_export(format_name, model, out)
    click.echo(file)
    usage = FORMATS[format_name].usage
    click.echo(usage.format(folder=file.resolve().parent, file=file.name, module=file.stem), err=True)
