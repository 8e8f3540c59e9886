"""The encoder folder that users load: `model.safetensors`, `config.json` with provenance, and `DONE` last.

Reads and writes one folder; `DONE` holds the sha256 of the weights, so weights that were changed are never loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from uniwhisper.errors import CheckpointError
from uniwhisper.files import is_done, mark_done, read_json, sha256_file, write_json
from uniwhisper.model.dims import EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.uniwhisper import AudioModel

__all__ = ["encoder_provenance", "load_audio_model", "save_audio_model"]

_FORMAT = "uniwhisper-encoder"


def save_audio_model(folder: Path, model: AudioModel, provenance: Mapping[str, Any]) -> Path:
    """Write the encoder that users load: weights, sizes and provenance; `DONE` holds the weights' hash."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "DONE").unlink(missing_ok=True)
    weights = folder / "model.safetensors"
    save_file({name: value.detach().contiguous().cpu() for name, value in model.state_dict().items()}, weights)
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


def _load(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (OSError, SafetensorError) as e:
        raise CheckpointError(f"expected safetensors at {path}, found: {e}") from e
