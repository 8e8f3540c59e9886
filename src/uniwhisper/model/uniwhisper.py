"""The whole network: encoder -> subsampler -> adapter -> frozen decoder, and its loss.

The part that users keep is `AudioModel` (encoder + subsampler); `UniWhisper` adds what training needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uniwhisper.model.adapter import Adapter, Subsampler
from uniwhisper.model.decoder import Decoder, Turn
from uniwhisper.model.dims import AdapterConfig
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.execution import ExecutionConfig
from uniwhisper.model.packing import Packed, segment_means

__all__ = ["AudioModel", "Losses", "UniWhisper"]


class Losses(NamedTuple):
    """What a forward pass of training returns."""

    tokens: Float[Tensor, " N"]
    """Loss of every answer token, packed by example, in float32."""
    means: Float[Tensor, "C D"]
    """Mean 40 ms frame of every clip, in float32 and without gradient: what the embedding of the clip is now."""


class AudioModel(nn.Module):
    """The universal audio encoder: Whisper's encoder and the stride-2 subsampler."""

    def __init__(self, encoder: AudioEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.subsampler = Subsampler(encoder.dims.n_audio_state)

    def forward(self, mels: Sequence[Float[Tensor, "M F"]], tails: Sequence[Float[Tensor, "M 2"] | float]) -> Packed:
        """Return 40 ms frames of every clip."""
        return self.subsampler(self.encoder(mels, tails))


class UniWhisper(nn.Module):
    """Audio model, adapter and frozen decoder; `forward` is the training loss."""

    def __init__(
        self,
        *,
        audio: AudioModel,
        decoder: Decoder,
        adapter: AdapterConfig,
        precision: torch.dtype | None = None,
        execution: ExecutionConfig | None = None,
    ) -> None:
        """Put the parts together.

        Args:
            audio: Encoder and subsampler, in float32.
            decoder: The frozen LM, in whatever type it was loaded.
            adapter: Shape of the adapter.
            precision: Type of the matrix products of encoder and adapter under autocast; None computes in float32.
            execution: How encoder and decoder compute; None leaves each as it is set.
        """
        super().__init__()
        self.audio = audio
        self.adapter = Adapter(width=audio.encoder.dims.n_audio_state, decoder_width=decoder.width, config=adapter)
        self.decoder = decoder
        self.precision = precision
        self._audio_frozen = False
        if execution is not None:
            audio.encoder.execution = decoder.execution = execution

    def freeze_audio(self, frozen: bool) -> None:
        """Run the audio model without gradients (the alignment phase), or with them."""
        self._audio_frozen = frozen

    def forward(
        self, mels: Sequence[Float[Tensor, "M F"]], tails: Sequence[Float[Tensor, "M 2"] | float], turns: Sequence[Turn]
    ) -> Losses:
        """Return the loss of every answer token; the caller takes the mean of the global batch.

        Raises:
            EncoderError: A log-mel is empty, too long, or has another number of bins.
            ConfigError: The attention kernel that was asked for cannot run on this device.
        """
        device = self.decoder.embedding.device.type
        with torch.autocast(device, dtype=self.precision or torch.bfloat16, enabled=self.precision is not None):
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self._audio_frozen):
                frames = self.audio(mels, tails)
            inputs = self.adapter(frames)
        means = segment_means(Packed(values=frames.values.detach(), lengths=frames.lengths))
        return Losses(tokens=self.decoder.answer_losses(inputs, turns), means=means)

    def trainable_state(self) -> dict[str, Tensor]:
        """Return the state of what training changes: audio model and adapter, never the decoder."""
        return {k: v for k, v in self.state_dict().items() if not k.startswith("decoder.")}
