"""Encoders to judge and to compare with, behind one protocol; one module per family, and this folder is the registry.

`load_encoder` finds the family that knows a name: each is asked whether the name is its own (`claims`), then the
`model_type` in the configuration of the folder or hub repository decides. What comes out satisfies `embed.Encoder`:
valid frames only, the same frames whatever else is in the list, and a fingerprint made of the weights' bytes, the
preprocessing and the precision. Where weights cannot be had there is an error, never a random stand-in.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from typing import Any, cast

from uniwhisper.embed import Encoder
from uniwhisper.encoders._family import Family, FamilyModule, Model, find, folder_config, is_hub_id
from uniwhisper.errors import ConfigError, EncoderError

__all__ = ["Encoder", "Family", "Model", "list_encoders", "load_encoder"]

_PLAIN = ("conformance",)
"""Public modules of this folder that are no family."""


def list_encoders() -> tuple[Family, ...]:
    """Return every family, in the order of its modules; no wrapped library is loaded for that."""
    return tuple(module.FAMILY for module in _families())


def load_encoder(
    name: str,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    frames: str = "subsampled",
    layer: int | None = None,
) -> Encoder:
    """Return the encoder called `name`, ready to embed.

    Args:
        name: A name or hub id of `list_encoders()`, any hub id whose `model_type` a family knows, a folder in the
            hub's layout, a run folder of ours, a checkpoint file, or what else the families' `about` says.
        device: A torch device.
        precision: `fp32`, or `bf16` where speed matters more than the third digit.
        frames: `subsampled` (40 ms) or `encoder` (20 ms); for Whisper and what is trained from it.
        layer: Take the frames after this layer (0 = what enters the first) instead of the last; for families that
            offer it.

    Raises:
        EncoderError: No family knows the name; the message lists them and what is spelt alike.
        ConfigError: The family does not have that option.
        WeightsError: The weights cannot be had; the message lists every way tried.
    """
    module = _family_of(name)
    options: dict[str, Any] = {}
    if frames != "subsampled":
        options["frames"] = frames
    if layer is not None:
        options["layer"] = layer
    known = inspect.signature(module.load).parameters
    for option, value in options.items():
        if option not in known:
            raise ConfigError(
                f"{option}={value!r}: the family {module.FAMILY.name} of {name!r} has no such option; leave it out"
            )
    return module.load(name, device=device, precision=precision, **options)


def _families() -> tuple[FamilyModule, ...]:
    names = sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
    return tuple(
        cast(FamilyModule, importlib.import_module(f"{__name__}.{name}")) for name in names if name not in _PLAIN
    )


def _family_of(name: str) -> FamilyModule:
    families = _families()
    named = [module for module in families if find(module.FAMILY.models, name) or module.claims(name)]
    if len(named) > 1:
        found = " and ".join(module.FAMILY.name for module in named)
        raise EncoderError(f"expected one family of encoders that knows {name!r}, found {found}: give a full path")
    if named:
        return named[0]
    model_type = str(folder_config(name).get("model_type", ""))
    if not model_type and is_hub_id(name):
        from uniwhisper.encoders._hub import model_type_of

        model_type = model_type_of(name)
    for module in families:
        if model_type and model_type in module.FAMILY.model_types:
            return module
    raise EncoderError(_unknown(name, model_type, families))


def _unknown(name: str, model_type: str, families: tuple[FamilyModule, ...]) -> str:
    models = [model for module in families for model in module.FAMILY.models]
    spellings = [s for m in models for s in (m.name, m.hub_id, *m.aliases) if s]
    alike = difflib.get_close_matches(name, spellings, n=3, cutoff=0.6)
    hint = f" Did you mean {' or '.join(alike)}?" if alike else ""
    seen = f" Its config.json says model_type {model_type!r}, which no family reads." if model_type else ""
    lines = []
    for module in families:
        names = [m.name for m in module.FAMILY.models] + list(module.FAMILY.examples)
        lines.append(f"  {module.FAMILY.name}: {', '.join(names) or module.FAMILY.about}")
    return f"expected the name of an encoder, found {name!r}.{seen}{hint} Known are:\n" + "\n".join(lines)
