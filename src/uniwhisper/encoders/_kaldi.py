"""Kaldi's log-mel filter bank, which BEATs and AST see: frames of 25 ms every 10 ms at 16 kHz, 512-point transform.

No dither, no energy term, offsets removed per frame, pre-emphasis 0.97 within a frame, frames only where all 400
samples are there. Computed in float32 blocks, so ten minutes never lie in memory as a spectrum.

Source: kaldi-asr/kaldi src/feat/feature-window.cc and mel-computations.cc as torchaudio.compliance.kaldi.fbank states
them (pytorch.org/audio, compliance.kaldi), with its defaults low_freq=20, high_freq=0 (Nyquist).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["FRAME_SAMPLES", "SHIFT_SAMPLES", "fbank", "num_fbank_frames"]

FRAME_SAMPLES = 400
SHIFT_SAMPLES = 160
_N_FFT = 512
_PREEMPHASIS = 0.97
_LOW_HZ, _HIGH_HZ = 20.0, 8000.0
_POVEY_EXPONENT = 0.85
_BLOCK_FRAMES = 2048
_FLOOR = float(np.finfo(np.float32).eps)


def num_fbank_frames(num_samples: int) -> int:
    """Return how many frames a clip has."""
    return max(0, (num_samples - FRAME_SAMPLES) // SHIFT_SAMPLES + 1)


def fbank(
    wave: Float[Tensor, " samples"], *, bands: int = 128, window: Literal["povey", "hanning"] = "povey"
) -> Float[Tensor, "frames bands"]:
    """Return the log-mel filter bank of a wave at 16 kHz, on its device; the scale of the samples is the caller's."""
    frames = num_fbank_frames(len(wave))
    filters = torch.from_numpy(_filters(bands)).to(wave.device)
    taper = torch.from_numpy(_taper(window)).to(wave.device)
    blocks = []
    for start in range(0, frames, _BLOCK_FRAMES):
        count = min(_BLOCK_FRAMES, frames - start)
        first = start * SHIFT_SAMPLES
        samples = wave[first : first + (count - 1) * SHIFT_SAMPLES + FRAME_SAMPLES].float()
        cut = samples.unfold(0, FRAME_SAMPLES, SHIFT_SAMPLES)
        cut = cut - cut.mean(dim=1, keepdim=True)
        before = torch.cat([cut[:, :1], cut[:, :-1]], dim=1)
        power = torch.fft.rfft((cut - _PREEMPHASIS * before) * taper, n=_N_FFT).abs().square()
        blocks.append((power[:, : _N_FFT // 2] @ filters.T).clamp_min(_FLOOR).log())
    return torch.cat(blocks) if blocks else wave.new_zeros(0, bands)


@lru_cache(maxsize=4)
def _taper(window: str) -> Float[np.ndarray, " 400"]:
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FRAME_SAMPLES) / (FRAME_SAMPLES - 1))
    return (hann**_POVEY_EXPONENT if window == "povey" else hann).astype(np.float32)


@lru_cache(maxsize=4)
def _filters(bands: int) -> Float[np.ndarray, "bands 256"]:
    """Return triangles that are even on Kaldi's mel scale, 1127 ln(1 + f / 700), one row per band."""

    def mel(hz: np.ndarray | float) -> np.ndarray:
        return 1127.0 * np.log1p(np.asarray(hz) / 700.0)

    step = (mel(_HIGH_HZ) - mel(_LOW_HZ)) / (bands + 1)
    left = mel(_LOW_HZ) + step * np.arange(bands)[:, None]
    bins = mel(16_000 / _N_FFT * np.arange(_N_FFT // 2))[None, :]
    rising, falling = (bins - left) / step, (left + 2 * step - bins) / step
    return np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
