"""Embeddings from a trained encoder or a stock Whisper: files or arrays in, one vector a clip or timed frames out.

`load` reads an encoder folder (`train` writes it) or the name of Whisper weights, which then serve as the baseline
under the same rules: true lengths, valid frames only. Audio longer than 30 s is cut into consecutive 30 s windows, each
encoded on its own (its own log-mel range, positions from 0); the frames of all windows follow one another and the
clip's vector is the mean over all of them. Vectors are cached by what they are made of (cache.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uniwhisper import audio
from uniwhisper.cache import EmbeddingCache, array_hash, audio_hash, embedding_key
from uniwhisper.checkpoint import load_audio_model
from uniwhisper.errors import AudioError, CheckpointError, ConfigError, EncoderError
from uniwhisper.files import content_hash, read_json, sha256_file
from uniwhisper.mel import log_mel_tails
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.packing import Packed
from uniwhisper.model.uniwhisper import AudioModel
from uniwhisper.weights import resolve

__all__ = ["AudioEmbedder", "Encoder", "Frames", "load"]

_FRAMES = ("subsampled", "encoder")
_BATCH_S = 60.0
"""Audio in one forward pass: enough to keep two cores busy, little enough to stay below 1 GB."""
_PREPROCESSING = "log-mel true length, 30 s windows, v2"


@runtime_checkable
class Encoder(Protocol):
    """What every encoder offers that can be embedded with and judged."""

    name: str
    fingerprint: str
    """Hash of everything that decides the frames: weights, precision, preprocessing."""
    sample_rate: int
    dim: int
    hop_ms: float

    def frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the frames `[T_i, D]` of each mono wave, float32."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """The frames of one clip and when each is centred."""

    values: Float[np.ndarray, "T D"]
    times_s: Float[np.ndarray, " T"]


class AudioEmbedder:
    """An audio model made ready for use; see `load`."""

    sample_rate = audio.SAMPLE_RATE

    def __init__(
        self, model: AudioModel, *, name: str, weights_hash: str, precision: str, device: str, frames: str
    ) -> None:
        if frames not in _FRAMES:
            raise ConfigError(f"frames: expected one of {_FRAMES}, found {frames!r}")
        if precision not in ("fp32", "bf16"):
            raise ConfigError(f"precision: expected fp32 or bf16, found {precision!r}")
        self.model = model.eval().requires_grad_(False).to(device)
        self.name = name
        self.dim = model.encoder.dims.n_audio_state
        self.hop_ms = 40.0 if frames == "subsampled" else 20.0
        self.fingerprint = content_hash([weights_hash, precision, frames, _PREPROCESSING])
        self._frames = frames
        self._precision = precision
        self._device = device
        self._cache: EmbeddingCache | None = None

    def embed(
        self, inputs: Sequence[Any] | Any, *, sample_rate: int = audio.SAMPLE_RATE, cache: bool = True
    ) -> Float[np.ndarray, "N D"]:
        """Return one vector a clip: the mean over its valid frames, float32.

        Args:
            inputs: Paths, or arrays and tensors of samples; one or many.
            sample_rate: Rate in Hz of arrays; files know their own.
            cache: Keep vectors on disk and reuse them.

        Raises:
            AudioError: A file or array is not usable audio; the message names it.
        """
        items = [inputs] if isinstance(inputs, str | os.PathLike) or hasattr(inputs, "ndim") else list(inputs)
        keys = [self._key(item, sample_rate, number) for number, item in enumerate(items)] if cache else []
        vectors = self._store.get_many(keys) if cache else {}
        wanted = [n for n in range(len(items)) if not cache or keys[n] not in vectors]
        result = np.zeros((len(items), self.dim), dtype=np.float32)
        new: dict[str, np.ndarray] = {}
        for number, frames in self._encode(items, wanted, sample_rate):
            result[number] = frames.mean(dim=0).numpy()
            if cache:
                new[keys[number]] = result[number].copy()
        if new:
            self._store.put_many(new)
        for number, key in enumerate(keys):
            if key in vectors:
                result[number] = vectors[key]
        return result

    def frames(self, waves: Sequence[Any], sample_rate: int = audio.SAMPLE_RATE) -> list[np.ndarray]:
        """Return the valid frames `[T_i, D]` of every file or array, float32."""
        found = dict(self._encode(list(waves), range(len(waves)), sample_rate))
        return [found[n].numpy() for n in range(len(waves))]

    def timed_frames(self, inputs: Sequence[Any], sample_rate: int = audio.SAMPLE_RATE) -> list[Frames]:
        """Return the frames of every file or array together with the times of their centres, in seconds."""
        return [Frames(values=f, times_s=self.times_s(len(f))) for f in self.frames(inputs, sample_rate)]

    def times_s(self, num_frames: int) -> np.ndarray:
        """Return the centre of each frame in seconds from the start of the clip; windows change nothing in it.

        A 30 s window holds a whole number of frames, so frame `n` is centred at `(n + 0.5) * hop_ms` throughout.
        """
        return (np.arange(num_frames) + 0.5) * self.hop_ms / 1000

    @property
    def _store(self) -> EmbeddingCache:
        if self._cache is None:
            self._cache = EmbeddingCache()
        return self._cache

    def _key(self, item: Any, sample_rate: int, number: int) -> str:
        if isinstance(item, str | os.PathLike):
            content = audio_hash(item)
        else:
            content = array_hash(_wave(item, sample_rate, number))
        return embedding_key(encoder=self.fingerprint, preprocessing=_PREPROCESSING, kind="mean", audio=content)

    def _encode(
        self, items: Sequence[Any], wanted: Sequence[int] | range, sample_rate: int
    ) -> Iterator[tuple[int, Tensor]]:
        """Yield `(number, frames)` of the wanted items, in batches of similar cost."""
        batch: list[tuple[int, np.ndarray]] = []
        seconds = 0.0
        for number in wanted:
            wave = _wave(items[number], sample_rate, number)
            batch.append((number, wave))
            seconds += len(wave) / audio.SAMPLE_RATE
            if seconds >= _BATCH_S:
                yield from self._forward(batch)
                batch, seconds = [], 0.0
        if batch:
            yield from self._forward(batch)

    @torch.inference_mode()
    def _forward(self, batch: Sequence[tuple[int, np.ndarray]]) -> Iterator[tuple[int, Tensor]]:
        """Encode whole clips; a long one is several windows, encoded a few at a time."""
        windows = [(number, window) for number, wave in batch for window in _windows(wave)]
        parts: dict[int, list[Tensor]] = {number: [] for number, _ in batch}
        group: list[tuple[int, np.ndarray]] = []
        for entry in windows:
            group.append(entry)
            if sum(len(wave) for _, wave in group) >= _BATCH_S * audio.SAMPLE_RATE:
                self._encode_windows(group, parts)
                group = []
        if group:
            self._encode_windows(group, parts)
        for number, frames in parts.items():
            yield number, torch.cat(frames)

    def _encode_windows(self, group: Sequence[tuple[int, np.ndarray]], parts: dict[int, list[Tensor]]) -> None:
        waves = [torch.from_numpy(wave).to(self._device) for _, wave in group]
        mels, tails = zip(*log_mel_tails(waves, self.model.encoder.dims.n_mels), strict=True)
        with torch.autocast(torch.device(self._device).type, dtype=torch.bfloat16, enabled=self._precision == "bf16"):
            frames: Packed = self.model.encoder(mels, tails)
            if self._frames == "subsampled":
                frames = self.model.subsampler(frames)
        for (number, _), values in zip(group, frames.split(), strict=True):
            values = values.float().cpu()
            if not bool(torch.isfinite(values).all()):
                raise EncoderError(f"{self.name}: frames of input {number} are not finite; are the weights damaged?")
            parts[number].append(values)


def load(
    name: str | Path, *, precision: str = "fp32", device: str = "cpu", frames: str = "subsampled"
) -> AudioEmbedder:
    """Return an encoder ready to embed.

    Args:
        name: A folder that `uniwhisper train` wrote (the run or its `encoder/`), or Whisper weights by name, hub id or
            folder: then the stock encoder with frames averaged in pairs.
        precision: `fp32`, or `bf16` where speed matters more than the third digit.
        device: A torch device.
        frames: `subsampled` (40 ms, after the subsampler) or `encoder` (20 ms, before it).

    Raises:
        WeightsError: The weights cannot be had; the message lists every way tried.
        CheckpointError: The folder is no finished encoder.
    """
    folder = Path(name)
    trained = next((f for f in (folder, folder / "encoder") if _is_trained(f)), None)
    if trained is not None:
        model, label = load_audio_model(trained), str(name)
        weights = trained / "model.safetensors"
    elif _is_run(folder):
        raise CheckpointError(
            f"expected a finished run at {folder}, found one without an encoder: run its train command again to go on"
        )
    else:
        source = resolve(str(name))
        model, label = AudioModel(load_encoder(source)), str(name)
        weights = source / "model.safetensors"
    return AudioEmbedder(
        model, name=label, weights_hash=sha256_file(weights), precision=precision, device=device, frames=frames
    )


def _is_trained(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and read_json(config).get("format") == "uniwhisper-encoder"


def _is_run(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and {"key", "config"} <= set(read_json(config))


def _wave(item: Any, sample_rate: int, number: int) -> np.ndarray:
    if isinstance(item, str | os.PathLike):
        return audio.read(item)
    try:
        return audio.to_wave(item, sample_rate)
    except AudioError as e:
        raise AudioError(f"input {number}: {e}") from e


def _windows(wave: np.ndarray) -> list[np.ndarray]:
    """Return consecutive 30 s windows; the last one is as long as what is left."""
    return [wave[start : start + audio.WINDOW_SAMPLES] for start in range(0, len(wave), audio.WINDOW_SAMPLES)]
