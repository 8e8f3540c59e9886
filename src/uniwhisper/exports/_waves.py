"""What every export does: load an encoder, clip samples, run clips at their true length, and answer in tensors.

Reads weights through `encoders.load_encoder`; writes one small file. Guarantees float32 answers on the device that the
audio came from, and that a clip's frames are those of the clip alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uniwhisper.embed import Encoder
from uniwhisper.encoders import load_encoder
from uniwhisper.errors import AudioError, EncoderError
from uniwhisper.files import write_text

__all__ = ["check_timed", "frames_of", "open_encoder", "rows_of", "write_module"]


def open_encoder(model: str, device: str | None = None) -> Encoder:
    """Return the encoder `model` on `device`, or on the GPU where there is one."""
    return load_encoder(model, device=device or ("cuda" if torch.cuda.is_available() else "cpu"))


def check_timed(encoder: Encoder, harness: str) -> None:
    """Raise unless the encoder has frames with times.

    Raises:
        EncoderError: It gives one row a clip.
    """
    if getattr(encoder, "whole_clip", False):
        raise EncoderError(f"{harness}: expected an encoder with frames, found {encoder.name} with one row a clip")


def rows_of(audio: Tensor) -> list[np.ndarray]:
    """Return the clips of `[N]` or `[B, N]` as float32 waves within [-1, 1].

    The harnesses pass noise beyond full scale and lossy files that overshoot; both are clipped, as our reader does.

    Raises:
        AudioError: The shape is another, or the audio is not finite or empty.
    """
    if audio.ndim not in (1, 2) or audio.numel() == 0:
        raise AudioError(f"expected audio [samples] or [clips, samples], found {list(audio.shape)}")
    values = audio.detach().float().cpu().numpy()
    if not np.isfinite(values).all():
        raise AudioError(f"expected finite samples, found {int((~np.isfinite(values)).sum())} NaN or infinite")
    return list(np.clip(np.atleast_2d(values), -1.0, 1.0))


def frames_of(encoder: Encoder, waves: Sequence[np.ndarray], device: torch.device) -> list[Float[Tensor, "_ D"]]:
    """Return the frames of each wave as float32 tensors on `device`."""
    return [torch.from_numpy(np.ascontiguousarray(frames)).to(device) for frames in encoder.frames(waves)]


def write_module(path: Path, title: str, body: str) -> None:
    """Write a Python file with the docstring `title` and the code `body`."""
    write_text(path, f'"""{title}"""\n\nfrom __future__ import annotations\n\n{body.strip()}\n')
