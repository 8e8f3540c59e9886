"""HEAR modules: `hear:module` or `hear:module#weights`, where the module follows the HEAR 2021 interface.

Reads the module and whatever it loads itself. Frames are its timestamp embeddings, so a clip's vector is their mean and
not the module's scene embedding. Clips run beside clips of the same length only. The hop is measured once, on noise.

Source: the interface is https://hearbenchmark.com/hear-api.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from uniwhisper.embed import Encoder
from uniwhisper.encoders._family import Family, require_option
from uniwhisper.encoders._foreign import fingerprint_of, foreign_errors, import_module, in_one_length, whole_number
from uniwhisper.errors import EncoderError
from uniwhisper.files import sha256_file

__all__ = ["FAMILY", "HearModuleEncoder", "claims", "load"]

FAMILY = Family(
    name="HEAR module",
    about="an importable module with load_model and get_timestamp_embeddings, after hear:",
    examples=("hear:module", "hear:module#weights"),
)
_PREFIX = "hear:"
_FUNCTIONS = ("load_model", "get_timestamp_embeddings")
_NOISE_S = 4.0
_UNEVEN_MS = 1.0
"""What the interface's own validator allows timestamps to be off."""


class HearModuleEncoder:
    """A HEAR module behind our protocol; see `load`."""

    def __init__(self, module: ModuleType, model: Any, *, name: str, weights: str, device: str) -> None:
        self.name = name
        self._module = module
        self._model = model.eval().to(device)
        self.device = device
        self.sample_rate = whole_number(_attribute(model, "sample_rate", name), f"{name}: sample_rate")
        self.dim = whole_number(
            _attribute(model, "timestamp_embedding_size", name), f"{name}: timestamp_embedding_size"
        )
        self.hop_ms, self.first_frame_ms = self._measure()
        files = tuple(Path(file) for file in (getattr(module, "__file__", None),) if file)
        more = sha256_file(Path(weights)) if weights and Path(weights).is_file() else weights
        self.fingerprint, self.fingerprint_note = fingerprint_of(model, "HEAR module, v1", more, files=files)

    def frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the timestamp embeddings `[T_i, D]` of each wave.

        Raises:
            EncoderError: The module raises, or gives something else than `[n, T, timestamp_embedding_size]`.
        """
        return in_one_length(
            waves,
            self.sample_rate,
            lambda audio: self._timed(audio)[0],
            name=self.name,
            dim=self.dim,
            device=self.device,
        )

    def _timed(self, audio: Any) -> tuple[Any, Any]:
        answer = self._module.get_timestamp_embeddings(audio, self._model)
        if not isinstance(answer, tuple | list) or len(answer) != 2:
            raise EncoderError(
                f"{self.name}: expected get_timestamp_embeddings to give (embeddings, timestamps), found "
                f"{type(answer).__name__}"
            )
        return answer[0], answer[1]

    def _measure(self) -> tuple[float, float]:
        """Return the time between two frames and that of the first, by what the module says of some seconds."""
        import torch

        noise = np.random.default_rng(0).uniform(-0.1, 0.1, size=(1, round(_NOISE_S * self.sample_rate)))
        audio = torch.from_numpy(noise.astype(np.float32)).to(self.device)
        with torch.inference_mode(), foreign_errors(f"{self.name}: expected timestamps for {_NOISE_S:g} s of noise"):
            times_ms = np.asarray(self._timed(audio)[1].float().cpu(), dtype=np.float64)
        if times_ms.ndim != 2 or times_ms.shape[0] != 1 or times_ms.shape[1] < 2:
            raise EncoderError(
                f"{self.name}: expected timestamps [1, T] with at least two for {_NOISE_S:g} s, found "
                f"{list(times_ms.shape)}"
            )
        steps = np.diff(times_ms[0])
        hop_ms = float(np.median(steps))
        if hop_ms <= 0 or np.abs(steps - hop_ms).max() > _UNEVEN_MS:
            raise EncoderError(
                f"{self.name}: expected timestamps in ms at even distances, found from {steps.min():g} to "
                f"{steps.max():g} ms"
            )
        return hop_ms, float(times_ms[0, 0])


def claims(name: str) -> bool:
    """Return whether `name` begins with `hear:`."""
    return name.startswith(_PREFIX)


def load(name: str, *, device: str = "cpu", precision: str = "fp32") -> Encoder:
    """Return the encoder of `hear:module` or `hear:module#weights`; without weights `load_model` takes its default.

    Raises:
        EncoderError: The module cannot be imported, lacks a function or attribute, or its model is none of torch.
        ConfigError: A precision other than fp32 is asked for: that is the module's own affair.
    """
    require_option("precision", precision, ("fp32",))
    module_name, _, weights = name.removeprefix(_PREFIX).partition("#")
    module = import_module(module_name, name)
    missing = [function for function in _FUNCTIONS if not callable(getattr(module, function, None))]
    if missing:
        raise EncoderError(f"{name}: expected a HEAR module with {' and '.join(missing)}, found none in {module_name}")
    with foreign_errors(f"{name}: expected load_model to return a model"):
        model = module.load_model(weights) if weights else module.load_model()
    import torch

    if not isinstance(model, torch.nn.Module):
        raise EncoderError(
            f"{name}: expected load_model to return a torch.nn.Module, found {type(model).__name__}; "
            "TensorFlow models cannot be run"
        )
    return HearModuleEncoder(module, model, name=name, weights=weights, device=device)


def _attribute(model: Any, attribute: str, name: str) -> Any:
    if not hasattr(model, attribute):
        raise EncoderError(f"{name}: expected its model to have an attribute {attribute}, found none")
    return getattr(model, attribute)
