"""Sizes of the network's parts, in Whisper's own names, and how to read them from a hub-layout `config.json`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from uniwhisper.errors import ConfigError, WeightsError
from uniwhisper.files import read_json

__all__ = ["AdapterConfig", "EncoderDims", "read_encoder_dims"]


@dataclass(frozen=True, kw_only=True, slots=True)
class EncoderDims:
    """Sizes of a Whisper audio encoder.

    Source: openai/whisper, `whisper/model.py`, class `ModelDimensions` (the audio half).
    """

    n_mels: int
    """Mel bins of the input: 80, or 128 for large-v3."""
    n_audio_ctx: int
    """Encoder frames of the 30 s window: 1500 at 50 Hz."""
    n_audio_state: int
    """Width of the encoder."""
    n_audio_head: int
    n_audio_layer: int

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 1:
                raise ConfigError(f"encoder dims: expected {name} >= 1, found {value}")
        if self.n_audio_state % self.n_audio_head:
            raise ConfigError(
                f"encoder dims: expected n_audio_state divisible by n_audio_head, "
                f"found {self.n_audio_state} / {self.n_audio_head}"
            )

    def to_hub(self) -> dict[str, Any]:
        """Return the same sizes under the names of a hub `config.json`."""
        return {
            "num_mel_bins": self.n_mels,
            "max_source_positions": self.n_audio_ctx,
            "d_model": self.n_audio_state,
            "encoder_attention_heads": self.n_audio_head,
            "encoder_layers": self.n_audio_layer,
            "encoder_ffn_dim": 4 * self.n_audio_state,
        }


def read_encoder_dims(folder: Path) -> EncoderDims:
    """Return the encoder sizes stated in `folder/config.json` (hub layout).

    Raises:
        WeightsError: The file lacks a field, or its feed-forward width is not 4 x the model width.
    """
    config = read_json(folder / "config.json")
    try:
        dims = EncoderDims(
            n_mels=config["num_mel_bins"],
            n_audio_ctx=config["max_source_positions"],
            n_audio_state=config["d_model"],
            n_audio_head=config["encoder_attention_heads"],
            n_audio_layer=config["encoder_layers"],
        )
    except KeyError as e:
        raise WeightsError(
            f"expected a Whisper config.json in {folder}, found no field {e}; is this folder another kind of model?"
        ) from e
    if config.get("encoder_ffn_dim", 4 * dims.n_audio_state) != 4 * dims.n_audio_state:
        raise WeightsError(
            f"expected encoder_ffn_dim = 4 x d_model in {folder}/config.json, found {config['encoder_ffn_dim']}"
        )
    return dims


@dataclass(frozen=True, kw_only=True, slots=True)
class AdapterConfig:
    """How encoder frames become decoder inputs."""

    reduction: int = 1
    """Consecutive 40 ms frames that share one decoder position (1 = the paper's 40 ms, 4 = 160 ms)."""
    hidden: int = 1024
    """Width of the MLP's hidden layer."""

    def __post_init__(self) -> None:
        if self.reduction < 1 or self.hidden < 1:
            raise ConfigError(
                f"adapter: expected reduction >= 1 and hidden >= 1, found {self.reduction} and {self.hidden}"
            )
