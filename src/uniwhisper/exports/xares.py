"""X-ARES: a file with exactly one name ending in `Encoder`, a torch module made without arguments.

X-ARES pads the clips of a batch with zeros and does not say where they end, so what comes in is taken at its full
length; only the harness could do better. It files embeddings and scores under the name of the class alone, so the name
written holds a hash of the fingerprint: two encoders never share a cache there.

Source: https://github.com/jimbozhang/xares src/xares/audio_encoder_checker.py and src/xares/utils.py, version 0.1.3
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from uniwhisper.exports._waves import check_timed, frames_of, open_encoder, rows_of, write_module
from uniwhisper.files import content_hash

__all__ = ["XaresModule", "write"]


class XaresModule(nn.Module):
    """An encoder as X-ARES calls it.

    It has no parameters of its own to move or save: the encoder stays on the device where it was loaded, and answers
    come back on the audio's.
    """

    def __init__(self, model: str, *, device: str | None = None) -> None:
        super().__init__()
        self._frames_from = open_encoder(model, device)
        check_timed(self._frames_from, "X-ARES")
        self.sampling_rate = self._frames_from.sample_rate
        self.output_dim = self._frames_from.dim
        self.hop_size_in_ms = self._frames_from.hop_ms

    def forward(self, audio: Float[Tensor, "*B N"]) -> Float[Tensor, "B T D"]:
        """Return the frames of every clip, which are as long as each other.

        Raises:
            AudioError: The audio has another shape or is not finite.
        """
        return torch.stack(frames_of(self._frames_from, rows_of(audio), audio.device))


def write(model: str, out: Path) -> None:
    """Write the encoder file of `model` to `out`, after loading it once.

    Raises:
        EncoderError: The encoder cannot be loaded, or has no frames.
    """
    encoder = open_encoder(model, "cpu")
    check_timed(encoder, "X-ARES")
    label = re.sub(r"\W+", "_", Path(model).name.removesuffix(".py"), flags=re.ASCII)
    body = f"""
from uniwhisper.exports.xares import XaresModule


class UniWhisper_{label}_{content_hash(encoder.fingerprint)[:8]}Encoder(XaresModule):
    def __init__(self) -> None:
        super().__init__({model!r})
"""
    write_module(out, "An encoder file for X-ARES, written by uniwhisper export.", body)
