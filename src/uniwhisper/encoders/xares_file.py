"""X-ARES encoder files: `path/to/encoder.py` with exactly one name that ends in `Encoder`.

Reads the file and whatever it loads itself. Guarantees what X-ARES does not: clips are run alone or beside clips of the
same length, so the zeros that X-ARES pads a batch with are never encoded and never averaged in. Frames are those that
the file returns; one that pads inside returns frames of silence, and `uniwhisper doctor path/to/encoder.py` says so.

Source: what such a file must hold is what X-ARES 0.1.3 checks, https://github.com/jimbozhang/xares
    src/xares/audio_encoder_checker.py and src/xares/utils.py (attr_from_py_path).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from uniwhisper.embed import Encoder
from uniwhisper.encoders._family import Family, require_option
from uniwhisper.encoders._foreign import fingerprint_of, foreign_errors, import_file, in_one_length, whole_number
from uniwhisper.errors import EncoderError

__all__ = ["FAMILY", "XaresFileEncoder", "claims", "load"]

FAMILY = Family(
    name="X-ARES file",
    about="a Python file with one class whose name ends in Encoder, as X-ARES takes it",
    examples=("path/to/encoder.py",),
)
_ENDING = "Encoder"


class XaresFileEncoder:
    """The encoder of an X-ARES file, behind our protocol; see `load`."""

    def __init__(self, module: Any, *, name: str, path: Path, device: str) -> None:
        self.name = name
        self.sample_rate = whole_number(_attribute(module, "sampling_rate", name), f"{name}: sampling_rate")
        self.dim = whole_number(_attribute(module, "output_dim", name), f"{name}: output_dim")
        self.hop_ms = _hop_ms(_attribute(module, "hop_size_in_ms", name), name)
        self.fingerprint, self.fingerprint_note = fingerprint_of(module, "X-ARES file, v1", files=(path,))
        self._model = module.eval().to(device)
        self.device = device

    def frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the frames `[T_i, D]` of each wave as the file's class gives them.

        Raises:
            EncoderError: The class raises, or gives something else than `[B, T, output_dim]`.
        """
        return in_one_length(waves, self.sample_rate, self._model, name=self.name, dim=self.dim, device=self.device)


def claims(name: str) -> bool:
    """Return whether `name` is a Python file's."""
    return name.endswith(".py")


def load(name: str, *, device: str = "cpu", precision: str = "fp32") -> Encoder:
    """Return the encoder of the file `name`.

    Raises:
        EncoderError: There is no such file, it cannot be run, it does not have exactly one name that ends in
            `Encoder`, that is no `torch.nn.Module` made without arguments, or it lacks an attribute.
        ConfigError: A precision other than fp32 is asked for: that is the file's own affair.
    """
    require_option("precision", precision, ("fp32",))
    path = Path(name).expanduser()
    module = import_file(path)
    names = [attribute for attribute in dir(module) if attribute.endswith(_ENDING)]
    if len(names) != 1:
        found = ", ".join(names) or "none"
        advice = "import others under another name (import X as _X)" if names else "name the class so"
        raise EncoderError(f"{name}: expected exactly one name ending in {_ENDING}, found {found}; {advice}")
    return XaresFileEncoder(_make(getattr(module, names[0]), names[0], name), name=name, path=path, device=device)


def _make(kind: Any, kind_name: str, name: str) -> Any:
    import torch

    with foreign_errors(f"{name}: expected {kind_name}() to make an encoder without arguments"):
        made = kind()
    if not isinstance(made, torch.nn.Module):
        raise EncoderError(f"{name}: expected {kind_name}() to be a torch.nn.Module, found {type(made).__name__}")
    return made


def _attribute(module: Any, attribute: str, name: str) -> Any:
    if not hasattr(module, attribute):
        raise EncoderError(f"{name}: expected {type(module).__name__} to have an attribute {attribute}, found none")
    return getattr(module, attribute)


def _hop_ms(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 and math.isfinite(value)):
        raise EncoderError(f"{name}: expected hop_size_in_ms to be a number above 0, found {value!r}")
    return float(value)
