"""XARES-LLM: a class whose `forward(audio, audio_attention_mask)` returns features and their mask.

Here the harness says where each clip ends, so clips run at their true length and zeros after it are never encoded.

Source: https://github.com/xiaomi-research/xares-llm src/xares_llm/modeling_audiollm/modeling_xaresllm.py: the mask has
    one value a sample, 1 where there is sound, and the answer's mask one a frame, joined to the text's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from uniwhisper.errors import AudioError
from uniwhisper.exports._waves import check_timed, frames_of, open_encoder, rows_of, write_module

__all__ = ["XaresLlmModule", "write"]


class XaresLlmModule(nn.Module):
    """An encoder as XARES-LLM calls it; `options` of its command line other than `device` are refused by name."""

    def __init__(self, model: str, *, device: str | None = None) -> None:
        super().__init__()
        self._frames_from = open_encoder(model, device)
        check_timed(self._frames_from, "XARES-LLM")
        self.sampling_rate = self._frames_from.sample_rate
        self.output_dim = self._frames_from.dim
        self.hop_size_in_ms = self._frames_from.hop_ms

    def forward(
        self, audio: Float[Tensor, "*B N"], audio_attention_mask: Shaped[Tensor, "*B N"] | None = None
    ) -> tuple[Float[Tensor, "B T D"], Shaped[Tensor, "B T"]]:
        """Return the frames, zero after a clip's end, and a mask that is 1 where there are frames.

        Raises:
            AudioError: The audio or the mask has another shape, or a clip has no samples.
        """
        waves = rows_of(audio)
        if audio_attention_mask is not None:
            waves = [wave[:length] for wave, length in zip(waves, _lengths(audio, audio_attention_mask), strict=True)]
        frames = frames_of(self._frames_from, waves, audio.device)
        counts = torch.tensor([len(one) for one in frames], device=audio.device)
        features = nn.utils.rnn.pad_sequence(frames, batch_first=True)
        mask = torch.arange(features.shape[1], device=audio.device)[None] < counts[:, None]
        return features, mask.to(torch.int64 if audio_attention_mask is None else audio_attention_mask.dtype)


def _lengths(audio: Tensor, mask: Any) -> list[int]:
    """Return how many samples of each clip are sound; they come first."""
    if mask.shape != audio.shape:
        raise AudioError(f"expected a mask with one value a sample {list(audio.shape)}, found {list(mask.shape)}")
    kept = torch.atleast_2d(mask) > 0
    lengths = kept.sum(dim=-1).tolist()
    if min(lengths) == 0:
        raise AudioError(f"expected sound in every clip, found a mask without any for clip {lengths.index(0)}")
    if not all(bool(row[:length].all()) for row, length in zip(kept, lengths, strict=True)):
        raise AudioError(
            "expected masks that are 1 first and 0 after, found one with a gap: padding belongs to the end"
        )
    return [int(length) for length in lengths]


def write(model: str, out: Path) -> None:
    """Write the module of `model` to `out`, after loading it once.

    Raises:
        EncoderError: The encoder cannot be loaded, or has no frames.
    """
    XaresLlmModule(model, device="cpu")
    body = f"""
from uniwhisper.exports.xares_llm import XaresLlmModule


class UniWhisperEncoder(XaresLlmModule):
    def __init__(self, **options) -> None:
        super().__init__({model!r}, **options)
"""
    write_module(out, "An encoder class for XARES-LLM, written by uniwhisper export.", body)
