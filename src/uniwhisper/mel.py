"""Whisper's log-mel spectrogram: at true length, in batches of any lengths, and padded to 30 s for compatibility.

Reads waves as `uniwhisper.audio` makes them (mono, 16 kHz, in [-1, 1]), or the same as 16-bit samples; returns float32
on the wave's device, 100 frames per second. Clips of a group are laid end to end and go through one Fourier transform
together. Guarantees:

* `log_mel_padded` equals openai-whisper's `log_mel_spectrogram(pad_or_trim(wave))` and `WhisperFeatureExtractor`.
* `log_mel` is the padded one cut at the clip's own frames, F = ceil(samples / 160). Frames at the right end therefore
  see zeros after the clip, as in Whisper's 30 s window, and not a reflection; the left end is reflected, as there.
* Frames of `log_mel_batch` after a clip's end hold `silence_value` of that clip and never depend on its neighbours.

Shape letters: B batch, S samples, M mel bins, F mel frames.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from uniwhisper.audio import HOP_LENGTH, N_FFT, SAMPLE_RATE, WINDOW_SAMPLES
from uniwhisper.errors import AudioError

__all__ = [
    "ClipRow",
    "lay_end_to_end",
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
_LOST_WINDOWS = 2  # at the end of a row, whose last windows would need samples beyond it
_FULL_SCALE = 1 << 15  # of 16-bit samples
_BLOCK_FRAMES = (1 << 16, 2048)
"""Windows per Fourier transform: on a GPU as many as 150 MB hold, on a CPU (last) large enough for two threads and
small enough to be reused by malloc."""


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
    values = wave.float() if wave.is_floating_point() else wave / _FULL_SCALE
    padded = torch.nn.functional.pad(values, (0, WINDOW_SAMPLES - len(wave)))
    signal = torch.nn.functional.pad(padded[None], (N_FFT // 2, N_FFT // 2), mode="reflect")[0]
    log_power = _log_power(signal, n_mels)[:, :-1]  # that centred at 30 s is not used
    peak = log_power.amax()
    _check_finite(peak[None])
    return torch.maximum(log_power, peak - _DYNAMIC_RANGE).add_(4.0).div_(4.0)


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


def log_mel_tails(
    waves: Sequence[Float[Tensor, " samples"]], n_mels: int = 80
) -> list[tuple[Float[Tensor, "n_mels frames"], Float[Tensor, "n_mels 2"]]]:
    """Return the log-mel of every clip at its true length, and the two frames that follow it in a padded window.

    A window of 25 ms centred just after a clip still hears the clip's last samples. The encoder's convolutions read up
    to two such frames for the last frame of the clip, so they need them to give what they give on the padded window.
    Waves may be 16-bit samples. What is returned are views of one tensor.

    Raises:
        AudioError: No wave is given, or one is not usable; the message gives its position.
    """
    row = lay_end_to_end(waves)
    clips, peaks = _log_mels(row, n_mels)
    if not all(wave.dtype == torch.int16 for wave in waves):  # whole numbers are finite: no device is waited for
        _check_finite(peaks[: len(waves)])
    return clips


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRow:
    """Clips laid end to end for one Fourier transform.

    Every clip begins at a multiple of the hop, reflected on its left as Whisper does, and is followed by zeros that no
    window bridges.
    """

    samples: Tensor
    """float32 in [-1, 1], or int16."""
    owners: Int[Tensor, " windows"]
    """For every window the number of the clip that it hears; one more than there are where it hears none."""
    frames: tuple[int, ...]
    """Mel frames of each clip."""

    def pinned(self) -> ClipRow:
        """Return the same in page-locked memory, from where a GPU copies beside its computation."""
        return replace(self, samples=self.samples.pin_memory(), owners=self.owners.pin_memory())

    def to(self, device: torch.device, *, non_blocking: bool = False) -> ClipRow:
        """Return the same on a device: two copies, whatever the number of clips."""
        samples = self.samples.to(device, non_blocking=non_blocking)
        return replace(self, samples=samples, owners=self.owners.to(device, non_blocking=non_blocking))

    def log_mels(self, n_mels: int) -> list[tuple[Float[Tensor, "n_mels frames"], Float[Tensor, "n_mels 2"]]]:
        """Return what `log_mel_tails` returns, on the device of the samples, without waiting for it."""
        return _log_mels(self, n_mels)[0]


def lay_end_to_end(waves: Sequence[Tensor]) -> ClipRow:
    """Return the clips in one row, on their device: float32, or int16 where all of them are.

    Raises:
        AudioError: No wave is given, or one is not usable; the message gives its position.
    """
    if not waves:
        raise AudioError("expected at least one wave for a log-mel batch, found none")
    for index, wave in enumerate(waves):
        _check(wave, index)
    half = N_FFT // 2
    frames = tuple(num_mel_frames(len(wave)) for wave in waves)
    device = waves[0].device
    whole = all(wave.dtype == torch.int16 for wave in waves)
    num_windows = sum(frames) + _GAP_FRAMES * len(frames)
    samples = torch.zeros(num_windows * HOP_LENGTH, dtype=torch.int16 if whole else torch.float32, device=device)
    owners = torch.full((num_windows - _LOST_WINDOWS,), len(waves))
    start = 0
    for index, (wave, count) in enumerate(zip(waves, frames, strict=True)):
        begin = start * HOP_LENGTH + half
        samples[begin : begin + len(wave)] = wave if whole or wave.is_floating_point() else wave / _FULL_SCALE
        samples[begin - half : begin] = samples[begin + 1 : begin + half + 1].flip(0)  # zeros where there is no more
        owners[start : start + count + _TAIL_FRAMES] = index
        start += count + _GAP_FRAMES
    return ClipRow(samples=samples, owners=owners.to(device), frames=frames)


def _check(wave: Tensor, index: int) -> None:
    """Raise unless `wave` is a non-empty vector of floats or 16-bit samples."""
    if wave.ndim != 1 or len(wave) == 0 or not (wave.is_floating_point() or wave.dtype == torch.int16):
        found = f"shape {tuple(wave.shape)} of {wave.dtype}"
        raise AudioError(
            f"expected wave {index} to be floats or int16, [samples] with at least one sample, found {found}: "
            "make it with uniwhisper.audio.read or to_wave"
        )


def _check_finite(peaks: Tensor) -> None:
    """Raise unless the loudest value of every clip is finite, which it is only where all of its samples are."""
    finite = peaks.isfinite().cpu()
    if not bool(finite.all()):
        index = int(finite.logical_not().nonzero()[0])
        raise AudioError(f"expected finite samples, found NaN or infinity in wave {index}: repair or leave it out")


@torch.no_grad()
def _log_mels(row: ClipRow, n_mels: int) -> tuple[list[tuple[Tensor, Tensor]], Tensor]:
    """Return log-mel and tail of every clip, and the largest log power of each, then that of silence between them."""
    signal = row.samples
    if not signal.is_floating_point():
        signal = signal.to(torch.float32).mul_(1.0 / _FULL_SCALE)
    log_power = _log_power(signal, n_mels)
    peaks = log_power.new_full((len(row.frames) + 1,), -torch.inf)
    peaks = peaks.scatter_reduce(0, row.owners, log_power.amax(dim=0), "amax")
    floors = (peaks - _DYNAMIC_RANGE)[row.owners]
    scaled = torch.maximum(log_power, floors, out=log_power).add_(4.0).div_(4.0)
    sizes = [size for count in row.frames for size in (count, _TAIL_FRAMES, _GAP_FRAMES - _TAIL_FRAMES)]
    parts = scaled.split([*sizes[:-1], sizes[-1] - _LOST_WINDOWS], dim=1)
    return list(zip(parts[::3], parts[1::3], strict=True)), peaks


@lru_cache(maxsize=16)
def _constants(n_mels: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the filters and the window on a device; the copy waits until they are there, and happens once."""
    return mel_filters(n_mels).to(device), torch.hann_window(N_FFT).to(device)


def _log_power(signal: Tensor, n_mels: int) -> Float[Tensor, "n_mels windows"]:
    """Return the base-10 logarithm of the mel power of every window of the signal that fits, one per hop."""
    filters, window = _constants(n_mels, signal.device)
    windows = signal.unfold(0, N_FFT, HOP_LENGTH)
    result = signal.new_empty(len(filters), len(windows))
    block = _BLOCK_FRAMES[signal.device.type == "cpu"]
    for start in range(0, len(windows), block):
        spectrum = torch.fft.rfft(windows[start : start + block] * window)
        squares = torch.view_as_real(spectrum).square_()
        power = squares[..., 0] + squares[..., 1]  # four times faster than sum(-1) over an axis of two
        torch.mm(filters, power.T, out=result[:, start : start + block])
    return result.clamp_(min=_POWER_FLOOR).log10_()
