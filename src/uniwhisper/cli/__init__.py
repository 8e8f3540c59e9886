"""The `uniwhisper` command: one thin module per verb, imported when that verb is used.

Reads the command line; writes results to standard output and everything else to standard error. Guarantees: help needs
neither torch nor NumPy; our own errors are one message without a traceback (`--debug` shows it). Exit codes: 0 done,
1 failed, 2 wrong usage, 130 stopped by Ctrl-C.
"""

from __future__ import annotations

import errno
import importlib
import logging
from typing import Any

import click

from uniwhisper import __version__
from uniwhisper.errors import UniWhisperError

__all__ = ["INTERRUPTED", "VERBS", "app", "main"]

INTERRUPTED = 130
"""Exit code after Ctrl-C: 128 plus the number of SIGINT, as shells have it."""

VERBS = {
    "quickstart": "Go from nothing to a trained encoder and its report in one command.",
    "sources": "List the corpora that can be converted.",
    "lint": "Check a corpus folder and list every kind of fault.",
    "preview": "Show clips of a corpus with their prompts and answers, as a page.",
    "convert": "Convert a corpus or a table into clips: a manifest.",
    "leakage": "Find evaluation clips among training clips, and take them out.",
    "shards": "Pack clips into shards that training reads.",
    "train": "Train an encoder by a recipe.",
    "embed": "Embed audio files.",
    "evaluate": "Judge an encoder on tasks: kNN and probes, with intervals.",
    "report": "Draw results as one self-contained HTML page.",
    "export": "Write an encoder as a file that another harness loads.",
    "doctor": "Check this machine, or that an encoder keeps the protocol.",
}
"""Verb -> its line in the listing; `cli/<verb>.py` holds `command`."""


class _Verbs(click.Group):
    """A group that knows its verbs without importing them, and turns our errors into messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the verbs, in the order in which they are used."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the verb's command, importing its module."""
        if cmd_name not in VERBS:
            return None
        return importlib.import_module(f"{__name__}.{cmd_name}").command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the listing from `VERBS` alone, so that help imports no verb."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an error of ours, or of the file system, ends it with one message and exit code 1."""
        try:
            return super().invoke(ctx)
        except UniWhisperError as e:
            if ctx.params["debug"]:
                raise
            raise click.ClickException(str(e)) from e
        except OSError as e:
            if ctx.params["debug"] or e.errno in (None, errno.EPIPE):
                raise
            raise click.ClickException(f"{e.strerror}: {e.filename}" if e.filename else str(e)) from e
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(INTERRUPTED)


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="uniwhisper")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def app(debug: bool) -> None:
    """Turn a Whisper encoder into a universal audio encoder, and show what it is worth."""
    for chatty in ("torchao", "torch.utils._pytree"):  # transformers imports torchao, which then tells what it lacks
        logging.getLogger(chatty).setLevel(logging.ERROR)


def main() -> None:
    """Run the command line of this process and exit with its code."""
    app(prog_name="uniwhisper")
