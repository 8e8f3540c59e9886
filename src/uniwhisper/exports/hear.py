"""HEAR: a module with `load_model`, `get_scene_embeddings` and `get_timestamp_embeddings`.

A scene embedding is the mean over all valid frames. Timestamps are the frames' centres in milliseconds,
(n + 0.5) * hop; a last frame whose centre lies after the end of the clip counts for the scene and has no timestamp.

Source: https://hearbenchmark.com/hear-api.html, and the rates and spacing that hearvalidator 2021.0.6 accepts.
"""

from __future__ import annotations

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uniwhisper.errors import EncoderError
from uniwhisper.exports._waves import check_timed, frames_of, open_encoder, rows_of, write_module

__all__ = ["HearModule", "get_scene_embeddings", "get_timestamp_embeddings", "write"]

_RATES_HZ = (16_000, 22_050, 32_000, 44_100, 48_000)


class HearModule(nn.Module):
    """What `load_model` returns: the encoder and the attributes that HEAR reads."""

    def __init__(self, model: str, *, device: str | None = None) -> None:
        super().__init__()
        self.frames_from = open_encoder(model, device)
        check_timed(self.frames_from, "HEAR")
        self.sample_rate = self.frames_from.sample_rate
        self.scene_embedding_size = self.frames_from.dim
        self.timestamp_embedding_size = self.frames_from.dim
        if self.sample_rate not in _RATES_HZ:
            raise EncoderError(f"HEAR: expected a sample rate out of {_RATES_HZ}, found {self.sample_rate}")


def get_scene_embeddings(audio: Float[Tensor, "n N"], model: HearModule) -> Float[Tensor, "n D"]:
    """Return one vector a clip: the mean over its frames.

    Raises:
        AudioError: The audio has another shape or is not finite.
    """
    return torch.stack([frames.mean(dim=0) for frames in frames_of(model.frames_from, rows_of(audio), audio.device)])


def get_timestamp_embeddings(
    audio: Float[Tensor, "n N"], model: HearModule
) -> tuple[Float[Tensor, "n T D"], Float[Tensor, "n T"]]:
    """Return the frames whose centre lies within the clip, and those centres in milliseconds.

    Raises:
        AudioError: The audio has another shape or is not finite.
    """
    frames = torch.stack(frames_of(model.frames_from, rows_of(audio), audio.device))
    duration_ms = 1000 * audio.shape[-1] / model.sample_rate
    centres_ms = (torch.arange(frames.shape[1], device=audio.device) + 0.5) * model.frames_from.hop_ms
    count = max(1, int((centres_ms <= duration_ms).sum()))
    times_ms = centres_ms[:count].clamp(max=duration_ms)  # a clip shorter than half a hop has one frame all the same
    return frames[:, :count], times_ms.expand(len(frames), -1)


def write(model: str, out: Path) -> None:
    """Write the module of `model` to `out`, after loading it once.

    Raises:
        EncoderError: The encoder cannot be loaded, has no frames, or a sample rate that HEAR does not know.
    """
    HearModule(model, device="cpu")
    body = f"""
from uniwhisper.exports.hear import HearModule, get_scene_embeddings, get_timestamp_embeddings

__all__ = ["get_scene_embeddings", "get_timestamp_embeddings", "load_model"]


def load_model(model_file_path: str = "") -> HearModule:
    return HearModule(model_file_path or {model!r})
"""
    write_module(out, "A HEAR module, written by uniwhisper export.", body)
