"""Dasheng from its hub repositories or the publisher's checkpoint files, in our own statement of the model.

The hub repository runs code of its own; here only its weights are read. Frames are 40 ms apart: patches of four mel
frames. The mel spectrogram is made of the whole clip, its ends reflected, and its decibels are cut off 120 below the
clip's own loudest (the publisher's feature extractor takes the loudest of the batch, so its frames depend on the
neighbours). Windows of 1008 mel frames (10.08 s) follow one another; a last, shorter one stays short behind a mask,
where the publisher fills it with zeros that the model attends to. A clip below 30 ms is padded with silence up to it
and yields one frame.

Source: XiaoMi/dasheng@50219b7 dasheng/train/models.py; jimbozhang/hf_transformers_custom_model_dasheng@0c1e19d
dasheng_model/feature_extraction_dasheng.py; arXiv 2406.06992.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uniwhisper.encoders._family import Family, Model, find, folder_config
from uniwhisper.errors import ConfigError, WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from uniwhisper.encoders._dasheng_model import DashengModel
    from uniwhisper.encoders._windowed import Window, WindowedEncoder

__all__ = ["FAMILY", "claims", "load"]

_PREPROCESSING = "64 mel decibels, floor 120 below the clip's loudest, windows of 1008 frames, v1"
_N_FFT, _HOP = 512, 160
_AMPLITUDE_FLOOR = 1e-10
_RANGE_DB = 120.0
_HEADS = {768: 12, 1280: 16, 1536: 24}
"""Attention heads by width; source: the three models of XiaoMi/dasheng@3f10547 dasheng/pretrained/pretrained.py."""

# Training: arXiv 2406.06992 sec. 3.1 names four corpora, 272,356 hours.
_CORPORA = ("audioset", "vggsound", "mtg_jamendo", "acav100m")
FAMILY = Family(
    name="dasheng",
    about="Dasheng: by name, hub id, folder, or a checkpoint file as its publisher gives it.",
    model_types=("dasheng",),
    models=tuple(
        Model(
            name=name,
            hub_id=hub_id,
            title=title,
            trained_on=_CORPORA,
            training_known=True,
            license="Apache-2.0",
        )
        for name, hub_id, title in (
            ("dasheng-base", "mispeech/dasheng-base", "Dasheng Base"),
            ("dasheng-0.6b", "mispeech/dasheng-0.6B", "Dasheng 0.6B"),
            ("dasheng-1.2b", "mispeech/dasheng-1.2B", "Dasheng 1.2B"),
        )
    ),
    examples=("path/to/dasheng_base.pt",),
)


def claims(name: str) -> bool:
    """Return whether `name` is a .pt file with Dasheng's parameters, by the names in its pickle (not unpickled)."""
    path = Path(name).expanduser()
    if path.suffix != ".pt" or not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
            return bool(pickles) and b"time_pos_embed" in archive.read(pickles[0])
    except (OSError, zipfile.BadZipFile):
        return False


def load(name: str, *, device: str = "cpu", precision: str = "fp32", layer: int | None = None) -> WindowedEncoder:
    """Return the encoder `name`.

    Args:
        name: A model of `FAMILY`, a hub id, a folder in the hub's layout, or the publisher's .pt file.
        device: A torch device.
        precision: `fp32`, or `bf16` under autocast.
        layer: Take the hidden states after this block; 0 is what enters the first. None takes the last, normalised.

    Raises:
        WeightsError: The weights cannot be had, or are not Dasheng's.
        ConfigError: There is no such layer.
    """
    from uniwhisper.encoders import _hub
    from uniwhisper.encoders._windowed import WindowedEncoder

    path = Path(name).expanduser()
    if path.is_file():
        files, configs = [path], []
        checkpoint = _hub.load_tensors(path)
        weights = checkpoint.get("model") if isinstance(checkpoint, Mapping) else None
        config = checkpoint.get("config") if isinstance(checkpoint, Mapping) else None
        if not isinstance(weights, Mapping):
            raise WeightsError(f"expected a Dasheng checkpoint with model and config in {path}, found none")
    else:
        folder = _hub.find_folder(name, FAMILY.models)
        files, configs = _hub.weight_files(folder), _hub.config_files(folder)
        weights = {key: value for file in files for key, value in _hub.load_tensors(file).items()}
        config = folder_config(folder)
    network = _Network(_model_of(weights, config or {}, str(path)), layer=layer)
    network.model.to(device)
    return WindowedEncoder(
        network,
        name=name,
        fingerprint=_hub.fingerprint_of([*files, *configs], precision, layer, _PREPROCESSING),
        sample_rate=network.sample_rate,
        dim=network.model.norm.weight.shape[0],
        hop_ms=1000 * _HOP * network.model.patch / network.sample_rate,
        model=find(FAMILY.models, name),
        device=device,
        precision=precision,
    )


