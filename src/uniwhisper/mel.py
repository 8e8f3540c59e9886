"""Whisper's log-mel spectrogram: at true length, in batches of any lengths, and padded to 30 s for compatibility.

Reads waves as `uniwhisper.audio` makes them (mono, 16 kHz, in [-1, 1]); returns float32 on the wave's device, 100
frames per second. Guarantees:

* `log_mel_padded` equals openai-whisper's `log_mel_spectrogram(pad_or_trim(wave))` and `WhisperFeatureExtractor`.
* `log_mel` is the padded one cut at the clip's own frames, F = ceil(samples / 160). Frames at the right end therefore
  see zeros after the clip, as in Whisper's 30 s window, and not a reflection; the left end is reflected, as there.
* Frames of `log_mel_batch` after a clip's end hold `silence_value` of that clip and never depend on its neighbours.

Shape letters: B batch, S samples, M mel bins, F mel frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from uniwhisper.audio import HOP_LENGTH, N_FFT, SAMPLE_RATE, WINDOW_SAMPLES
from uniwhisper.errors import AudioError

__all__ = [
    "log_mel",
    "log_mel_batch",
    "log_mel_padded",
    "log_mel_tails",
    "mel_filters",
    "num_mel_frames",
    "silence_value",
]

N_MELS = (80, 128)
"""Mel bins of the released Whisper models: 80 up to large-v2, 128 from large-v3 on."""

_POWER_FLOOR = 1e-10
_DYNAMIC_RANGE = 8.0  # powers of ten below the loudest value of the clip
_TAIL_FRAMES = 2  # frames that start before the clip's end but are centred after it: they can hold the loudest value
_GAP_FRAMES = 4  # hops that one clip occupies beyond its own frames, so that no window reaches into the next clip
_BLOCK_FRAMES = 2048  # frames per Fourier transform: large enough for two threads, small enough to be reused by malloc


def num_mel_frames(num_samples: int) -> int:
    """Return how many mel frames a clip has: one per started hop of 10 ms."""
    return -(-num_samples // HOP_LENGTH)


@lru_cache(maxsize=8)
def mel_filters(n_mels: int = 80) -> Float[Tensor, "n_mels bins"]:
    """Return the triangular mel filters of equal area on Slaney's scale, 0 to 8 kHz, as one row per mel bin.

    Computed in float64 and rounded once. The result is shared between callers: do not write to it.

    Raises:
        AudioError: `n_mels` is neither 80 nor 128.

    Source: the scale (linear to 1 kHz, then 27 steps per factor 6.4) and the area normalisation are those of Malcolm
        Slaney, Auditory Toolbox, Technical Report 1998-010, as openai/whisper uses them through librosa's defaults.
    """
    if n_mels not in N_MELS:
        raise AudioError(f"expected n_mels to be one of {N_MELS}, as the Whisper models have; found {n_mels}")
    knee_hz, knee_mel, hz_per_mel = 1000.0, 15.0, 200.0 / 3.0
    mels_per_nat = 27.0 / np.log(6.4)
    top_mel = knee_mel + mels_per_nat * np.log(SAMPLE_RATE / 2 / knee_hz)
    mel = np.linspace(0.0, top_mel, n_mels + 2)
    above_knee_hz = knee_hz * np.exp(np.maximum(mel - knee_mel, 0.0) / mels_per_nat)
    corner_hz = np.where(mel < knee_mel, mel * hz_per_mel, above_knee_hz)
    bin_hz = np.linspace(0.0, SAMPLE_RATE / 2, N_FFT // 2 + 1)
    low, centre, high = corner_hz[:-2, None], corner_hz[1:-1, None], corner_hz[2:, None]
    triangle = np.minimum((bin_hz - low) / (centre - low), (high - bin_hz) / (high - centre)).clip(min=0.0)
    return torch.from_numpy((triangle * 2.0 / (high - low)).astype(np.float32))


def silence_value(mel: Float[Tensor, "*batch n_mels frames"]) -> Float[Tensor, "*batch"]:
    """Return the value that Whisper's padding has in the log-mel of each clip: 2 below its maximum, at least -1.5.

    Digital silence has power 1e-10, so -10 before scaling; it is raised to 8 below the clip's maximum and mapped by
    (x + 4) / 4 like every other value. Padding after the clip does not change the result. Where the loudest window of a
    clip is centred after its last hop (a click in the last samples), Whisper's own padding lies above this value.
    """
    silence = (np.log10(_POWER_FLOOR) + 4.0) / 4.0
    return (mel.amax(dim=(-2, -1)) - _DYNAMIC_RANGE / 4.0).clamp(min=silence)


def log_mel(wave: Float[Tensor, " samples"], n_mels: int = 80) -> Float[Tensor, "n_mels frames"]:
    """Return Whisper's log-mel of a clip at its true length, ceil(samples / 160) frames of any number.

    Equal to the first frames of `log_mel_padded` for every clip of up to 29.98 s; the reference reflects a clip that
    fills its 30 s window at the right end too, which changes the last frame. The dynamic range is that of the whole
    clip, as openai-whisper has it for a long recording; to treat its windows separately, cut the wave first.

    Args:
        wave: Mono audio at 16 kHz in [-1, 1].
        n_mels: 80, or 128 for large-v3 and its kin.

    Raises:
        AudioError: `wave` is empty, not one-dimensional or not finite, or `n_mels` is neither 80 nor 128.

    Source: openai/whisper (2025-06) whisper/audio.py; parity in tests/test_mel.py.
    """
    return log_mel_batch([wave], n_mels)[0][0]


@torch.no_grad()
def log_mel_padded(wave: Float[Tensor, " samples"], n_mels: int = 80) -> Float[Tensor, "n_mels 3000"]:
    """Return the log-mel of a clip zero-padded to 30 s: exactly the input of a stock Whisper encoder.

    Raises:
        AudioError: As in `log_mel`, or the clip is longer than 30 s: cut it first, nothing is cut here silently.
    """
    _check(wave, 0)
    if len(wave) > WINDOW_SAMPLES:
        found = f"{len(wave) / SAMPLE_RATE:.2f} s"
        raise AudioError(f"expected at most 30 s of audio for a padded log-mel, found {found}: cut the wave first")
    padded = torch.nn.functional.pad(wave.float(), (0, WINDOW_SAMPLES - len(wave)))
    signal = torch.nn.functional.pad(padded[None], (N_FFT // 2, N_FFT // 2), mode="reflect")[0]
    log_power = _log_power(signal, mel_filters(n_mels).to(wave.device))[:-1]  # the frame centred at 30 s is not used
    return _scale(log_power, log_power.amax(), 0)


@torch.no_grad()
def log_mel_batch(
    waves: Sequence[Float[Tensor, " _"]], n_mels: int = 80
) -> tuple[Float[Tensor, "batch n_mels frames"], Int[Tensor, " batch"]]:
    """Return the log-mels of clips of any lengths, padded to the longest with `silence_value`, and their frame counts.

    The clips are laid end to end with gaps that no window bridges, so the cost is that of the audio itself and not of
    the longest clip times the number of clips.

    Raises:
        AudioError: No wave is given, or one is not usable; the message gives its position.
    """
    clips = log_mel_tails(waves, n_mels)
    frames = [own.shape[1] for own, _ in clips]
    mel = clips[0][0].new_empty(len(waves), n_mels, max(frames))
    for row, (own, _) in zip(mel, clips, strict=True):
        row[:, : own.shape[1]] = own
        row[:, own.shape[1] :] = silence_value(own)
    return mel, torch.tensor(frames, device=mel.device)


@torch.no_grad()
def log_mel_tails(
    waves: Sequence[Float[Tensor, " samples"]], n_mels: int = 80
) -> list[tuple[Float[Tensor, "n_mels frames"], Float[Tensor, "n_mels 2"]]]:
    """Return the log-mel of every clip at its true length, and the two frames that follow it in a padded window.

    A window of 25 ms centred just after a clip still hears the clip's last samples. The encoder's convolutions read up
    to two such frames for the last frame of the clip, so they need them to give what they give on the padded window.

    Raises:
        AudioError: No wave is given, or one is not usable; the message gives its position.
    """
    if not waves:
        raise AudioError("expected at least one wave for a log-mel batch, found none")
    filters = mel_filters(n_mels).to(waves[0].device)
    for index, wave in enumerate(waves):
        _check(wave, index)
    frames = [num_mel_frames(len(wave)) for wave in waves]
    log_power = _log_power(_lay_end_to_end(waves, frames), filters)
    clips = []
    start = 0
    for index, count in enumerate(frames):
        heard = log_power[start : start + count + _TAIL_FRAMES]
        scaled = _scale(heard, heard.amax(), index)
        clips.append((scaled[:, :count], scaled[:, count:]))
        start += count + _GAP_FRAMES
    return clips


def _check(wave: Tensor, index: int) -> None:
    """Raise unless `wave` is a non-empty float vector."""
    if wave.ndim != 1 or len(wave) == 0 or not wave.is_floating_point():
        found = f"shape {tuple(wave.shape)} of {wave.dtype}"
        raise AudioError(
            f"expected wave {index} to be a float tensor [samples] with at least one sample, found {found}: "
            "make it with uniwhisper.audio.read or to_wave"
        )


def _scale(log_power: Tensor, peak: Tensor, index: int) -> Float[Tensor, "n_mels frames"]:
    """Return [F, M] log powers raised to 8 below `peak` and mapped by (x + 4) / 4, as Whisper was trained on."""
    if not torch.isfinite(peak):
        raise AudioError(f"expected finite samples, found NaN or infinity in wave {index}: repair or leave it out")
    return torch.maximum(log_power, peak - _DYNAMIC_RANGE).add_(4.0).div_(4.0).T.contiguous()


def _lay_end_to_end(waves: Sequence[Tensor], frames: Sequence[int]) -> Tensor:
    """Return one signal with every clip at a multiple of the hop, reflected on its left, followed by zeros."""
    half = N_FFT // 2
    signal = torch.zeros((sum(frames) + _GAP_FRAMES * len(frames)) * HOP_LENGTH, device=waves[0].device)
    start = 0
    for wave, count in zip(waves, frames, strict=True):
        begin = start + half
        signal[begin : begin + len(wave)] = wave
        signal[start:begin] = signal[begin + 1 : begin + half + 1].flip(0)  # zeros where the clip is shorter than that
        start += (count + _GAP_FRAMES) * HOP_LENGTH
    return signal


def _log_power(signal: Tensor, filters: Tensor) -> Float[Tensor, "frames n_mels"]:
    """Return the base-10 logarithm of the mel power of every window of the signal that fits, one per hop."""
    window = torch.hann_window(N_FFT, device=signal.device)
    windows = signal.unfold(0, N_FFT, HOP_LENGTH)
    result = signal.new_empty(len(windows), len(filters))
    for start in range(0, len(windows), _BLOCK_FRAMES):
        spectrum = torch.fft.rfft(windows[start : start + _BLOCK_FRAMES] * window)
        squares = torch.view_as_real(spectrum).square_()
        power = squares[..., 0] + squares[..., 1]  # four times faster than sum(-1) over an axis of two
        torch.mm(power, filters.T, out=result[start : start + _BLOCK_FRAMES])
    return result.clamp_(min=_POWER_FLOOR).log10_()
