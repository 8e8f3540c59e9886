"""Checkpoints and encoder folders: safetensors and JSON only (nothing is ever unpickled), `DONE` last.

A checkpoint `checkpoints/step_0000500/` holds `model.safetensors` (encoder, subsampler, adapter), `optim.safetensors`,
`average.safetensors` where weights are averaged, and `state.json`. An encoder folder is what users load: the audio
model alone with a `config.json` that says what it is and what made it.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uniwhisper.errors import CheckpointError
from uniwhisper.files import is_done, mark_done, read_json, sha256_file, write_json
from uniwhisper.model.dims import EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.uniwhisper import AudioModel

__all__ = [
    "Checkpoint",
    "encoder_provenance",
    "latest_checkpoint",
    "load_audio_model",
    "load_checkpoint",
    "save_audio_model",
    "save_checkpoint",
]

_FORMAT = "uniwhisper-encoder"


class Checkpoint:
    """What a run needs to go on: tensors by name and the state of the run."""

    def __init__(
        self, *, model: Mapping[str, Tensor], optim: Mapping[str, Tensor], average: Mapping[str, Tensor], state: Any
    ) -> None:
        self.model = dict(model)
        self.optim = dict(optim)
        self.average = dict(average)
        self.state: dict[str, Any] = dict(state)


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimiser's moments and counters under `<parameter number>.<name>`."""
    return {
        f"{number}.{name}": value
        for number, entry in optimizer.state_dict()["state"].items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors of `optimizer_tensors` back; the groups stay as the configuration made them."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        number, _, name = key.partition(".")
        state.setdefault(int(number), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(folder: Path, checkpoint: Checkpoint, *, keep: int) -> Path:
    """Write a checkpoint below `folder`, mark it done, then remove the oldest beyond `keep`; returns its folder."""
    target = folder / f"step_{checkpoint.state['step']:07d}"
    temporary = folder / f".{target.name}.part"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    _save(temporary / "model.safetensors", checkpoint.model)
    _save(temporary / "optim.safetensors", checkpoint.optim)
    if checkpoint.average:
        _save(temporary / "average.safetensors", checkpoint.average)
    write_json(temporary / "state.json", checkpoint.state)
    mark_done(temporary, checkpoint.state["config_hash"])
    shutil.rmtree(target, ignore_errors=True)
    temporary.rename(target)
    for old in _complete(folder)[:-keep]:
        shutil.rmtree(old)
    return target


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest complete checkpoint below `folder`, or None."""
    complete = _complete(folder)
    return complete[-1] if complete else None


def load_checkpoint(folder: Path, *, config_hash: str) -> Checkpoint:
    """Return the checkpoint in `folder`.

    Raises:
        CheckpointError: It was written for another configuration, or a file is damaged.
    """
    state = read_json(folder / "state.json")
    if not is_done(folder, config_hash):
        raise CheckpointError(
            f"{folder}: this run's configuration differs from the one that wrote the checkpoint "
            f"({state.get('config_hash', '?')[:8]} there, {config_hash[:8]} here). "
            "Use another --out, or the old settings"
        )
    average = folder / "average.safetensors"
    return Checkpoint(
        model=_load(folder / "model.safetensors"),
        optim=_load(folder / "optim.safetensors"),
        average=_load(average) if average.exists() else {},
        state=state,
    )


def save_audio_model(folder: Path, model: AudioModel, provenance: Mapping[str, Any]) -> Path:
    """Write the encoder that users load: weights, sizes and provenance; `DONE` holds the weights' hash."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "DONE").unlink(missing_ok=True)
    weights = folder / "model.safetensors"
    _save(weights, model.state_dict())
    config = {"format": _FORMAT, "hop_ms": 40, **model.encoder.dims.to_hub(), "provenance": dict(provenance)}
    write_json(folder / "config.json", config)
    mark_done(folder, sha256_file(weights))
    return folder


def load_audio_model(folder: Path) -> AudioModel:
    """Return the audio model stored by `save_audio_model`, in eval mode.

    Raises:
        CheckpointError: The folder is incomplete, of another kind, or its weights do not match its configuration.
    """
    if not (folder / "DONE").exists():
        raise CheckpointError(
            f"expected a finished encoder folder at {folder} (with DONE), found none; was it interrupted?"
        )
    config = read_json(folder / "config.json")
    if config.get("format") != _FORMAT:
        raise CheckpointError(f"{folder}/config.json: expected format {_FORMAT!r}, found {config.get('format')!r}")
    dims = EncoderDims(
        n_mels=config["num_mel_bins"],
        n_audio_ctx=config["max_source_positions"],
        n_audio_state=config["d_model"],
        n_audio_head=config["encoder_attention_heads"],
        n_audio_layer=config["encoder_layers"],
    )
    if not is_done(folder, sha256_file(folder / "model.safetensors")):
        raise CheckpointError(f"{folder}: the weights are not the ones that were saved (their hash differs from DONE)")
    model = AudioModel(AudioEncoder(dims))
    try:
        model.load_state_dict(_load(folder / "model.safetensors"))
    except RuntimeError as e:
        raise CheckpointError(f"{folder}/model.safetensors does not fit its config.json: {e}") from e
    return model.eval()


def encoder_provenance(folder: Path) -> dict[str, Any]:
    """Return what an encoder folder says of its making: `config`, `mixture` (its keys are the corpora), `data`, ...

    Raises:
        ManifestError: There is no config.json in the folder, or it is not JSON.
    """
    return dict(read_json(folder / "config.json").get("provenance") or {})


def _complete(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step_*") if (p / "DONE").exists())


def _save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: value.detach().contiguous().cpu() for name, value in tensors.items()}, path)


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as e:
        raise CheckpointError(
            f"expected safetensors at {path}, found: {e}; delete the folder to go back one checkpoint"
        ) from e
