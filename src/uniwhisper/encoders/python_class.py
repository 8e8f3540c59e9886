"""A user's own class: `my_pkg.module:MyEncoder`, made without arguments, with our protocol's attributes and `frames`.

Reads the module and whatever it loads itself. A missing `name` is what was asked for; a missing `fingerprint` is made
from the weights of a torch module, or else from the source file alone, and then `fingerprint_note` says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from uniwhisper.embed import Encoder
from uniwhisper.encoders._family import Family, require_option
from uniwhisper.encoders._foreign import fingerprint_of, foreign_errors, import_module
from uniwhisper.errors import EncoderError

__all__ = ["FAMILY", "PythonClassEncoder", "claims", "load"]

FAMILY = Family(
    name="Python class",
    about="your own class with sample_rate, dim, hop_ms and frames(waves), as module:Class",
    examples=("my_pkg.module:MyEncoder",),
)
_FORM = re.compile(r"(?!hear:)[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_NEEDED = ("sample_rate", "dim", "hop_ms", "frames")


class PythonClassEncoder:
    """A user's instance with the name and the fingerprint that it lacks; every other attribute is its own."""

    def __init__(self, instance: Any, *, name: str) -> None:
        self._instance = instance
        self.name: str = getattr(instance, "name", name)
        self.sample_rate: int = instance.sample_rate
        self.dim: int = instance.dim
        self.hop_ms: float = instance.hop_ms
        self.fingerprint_note = ""
        if hasattr(instance, "fingerprint"):
            self.fingerprint = instance.fingerprint
        else:
            self.fingerprint, self.fingerprint_note = fingerprint_of(instance, name)

    def __getattr__(self, attribute: str) -> Any:
        if attribute == "_instance":  # looked up before it is set, by copy and pickle
            raise AttributeError(attribute)
        return getattr(self._instance, attribute)

    def frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return what the instance returns for the waves."""
        return self._instance.frames(waves)


def claims(name: str) -> bool:
    """Return whether `name` has the form `module.path:Class`."""
    return _FORM.fullmatch(name) is not None


def load(name: str, *, device: str = "cpu", precision: str = "fp32") -> Encoder:
    """Return an instance of the class `name`, moved to `device` if it has a method `to`, in evaluation mode.

    Raises:
        EncoderError: The module cannot be imported, has no such class, or the class cannot be made without arguments
            or lacks part of the protocol.
        ConfigError: A precision other than fp32 is asked for: that is the class's own affair.
    """
    require_option("precision", precision, ("fp32",))
    module_name, _, class_name = name.partition(":")
    module = import_module(module_name, name)
    kind = getattr(module, class_name, None)
    if not callable(kind):
        raise EncoderError(f"{name}: expected a class {class_name} in {module_name}, found {kind!r}")
    with foreign_errors(f"{name}: expected {class_name}() to make an encoder without arguments"):
        instance: Any = kind()
        for method, arguments in (("eval", ()), ("to", (device,))):
            if callable(getattr(instance, method, None)):
                getattr(instance, method)(*arguments)
    missing = [attribute for attribute in _NEEDED if not hasattr(instance, attribute)]
    if missing:
        raise EncoderError(
            f"{name}: expected the attributes {', '.join(_NEEDED)}, found no {', '.join(missing)}; "
            "see uniwhisper.Encoder for what each means"
        )
    return PythonClassEncoder(instance, name=name)
