"""Exports: any encoder of ours as what the peers' own harnesses load, so that their checks and tables run on it.

An export is a small Python file that imports this package and names the encoder; weights are not copied. One module a
harness, and this folder is the registry: each has `FORMAT`, and `write(model, out)` that returns the file written. What
the files hold runs every clip at its true length, never padded to 30 s, in [-1, 1] (samples beyond are clipped).
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from pathlib import Path

from uniwhisper.errors import ConfigError

__all__ = ["FORMATS", "Format", "write_export"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Format:
    """A harness that an encoder can be exported for."""

    name: str
    about: str
    """What is written, in one line."""
    file_name: str
    """What the file is called where only a folder is given."""
    usage: str
    """How the harness is run; `{folder}`, `{file}` and `{module}` are filled in."""


FORMATS: dict[str, Format] = {
    "xares": Format(
        name="xares",
        about="an encoder file for X-ARES 0.1",
        file_name="uniwhisper_encoder.py",
        usage="cd {folder} && python -m xares.run --max-jobs 0 {file} TASKS...",
    ),
    "xares-llm": Format(
        name="xares-llm",
        about="an encoder class for XARES-LLM",
        file_name="uniwhisper_llm_encoder.py",
        usage="cd {folder} && python -m xares_llm.run {module}.UniWhisperEncoder task1 task1",
    ),
    "hear": Format(
        name="hear",
        about="a module with the HEAR 2021 interface",
        file_name="uniwhisper_hear.py",
        usage="cd {folder} && hear-validator {module}",
    ),
    "mteb": Format(
        name="mteb",
        about="a module with load_model() for mteb 2",
        file_name="uniwhisper_mteb.py",
        usage="cd {folder} && python -c 'import mteb, {module} as m; mteb.mock_run(m.load_model())'",
    ),
}
"""Format -> what it is; `exports/<name, with underscores>.py` holds its class and `write`."""


def write_export(format_name: str, model: str, out: Path) -> Path:
    """Write the encoder `model` for a harness and return the file.

    Args:
        format_name: One of `FORMATS`.
        model: What `encoders.load_encoder` takes; a path is written as an absolute one. It is loaded once to see that
            it works.
        out: A `.py` file whose name can be imported, or a folder for the format's usual file name.

    Raises:
        ConfigError: There is no such format, or `out` cannot be imported as a module.
        EncoderError: The encoder cannot be loaded, or the harness cannot use it.
    """
    if format_name not in FORMATS:
        raise ConfigError(f"expected a format out of {', '.join(FORMATS)}, found {format_name!r}")
    file = out if out.suffix == ".py" else out / FORMATS[format_name].file_name
    if not file.stem.isidentifier():
        raise ConfigError(f"expected a file name that Python can import (letters, digits, _), found {file.name!r}")
    path = Path(model).expanduser()
    name = str(path.resolve()) if path.exists() else model
    module = importlib.import_module(f"{__name__}.{format_name.replace('-', '_')}")
    module.write(name, file)
    return file