def _model_of(weights: Mapping[str, Any], config: Mapping[str, Any], where: str) -> DashengModel:
    """Return the model that the weights are of; sizes are read off them, the number of heads from the configuration."""
    from uniwhisper.encoders._dasheng_model import DashengModel

    own = {k.removeprefix("encoder."): v for k, v in weights.items()}
    own = {k: v for k, v in own.items() if not k.startswith(("front_end.", "outputlayer.", "decoder."))}
    try:
        projection, positions = own["patch_embed.proj.weight"], own["time_pos_embed"]
        width, _, bands, patch = projection.shape
        inner = own["blocks.0.mlp.fc1.weight"].shape[0]
    except (KeyError, ValueError) as e:
        raise WeightsError(f"expected the weights of a Dasheng encoder in {where}, found none of them: {e}") from e
    depth = len({m[1] for key in own if (m := re.match(r"blocks\.(\d+)\.", key))})
    stated = config.get("encoder_kwargs")
    heads = int((stated if isinstance(stated, Mapping) else config).get("num_heads", _HEADS.get(width, 0)))
    if not heads or width % heads:
        raise WeightsError(f"expected num_heads in the configuration of {where}, found none for a width of {width}")
    model = DashengModel(
        width=width, depth=depth, heads=heads, bands=bands, patch=patch, steps=positions.shape[-1], inner=inner
    )
    try:
        model.load_state_dict(own)
    except RuntimeError as e:
        raise WeightsError(f"expected the weights of a Dasheng encoder in {where}, found: {e}") from e
    return model.eval().requires_grad_(False)


class _Network:
    """The network of one model; see `_windowed.Network`."""

    sample_rate = 16_000
    equal_lengths = False

    def __init__(self, model: DashengModel, *, layer: int | None) -> None:
        total = len(model.blocks)
        if layer is not None and not 0 <= layer <= total:
            raise ConfigError(f"layer: expected 0 to {total}, found {layer}")
        self.model = model
        self._layer = None if layer == total else layer
        self._minimum = (model.patch - 1) * _HOP

    def windows(self, wave: np.ndarray) -> list[Window]:
        import torch

        from uniwhisper.encoders._windowed import Window

        if len(wave) < self._minimum:
            wave = np.pad(wave, (0, self._minimum - len(wave)))
        mel = _decibels(torch.from_numpy(wave), self.model.bands)
        patch = self.model.patch
        mel = mel[: len(mel) // patch * patch]
        return [
            Window(values=part, num_frames=len(part) // patch, duration_s=len(part) * _HOP / self.sample_rate)
            for part in mel.split(self.model.steps * patch)
        ]

    def run(self, values: Sequence[Tensor]) -> list[Tensor]:
        from uniwhisper.encoders._windowed import pad_stack

        mel, mask = pad_stack(values)
        steps = None if mask is None else mask[:, :: self.model.patch]
        return list(self.model(mel, steps, self._layer))


def _decibels(wave: Tensor, bands: int) -> Tensor:
    """Return the mel spectrogram of a clip in decibels, `[frames, bands]`, floored relative to its loudest value."""
    import torch

    spectrum = torch.stft(
        wave, _N_FFT, _HOP, window=torch.hann_window(_N_FFT), center=True, pad_mode="reflect", return_complex=True
    )
    power = spectrum.abs().square().T @ torch.from_numpy(_filters(bands))
    decibels = 10.0 * power.clamp_min(_AMPLITUDE_FLOOR).log10()
    return decibels.clamp_min(decibels.max() - _RANGE_DB)


@lru_cache(maxsize=2)
def _filters(bands: int) -> np.ndarray:
    """Return torchaudio's default mel filters, triangles on the HTK scale from 0 to 8 kHz, `[bins, bands]`."""
    from transformers.audio_utils import mel_filter_bank

    filters = mel_filter_bank(_N_FFT // 2 + 1, bands, 0.0, 8000.0, 16_000, norm=None, mel_scale="htk")
    return filters.astype(np.float32)
