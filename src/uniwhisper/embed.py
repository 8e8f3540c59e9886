"""Embeddings from a trained encoder or a stock Whisper: files or arrays in, one vector a clip or timed frames out.

`load` reads an encoder folder (`train` writes it) or the name of Whisper weights, which then serve as the baseline
under the same rules: true lengths, valid frames only. Audio longer than 30 s is cut into consecutive 30 s windows, each
encoded on its own (its own log-mel range, positions from 0); the frames of all windows follow one another and the
clip's vector is the mean over all of them. Vectors are cached by what they are made of (cache.py).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from uniwhisper import audio
from uniwhisper.cache import EmbeddingCache, array_hash, audio_hash, embedding_key
from uniwhisper.checkpoint import encoder_provenance, load_audio_model
from uniwhisper.errors import AudioError, CheckpointError, ConfigError
from uniwhisper.files import content_hash, read_json, sha256_file
from uniwhisper.mel import log_mel_tails
from uniwhisper.model.encoder import load_encoder
from uniwhisper.model.packing import Packed
from uniwhisper.model.uniwhisper import AudioModel
from uniwhisper.passes import Audio, checked_frames, mean_vectors, reading
from uniwhisper.weights import resolve

__all__ = ["AudioEmbedder", "Encoder", "Frames", "load"]

_FRAMES = ("subsampled", "encoder")
_BATCH_S = 60.0
"""Audio in one forward pass: enough to keep two cores busy, little enough to stay below 1 GB."""
_GPU_BATCH_S = 600.0
_PREPROCESSING = "log-mel true length, 30 s windows, v2"


@runtime_checkable
class Encoder(Protocol):
    """What every encoder offers that can be embedded with and judged.

    Optional attributes say more: `device` (where it computes, by default `cpu`), `thread_safe` (whether threads may
    call `frames` at once, by default False: the batches then follow one another), `trained_on` (names of corpora) and
    `training_known` (whether these are all), `license`.
    """

    name: str
    fingerprint: str
    """Hash of everything that decides the frames: weights, precision, preprocessing."""
    sample_rate: int
    dim: int
    hop_ms: float

    def frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Return the valid frames `[T_i, D]` of each mono wave, float32, whatever else is in `waves`."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Frames:
    """The frames of one clip and when each is centred."""

    values: Float[np.ndarray, "T D"]
    times_s: Float[np.ndarray, " T"]


class AudioEmbedder:
    """An audio model made ready for use; see `load`."""

    sample_rate = audio.SAMPLE_RATE
    thread_safe = True
    training_known = False  # what Whisper was trained on is not disclosed

    def __init__(
        self,
        model: AudioModel,
        *,
        name: str,
        weights_hash: str,
        precision: str,
        device: str,
        frames: str,
        provenance: Mapping[str, Any] | None = None,
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
        self.device = device
        self.provenance = dict(provenance or {})
        """What the encoder folder says of its making; empty for stock weights."""
        mixture: Mapping[str, float] = self.provenance.get("mixture", {})
        self.trained_on = tuple(sorted(name for name, weight in mixture.items() if weight))
        """Corpora that the checkpoint was trained on, beyond Whisper's own."""
        self._frames = frames
        self._precision = precision
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
        return mean_vectors(
            self._valid_frames,
            [self._audio(item, sample_rate, number) for number, item in enumerate(items)],
            encoder=self.name,
            dim=self.dim,
            cache=self._store if cache else None,
            budget_s=self._batch_s,
        )

    def frames(self, waves: Sequence[Any], sample_rate: int = audio.SAMPLE_RATE) -> list[np.ndarray]:
        """Return the valid frames `[T_i, D]` of every file or array, float32.

        Raises:
            AudioError: A file or array is not usable audio; the message gives its number.
            EncoderError: The frames are not finite.
        """
        items = [self._audio(item, sample_rate, number) for number, item in enumerate(waves)]
        read = [item.read() for item in items]
        return checked_frames(self._valid_frames, items, read, encoder=self.name, dim=self.dim)

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

    @property
    def _batch_s(self) -> float:
        return _BATCH_S if torch.device(self.device).type == "cpu" else _GPU_BATCH_S

    def _audio(self, item: Any, sample_rate: int, number: int) -> Audio:
        """Return a file, which is read when it is its turn, or an array, which is converted at once."""
        name = f"input {number}"
        if isinstance(item, str | os.PathLike):
            duration_s, path = audio.info(item).duration_s, item
            return Audio(
                name=name,
                duration_s=duration_s,
                read=lambda: audio.read(path),
                key=lambda: self._key(path, sample_rate, number),
            )
        wave = _wave(item, sample_rate, number)
        return Audio(
            name=name,
            duration_s=len(wave) / audio.SAMPLE_RATE,
            read=lambda: wave,
            key=lambda: self._key(wave, audio.SAMPLE_RATE, number),
        )

    def _key(self, item: Any, sample_rate: int, number: int) -> str:
        if isinstance(item, str | os.PathLike):
            content = audio_hash(item)
        else:
            content = array_hash(_wave(item, sample_rate, number))
        preprocessing = reading(self.sample_rate)
        return embedding_key(encoder=self.fingerprint, preprocessing=preprocessing, kind="mean", audio=content)

    @torch.inference_mode()
    def _valid_frames(self, waves: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Encode waves at 16 kHz; a long one is several windows, encoded a few at a time."""
        parts: dict[int, list[Tensor]] = {number: [] for number in range(len(waves))}
        group: list[tuple[int, np.ndarray]] = []
        for number, wave in enumerate(waves):
            for window in _windows(wave):
                group.append((number, window))
                if sum(len(own) for _, own in group) >= self._batch_s * audio.SAMPLE_RATE:
                    self._encode_windows(group, parts)
                    group = []
        if group:
            self._encode_windows(group, parts)
        return [torch.cat(frames).numpy() for frames in parts.values()]

    def _encode_windows(self, group: Sequence[tuple[int, np.ndarray]], parts: dict[int, list[Tensor]]) -> None:
        waves = [torch.from_numpy(wave).to(self.device) for _, wave in group]
        mels, tails = zip(*log_mel_tails(waves, self.model.encoder.dims.n_mels), strict=True)
        with torch.autocast(torch.device(self.device).type, dtype=torch.bfloat16, enabled=self._precision == "bf16"):
            frames: Packed = self.model.encoder(mels, tails)
            if self._frames == "subsampled":
                frames = self.model.subsampler(frames)
        for (number, _), values in zip(group, frames.split(), strict=True):
            parts[number].append(values.float().cpu())


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
    provenance: Mapping[str, Any] = {}
    if trained is not None:
        model, label = load_audio_model(trained), str(name)
        weights, provenance = trained / "model.safetensors", encoder_provenance(trained)
    elif _is_run(folder):
        raise CheckpointError(
            f"expected a finished run at {folder}, found one without an encoder: run its train command again to go on"
        )
    else:
        source = resolve(str(name))
        model, label = AudioModel(load_encoder(source)), str(name)
        weights = source / "model.safetensors"
    return AudioEmbedder(
        model,
        name=label,
        weights_hash=sha256_file(weights),
        precision=precision,
        device=device,
        frames=frames,
        provenance=provenance,
    )


def _is_trained(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and read_json(config).get("format") == "uniwhisper-encoder"


def _is_run(folder: Path) -> bool:
    config = folder / "config.json"
    return config.is_file() and {"key", "config"} <= set(read_json(config))


def _wave(item: Any, sample_rate: int, number: int) -> np.ndarray:
    try:
        return audio.to_wave(item, sample_rate)
    except AudioError as e:
        raise AudioError(f"input {number}: {e}") from e


def _windows(wave: np.ndarray) -> list[np.ndarray]:
    """Return consecutive 30 s windows; the last one is as long as what is left."""
    return [wave[start : start + audio.WINDOW_SAMPLES] for start in range(0, len(wave), audio.WINDOW_SAMPLES)]
