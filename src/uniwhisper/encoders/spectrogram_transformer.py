"""The Audio Spectrogram Transformer (AST) through transformers: patches of a Kaldi filter bank in windows of 10.24 s.

AST has learnt positions for exactly 1024 frames of 10 ms, so every window is that long; what a clip lacks is filled
with zeros before normalisation, as in its training, and no frame of that filling comes out. Patches of 16 x 16 lie
10 apart: 12 over the bands, which are averaged, and 101 over time, so frames are 100 ms apart. Windows of a longer clip
start every 10.1 s, which keeps that grid. A frame counts where all its samples are there, and a clip has at least one.

Source: arXiv 2104.01778 sec. 2.1; transformers ASTFeatureExtractor, ASTModel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uniwhisper.encoders._family import Family, Model, find
from uniwhisper.errors import ConfigError, WeightsError
from uniwhisper.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from uniwhisper.encoders._windowed import Window, WindowedEncoder

__all__ = ["FAMILY", "claims", "load"]

_PREPROCESSING = "Kaldi fbank, Hann, zeros to the model's length, windows on one grid, bands averaged, v1"

# Training: pretrained on ImageNet (images), then AudioSet with labels; the second went on with Speech Commands v2,
# whose recordings contain those of version 1. Source: arXiv 2104.01778 sec. 3; the models' cards on the hub.
FAMILY = Family(
    name="ast",
    about="Audio Spectrogram Transformer: by name, hub id or folder.",
    model_types=("audio-spectrogram-transformer",),
    models=(
        Model(
            name="ast",
            hub_id="MIT/ast-finetuned-audioset-10-10-0.4593",
            title="AST (AudioSet)",
            trained_on=("audioset",),
            training_known=True,
            license="BSD-3-Clause",
            aliases=("ast-audioset",),
        ),
        Model(
            name="ast-speech-commands",
            hub_id="MIT/ast-finetuned-speech-commands-v2",
            title="AST (Speech Commands)",
            trained_on=("audioset", "speech_commands_v1", "speech_commands_v2"),
            training_known=True,
            license="BSD-3-Clause",
        ),
    ),
)


def claims(name: str) -> bool:
    """Return False: beside the names of `FAMILY.models`, the `model_type` of a configuration decides."""
    return False


def load(name: str, *, device: str = "cpu", precision: str = "fp32", layer: int | None = None) -> WindowedEncoder:
    """Return the encoder `name`.

    Args:
        name: A model of `FAMILY`, a hub id, or a folder in the hub's layout.
        device: A torch device.
        precision: `fp32`, or `bf16` under autocast.
        layer: Take the hidden states after this layer; 0 is what enters the first. None takes the last, normalised.

    Raises:
        WeightsError: The weights or preprocessor_config.json cannot be had, or do not fit config.json.
        ConfigError: There is no such layer.
    """
    from uniwhisper.encoders import _hub
    from uniwhisper.encoders._windowed import WindowedEncoder

    folder = _hub.find_folder(name, FAMILY.models)
    network = _Network(_hub.load_pretrained(folder), _scale(folder), layer=layer)
    network.model.to(device)
    files = [*_hub.weight_files(folder), *_hub.config_files(folder)]
    return WindowedEncoder(
        network,
        name=name,
        fingerprint=_hub.fingerprint_of(files, precision, layer, _PREPROCESSING),
        sample_rate=network.sample_rate,
        dim=int(network.model.config.hidden_size),
        hop_ms=1000 * network.grid.stride / network.sample_rate,
        model=find(FAMILY.models, name),
        device=device,
        precision=precision,
    )


def _scale(folder: Path) -> tuple[float, float]:
    """Return what is subtracted from the filter bank and what it is divided by."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        raise WeightsError(
            f"expected preprocessor_config.json in {folder}, which says how the filter bank is scaled, found none; "
            "fetch it from the model's hub repository"
        )
    config = read_json(path)
    if config.get("sampling_rate", 16_000) != 16_000:
        raise WeightsError(f"{path}: expected sampling_rate 16000, found {config['sampling_rate']}")
    if not config.get("do_normalize", True):
        return 0.0, 1.0
    try:
        return float(config["mean"]), 2 * float(config["std"])
    except KeyError as e:
        raise WeightsError(f"{path}: expected mean and std, found no {e}") from e


class _Network:
    """The network of one model; see `_windowed.Network`."""

    sample_rate = 16_000
    equal_lengths = False  # every window is filled to one length

    def __init__(self, model: Any, scale: tuple[float, float], *, layer: int | None) -> None:
        from uniwhisper.encoders._kaldi import FRAME_SAMPLES, SHIFT_SAMPLES
        from uniwhisper.encoders._windowed import Grid

        config = model.config
        if layer is not None and not 0 <= layer <= config.num_hidden_layers:
            raise ConfigError(f"layer: expected 0 to {config.num_hidden_layers}, found {layer}")
        self.model = model
        self._layer = None if layer == config.num_hidden_layers else layer
        self._mean, self._deviation = scale
        self._length = int(config.max_length)
        self.grid = Grid(
            stride=config.time_stride * SHIFT_SAMPLES,
            receptive=(config.patch_size - 1) * SHIFT_SAMPLES + FRAME_SAMPLES,
            frames=(self._length - config.patch_size) // config.time_stride + 1,
            minimum=FRAME_SAMPLES,
            window=(self._length - 1) * SHIFT_SAMPLES + FRAME_SAMPLES,
        )

    def windows(self, wave: np.ndarray) -> list[Window]:
        import torch

        from uniwhisper.encoders._windowed import Window

        duration_s = (self.grid.window or 0) / self.sample_rate
        return [
            Window(values=torch.from_numpy(part), num_frames=count, duration_s=duration_s)
            for part, count in self.grid.cut(wave)
        ]

    def run(self, values: Sequence[Tensor]) -> list[Tensor]:
        import torch

        with torch.autocast(values[0].device.type, enabled=False):
            features = torch.stack([self._features(samples) for samples in values])
        out = self.model(features, output_hidden_states=self._layer is not None)
        hidden = out.last_hidden_state if self._layer is None else out.hidden_states[self._layer]
        # two tokens for classification and distillation come first, then the patches, band by band
        return list(hidden[:, 2:].unflatten(1, (-1, self.grid.frames)).mean(dim=1))

    def _features(self, samples: Tensor) -> Tensor:
        from torch.nn.functional import pad

        from uniwhisper.encoders._kaldi import fbank

        bank = fbank(samples, bands=self.model.config.num_mel_bins, window="hanning")
        return (pad(bank, (0, 0, 0, self._length - len(bank))) - self._mean) / self._deviation
