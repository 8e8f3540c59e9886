"""One encoder out of any network: clips are cut into windows, run in batches, and put together again.

A network says how a clip is cut (`windows`) and computes the frames of several windows (`run`); everything else that
the protocol asks for is here, once: inputs are checked, windows of similar length share a batch, results are float32,
finite, of the promised length and in the order of the clips. Which windows share a batch depends on the list alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from uniwhisper.encoders._family import Model, require_option
from uniwhisper.errors import AudioError, EncoderError

__all__ = ["Grid", "Network", "Window", "WindowedEncoder", "pad_stack"]

_BATCH_S = 60.0
"""Audio in one forward pass on a CPU: enough to keep it busy, little enough to stay below about 2 GB."""
_BATCH_DEVICE_S = 240.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A piece of one clip that the network sees at once."""

    values: Tensor
    """Samples, or features with time first."""
    num_frames: int
    """How many of the frames that come out are the clip's; the rest belongs to padding."""
    duration_s: float
    """What it costs, as seconds of audio, padding included."""


class Network(Protocol):
    """What a family provides; neither method keeps state, so batches may run beside each other."""

    equal_lengths: bool
    """Whether padding would change the frames, so that only windows of one length may share a batch."""

    def windows(self, wave: np.ndarray) -> list[Window]:
        """Cut a clip of float32 samples."""
        ...

    def run(self, values: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the frames `[T_i, D]` of each window's values, on any device; `T_i` is at least its `num_frames`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """Where frames lie in a clip, so that windows of a long one continue each other's grid without a seam.

    Frame `n` needs the samples from `n * stride` on, `receptive` of them. A window yields at most `frames` frames and
    is cut from sample `i * frames * stride` on; it overlaps the next by what the last frame needs of it.
    """

    stride: int
    receptive: int
    frames: int
    minimum: int
    """Shorter clips are padded with zeros to so many samples."""
    window: int = 0
    """Samples of a full window; 0 = what its frames need."""

    def num_frames(self, num_samples: int) -> int:
        """Return how many frames a clip has: those whose samples are all there, and at least one."""
        return max(1, (num_samples - self.receptive) // self.stride + 1)

    def cut(self, wave: np.ndarray) -> list[tuple[np.ndarray, int]]:
        """Return the windows of a clip, each with the number of its frames."""
        total = self.num_frames(len(wave))
        if len(wave) < self.minimum:
            wave = np.pad(wave, (0, self.minimum - len(wave)))
        length = self.window or (self.frames - 1) * self.stride + self.receptive
        starts = range(0, total, self.frames)
        return [(wave[s * self.stride : s * self.stride + length], min(self.frames, total - s)) for s in starts]


class WindowedEncoder:
    """An encoder around a network; satisfies `embed.Encoder`."""

    thread_safe = True
    """A call keeps nothing: the network is in eval mode and gradients are off."""

    def __init__(
        self,
        network: Network,
        *,
        name: str,
        fingerprint: str,
        sample_rate: int,
        dim: int,
        hop_ms: float,
        model: Model | None,
        device: str,
        precision: str,
    ) -> None:
        require_option("precision", precision, ("fp32", "bf16"))
        self.name = name
        self.fingerprint = fingerprint
        self.sample_rate = sample_rate
        self.dim = dim
        self.hop_ms = hop_ms
        self.trained_on: tuple[str, ...] = model.trained_on if model else ()
        self.training_known = bool(model and model.training_known)
        self.license = model.license if model else ""
        self._network = network
        self.device = device
        self._device = torch.device(device)
        self._precision = precision

    def frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the frames `[T_i, D]` of each mono wave at `sample_rate`, float32.

        Raises:
            AudioError: An input is no mono wave with samples, or holds NaN.
            EncoderError: A frame is not finite.
        """
        clips = [self._network.windows(_checked(wave, number)) for number, wave in enumerate(waves)]
        entries = [(number, part) for number, clip in enumerate(clips) for part in range(len(clip))]
        results: list[list[np.ndarray | None]] = [[None] * len(clip) for clip in clips]
        for batch in self._batches([clips[n][p] for n, p in entries]):
            found = self._run([clips[n][p] for n, p in (entries[i] for i in batch)])
            for i, values in zip(batch, found, strict=True):
                number, part = entries[i]
                if not np.isfinite(values).all():
                    raise EncoderError(
                        f"{self.name}: frames of input {number} are not finite; are the weights damaged?"
                    )
                results[number][part] = values
        return [np.concatenate([p for p in parts if p is not None]) for parts in results]

    def _batches(self, windows: Sequence[Window]) -> Iterator[list[int]]:
        """Yield positions of windows that run together: similar lengths, at most so many seconds with padding."""
        budget_s = _BATCH_S if self._device.type == "cpu" else _BATCH_DEVICE_S
        order = sorted(range(len(windows)), key=lambda i: (-len(windows[i].values), -windows[i].duration_s, i))
        batch: list[int] = []
        for i in order:
            first = windows[batch[0]] if batch else windows[i]
            full = (len(batch) + 1) * first.duration_s > budget_s
            unequal = self._network.equal_lengths and len(windows[i].values) != len(first.values)
            if batch and (full or unequal):
                yield batch
                batch = []
            batch.append(i)
        if batch:
            yield batch

    @torch.inference_mode()
    def _run(self, windows: Sequence[Window]) -> list[np.ndarray]:
        values = [w.values.to(self._device) for w in windows]
        with torch.autocast(self._device.type, dtype=torch.bfloat16, enabled=self._precision == "bf16"):
            found = self._network.run(values)
        frames = []
        for window, out in zip(windows, found, strict=True):
            if len(out) < window.num_frames or out.shape[-1] != self.dim:
                raise EncoderError(
                    f"{self.name}: expected at least {window.num_frames} frames of {self.dim} numbers from a window, "
                    f"found shape {tuple(out.shape)}: the configuration does not fit the weights"
                )
            frames.append(out[: window.num_frames].float().cpu().numpy())
        return frames


def pad_stack(values: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Return tensors `[T_i, ...]` as one `[B, T, ...]`, zeros behind, and which positions are real; None if all are."""
    lengths = [len(v) for v in values]
    stacked = torch.nn.utils.rnn.pad_sequence(list(values), batch_first=True)
    if min(lengths) == max(lengths):
        return stacked, None
    positions = torch.arange(stacked.shape[1], device=stacked.device)
    return stacked, positions[None, :] < torch.tensor(lengths, device=stacked.device)[:, None]


def _checked(wave: np.ndarray, number: int) -> np.ndarray:
    wave = np.asarray(wave)
    if wave.ndim != 1 or wave.size == 0:
        raise AudioError(f"input {number}: expected a mono wave [samples] with samples, found shape {wave.shape}")
    if wave.dtype.kind != "f" or not np.isfinite(wave).all():
        found = "NaN or infinity" if wave.dtype.kind == "f" else f"numbers of type {wave.dtype}"
        raise AudioError(f"input {number}: expected finite float samples in [-1, 1], found {found}")
    return np.ascontiguousarray(wave, dtype=np.float32)
