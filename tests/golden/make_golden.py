"""Make the golden files of the log-mel from the two reference implementations; see PROVENANCE.md for the command.

Writes, beside itself: `log_mel_openai.safetensors` (the wave, and mel_80 and mel_128 by openai-whisper),
`log_mel_hf.safetensors` (the same by Hugging Face) and `mel_filters_openai.safetensors` (their filters).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import whisper.audio  # pyright: ignore[reportMissingImports]
from safetensors.torch import save_file
from transformers import WhisperFeatureExtractor

HERE = Path(__file__).parent
KEPT_FRAMES = 76  # the clip's 70 frames, the two that still see its end, and a little of the silence after it


def speech_like(num_samples: int = 11_200) -> np.ndarray:
    """Return a deterministic int16 signal with a gliding pitch, three formants, a pause and a noise burst."""
    time = np.arange(num_samples) / 16_000
    phase = 2 * np.pi * np.cumsum(120 + 40 * np.sin(2 * np.pi * 2.5 * time)) / 16_000
    wave = np.zeros(num_samples)
    for harmonic in range(1, 30):
        frequency = 120.0 * harmonic
        level = sum(np.exp(-(((frequency - f) / 150.0) ** 2)) for f in (600 + 200 * time[-1], 1400, 2600))
        wave += level * np.sin(harmonic * phase)
    wave *= np.sin(np.pi * time / time[-1]) ** 2 * (np.abs(time - 0.35) > 0.04)
    burst = np.random.default_rng(0).standard_normal(num_samples) * np.exp(-(((time - 0.6) / 0.02) ** 2))
    wave = wave / np.abs(wave).max() + 0.4 * burst
    return np.round(wave / np.abs(wave).max() * 0.8 * 32767).astype(np.int16)


def main() -> None:
    """Write the three files."""
    int16 = torch.from_numpy(speech_like())
    wave = int16.float() / 32768
    openai: dict[str, torch.Tensor] = {"wave_int16": int16}
    hf: dict[str, torch.Tensor] = {}
    filters: dict[str, torch.Tensor] = {}
    for n_mels in (80, 128):
        padded = whisper.audio.log_mel_spectrogram(whisper.audio.pad_or_trim(wave), n_mels)
        openai[f"mel_{n_mels}"] = padded[:, :KEPT_FRAMES].contiguous()
        extractor = WhisperFeatureExtractor(feature_size=n_mels)
        features = extractor(wave.numpy(), sampling_rate=16_000, return_tensors="pt").input_features[0]
        hf[f"mel_{n_mels}"] = features[:, :KEPT_FRAMES].contiguous()
        bank = whisper.audio.mel_filters("cpu", n_mels)
        filters[f"positions_{n_mels}"] = bank.nonzero().to(torch.int16).contiguous()
        filters[f"values_{n_mels}"] = bank[bank != 0]
    save_file(openai, HERE / "log_mel_openai.safetensors")
    save_file(hf, HERE / "log_mel_hf.safetensors")
    save_file(filters, HERE / "mel_filters_openai.safetensors")


if __name__ == "__main__":
    main()
