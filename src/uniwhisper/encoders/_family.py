"""What a family of encoders declares, and the questions every family answers.

A family is one public module of this package: `FAMILY` says what it holds, `claims` whether a name is its own, `load`
returns an encoder. Importing a family does not load the library that it wraps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from uniwhisper.embed import Encoder
from uniwhisper.errors import ConfigError, ManifestError
from uniwhisper.files import read_json

__all__ = ["Family", "FamilyModule", "Model", "find", "folder_config", "is_hub_id", "require_option"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Model:
    """Pretrained weights of a family that have a name of their own."""

    name: str
    """What `load_encoder` takes."""
    hub_id: str
    """`owner/name` on the hub; empty for what needs no weights."""
    title: str
    """What a table of results calls it."""
    trained_on: tuple[str, ...] = ()
    """The corpora that it has seen, by the names of our sources where we have them."""
    training_known: bool = False
    """Whether `trained_on` is all of them."""
    license: str = ""
    """Of the weights, as their publisher states it; empty where the publisher states none."""
    aliases: tuple[str, ...] = ()
    """Other names that mean the same weights."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Family:
    """Encoders that are loaded in the same way."""

    name: str
    about: str
    """One sentence: what they are, and what `load_encoder` takes for them beside the names of `models`."""
    models: tuple[Model, ...] = ()
    model_types: tuple[str, ...] = ()
    """Values of `model_type` in a hub configuration that belong to this family."""
    examples: tuple[str, ...] = ()
    """What may be written besides the names of models, such as `path/to/checkpoint.pt`; shown in errors and lists."""


class FamilyModule(Protocol):
    """A public module of this package."""

    FAMILY: Family

    def claims(self, name: str) -> bool:
        """Return whether `name` is of this family, by its form and what lies on disk; imports no torch, asks no hub.

        Folders and hub ids whose configuration has a `model_type` of the family need no claim: the registry sees that.
        """
        ...

    def load(self, name: str, *, device: str = "cpu", precision: str = "fp32") -> Encoder:
        """Return the encoder; families with options of their own take them as further keywords with defaults."""
        ...


def find(models: Iterable[Model], name: str) -> Model | None:
    """Return the model called `name` (its name, an alias or its hub id), or None."""
    return next((m for m in models if name and name in (m.name, m.hub_id, *m.aliases)), None)


def is_hub_id(name: str) -> bool:
    """Return whether `name` has the form `owner/name` and is no path that exists."""
    owner, slash, rest = name.partition("/")
    shaped = bool(slash and owner and rest) and "/" not in rest and not name.startswith((".", "~", "/"))
    return shaped and not Path(name).exists() and Path(rest).suffix not in (".py", ".pt", ".pth", ".safetensors")


def folder_config(name: str | Path) -> dict[str, object]:
    """Return config.json of the folder `name`, or an empty mapping where it is no folder with one."""
    path = Path(name).expanduser() / "config.json"
    try:
        config = read_json(path) if path.is_file() else {}
    except ManifestError:
        return {}
    return config if isinstance(config, dict) else {}


def require_option(name: str, value: object, allowed: tuple[object, ...]) -> None:
    """Raise unless `value` is among `allowed`.

    Raises:
        ConfigError: It is not; the message lists what is.
    """
    if value not in allowed:
        raise ConfigError(f"{name}: expected one of {', '.join(map(str, allowed))}, found {value!r}")
