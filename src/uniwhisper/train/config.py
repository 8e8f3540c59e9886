"""The complete description of a training run: frozen dataclasses, to and from JSON, typed overrides, one hash."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from typing import Any, get_type_hints

from uniwhisper.batches import BatchConfig
from uniwhisper.errors import ConfigError
from uniwhisper.files import content_hash
from uniwhisper.instructions import InstructionConfig
from uniwhisper.model.dims import AdapterConfig
from uniwhisper.model.execution import ExecutionConfig
from uniwhisper.train.machine import MachineConfig
from uniwhisper.train.optim import OptimConfig
from uniwhisper.train.warm_start import FinishConfig, StartConfig
from uniwhisper.types import FAMILIES

__all__ = ["TrainConfig", "from_json", "override"]

_OPERATIONAL = ("checkpoint_every", "keep_checkpoints", "cache_mb", "evaluate_every", "execution", "machine")
"""Fields that may change between two parts of one run."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """Everything that decides the weights that come out; paths and devices are arguments of `train`."""

    encoder: str = "whisper-base"
    """Weights that the encoder starts from: a registry name, hub id or folder."""
    decoder: str = "smollm2-135m"
    """The frozen LM: a registry name, hub id or folder."""
    precision: str = "bf16"
    """`bf16`: encoder and adapter under autocast with float32 master weights, decoder stored in bf16; or `fp32`."""
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    batches: BatchConfig = field(default_factory=BatchConfig)
    instructions: InstructionConfig = field(default_factory=InstructionConfig)
    family_shares: dict[str, float] = field(default_factory=dict)
    """Relative chance of a task family among those a clip supports; 1 where not named."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    start: StartConfig = field(default_factory=StartConfig)
    finish: FinishConfig = field(default_factory=FinishConfig)
    accumulation: int = 1
    """Batches whose gradients make up one optimiser step."""
    parallel: int = 1
    """Batches of a step computed at once on a CPU, each by one thread of its own; 1 gives one batch all threads.
    Two threads on two batches need no barrier in every small operation, which is what limits two cores on one batch."""
    ema_decay: float = 0.0
    """Decay a step of the running average of the audio model's weights; 0 keeps the last weights."""
    original_share: float = 0.0
    """Share of the starting weights mixed into the final encoder (WiSE-FT: arXiv 2109.01903); 0 keeps the trained."""
    seed: int = 0
    checkpoint_every: int = 500
    """Optimiser steps between checkpoints."""
    keep_checkpoints: int = 2
    cache_mb: float = 2000.0
    """Memory for decoded training audio (16-bit, 32 kB a second)."""
    evaluate_every: int = 0
    """Optimiser steps between evaluations, where the caller of `train` hands one in; 0 evaluates never."""
    execution: ExecutionConfig = field(default_factory=ExecutionConfig)
    machine: MachineConfig = field(default_factory=MachineConfig)

    def __post_init__(self) -> None:
        if self.precision not in ("bf16", "fp32"):
            raise ConfigError(f"precision: expected bf16 or fp32, found {self.precision!r}")
        if self.evaluate_every < 0:
            raise ConfigError(f"evaluate_every: expected 0 or above, found {self.evaluate_every}")
        if min(self.accumulation, self.checkpoint_every, self.keep_checkpoints) < 1:
            raise ConfigError("expected accumulation, checkpoint_every and keep_checkpoints >= 1")
        if not 1 <= self.parallel <= self.accumulation:
            raise ConfigError(
                f"expected 1 <= parallel <= accumulation, found {self.parallel} and {self.accumulation}: "
                "a step cannot compute more batches at once than it has"
            )
        if not (0 <= self.ema_decay < 1 and 0 <= self.original_share <= 1):
            raise ConfigError("expected 0 <= ema_decay < 1 and 0 <= original_share <= 1")
        if self.optim.weights == "bf16" and self.precision == "fp32":
            raise ConfigError("optim.weights=bf16 computes in bf16: expected precision=bf16, found fp32")
        unknown = sorted(set(self.family_shares) - set(FAMILIES))
        if unknown:
            raise ConfigError(f"family_shares names {unknown}; the task families are {list(FAMILIES)}")

    def to_json(self) -> dict[str, Any]:
        """Return the configuration as JSON-ready values."""
        return asdict(self)

    @property
    def hash(self) -> str:
        """Return the hash of everything that decides the weights; the machine and how often they are saved do not."""
        value = self.to_json()
        for operational in _OPERATIONAL:
            del value[operational]
        return content_hash(value)


def from_json(value: Mapping[str, Any]) -> TrainConfig:
    """Return the configuration stored by `TrainConfig.to_json`.

    Raises:
        ConfigError: A field is unknown or out of range.
    """
    return _build(TrainConfig, value, "")


def _build(kind: type, value: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    unknown = sorted(set(value) - set(hints))
    if unknown:
        raise ConfigError(f"config {where or 'top level'}: unknown fields {unknown}; known: {sorted(hints)}")
    return kind(**{name: _value(hints[name], item, f"{where}{name}") for name, item in value.items()})


def _value(hint: Any, item: Any, where: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(item, Mapping):
            raise ConfigError(f"config {where}: expected an object, found {item!r}")
        return _build(hint, item, f"{where}.")  # type: ignore[arg-type]
    kinds = {bool: bool, int: int, float: (int, float), str: str, dict[str, float]: dict}
    expected = kinds.get(hint, str)  # the rest are choices spelled as text
    if not isinstance(item, expected) or (isinstance(item, bool) and hint is not bool):
        raise ConfigError(f"config {where}: expected {getattr(hint, '__name__', hint)}, found {item!r}")
    return float(item) if hint is float else item


def override(config: Any, assignment: str) -> Any:
    """Return `config` with one field replaced, as `a.b=value` on the command line asks.

    The value is read as the field's own type; `weights.NAME=0.5` sets one key of a mapping.

    Raises:
        ConfigError: No such field, or the value is not of its type.
    """
    path, found, text = assignment.partition("=")
    if not found or not path:
        raise ConfigError(f"--set: expected field=value such as optim.encoder_lr=1e-4, found {assignment!r}")
    return _override(config, path.split("."), text, path)


def _override(config: Any, path: list[str], text: str, whole: str) -> Any:
    head, rest = path[0], path[1:]
    names = [f.name for f in fields(config)]
    if head not in names:
        raise ConfigError(f"--set {whole}: no field {head!r}; expected one of {', '.join(names)}")
    current = getattr(config, head)
    if is_dataclass(current):
        if not rest:
            raise ConfigError(f"--set {whole}: {head} has parts; name one of {[f.name for f in fields(current)]}")
        return replace(config, **{head: _override(current, rest, text, whole)})
    if isinstance(current, dict):
        if not rest:
            raise ConfigError(f"--set {whole}: expected {head}.NAME=number")
        return replace(config, **{head: {**current, ".".join(rest): _parse(text, 0.0, whole)}})
    if rest:
        raise ConfigError(f"--set {whole}: {head} has no parts")
    return replace(config, **{head: _parse(text, current, whole)})


def _parse(text: str, current: Any, whole: str) -> Any:
    if isinstance(current, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ConfigError(f"--set {whole}: expected true or false, found {text!r}")
    if isinstance(current, str):
        return text
    kind = type(current)
    try:
        return kind(text)
    except ValueError as e:
        raise ConfigError(f"--set {whole}: expected {kind.__name__}, found {text!r}") from e
