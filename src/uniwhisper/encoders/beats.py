"""BEATs from Microsoft's checkpoint files: a dictionary of `cfg` and `model`, read by torch's restricted unpickler.

A time step of patches is 160 ms (16 frames of 10 ms); its 8 patches, one for each 16 of 128 mel bands, are averaged
into one frame. Audio is cut into windows of 10.24 s, the length that the model was trained on, which continue one grid
of patches; within a batch a mask makes padding inert. A clip shorter than one patch (175 ms) is padded with silence up
to it and yields one frame; a started last patch is left out, as the publisher does. The last layer's hidden states are
taken, of fine-tuned checkpoints too: their classifier is left out.

Source: microsoft/unilm@c68101b beats/BEATs.py (filter bank scale and its mean and deviation); arXiv 2212.09058.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uniwhisper.encoders._family import Family, Model, find
from uniwhisper.errors import ConfigError, WeightsError
from uniwhisper.files import home

if TYPE_CHECKING:
    from torch import Tensor

    from uniwhisper.encoders._beats_model import BeatsModel
    from uniwhisper.encoders._windowed import Window, WindowedEncoder

__all__ = ["FAMILY", "claims", "load"]

_PREPROCESSING = "Kaldi fbank 128, mean 15.41663, deviation 2 x 6.55582, 10.24 s windows on one grid, v1"
_FBANK_MEAN, _FBANK_DEVIATION = 15.41663, 6.55582
_FULL_SCALE = 2.0**15
_WINDOW_STEPS = 64  # 64 patches of 160 ms: 10.24 s
_BANDS = 128

# Training: AudioSet-2M without labels, the fine-tuned ones with them. Source: arXiv 2212.09058 sec. 4.1.
FAMILY = Family(
    name="beats",
    about="BEATs, from a checkpoint file as Microsoft publishes it: `path/to/BEATs_iter3.pt`.",
    models=tuple(
        # Published as files on a share, not as a hub repository; the links have been dead for long stretches since 2024
        # (microsoft/unilm issues 1492 and 1671), so nothing is fetched: the file is placed by hand.
        Model(name=name, hub_id="", title=title, trained_on=("audioset",), training_known=True, license="MIT")
        for name, title in (
            ("beats-iter3", "BEATs iter3"),
            ("beats-iter3-plus", "BEATs iter3+ (AS2M)"),
            ("beats-iter3-plus-as2m", "BEATs iter3+ (AS2M), fine-tuned"),
        )
    ),
    examples=("path/to/BEATs_iter3.pt",),
)
_FILES = {
    "beats-iter3": "BEATs_iter3.pt",
    "beats-iter3-plus": "BEATs_iter3_plus_AS2M.pt",
    "beats-iter3-plus-as2m": "BEATs_iter3_plus_AS2M_finetuned_on_AS2M_cpt2.pt",
}


def claims(name: str) -> bool:
    """Return whether `name` is a .pt file with BEATs parameters, by the names in its pickle, which is not unpickled."""
    path = Path(name).expanduser()
    if path.suffix != ".pt" or not path.is_file():
        return False
    if path.name.lower().startswith("beats"):
        return True
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [n for n in archive.namelist() if n.rpartition("/")[2] == "data.pkl"]
            return bool(pickles) and b"grep_linear" in archive.read(pickles[0])
    except (OSError, zipfile.BadZipFile):
        return False


def load(name: str, *, device: str = "cpu", precision: str = "fp32", layer: int | None = None) -> WindowedEncoder:
    """Return the encoder `name`.

    Args:
        name: A model of `FAMILY`, or a checkpoint file.
        device: A torch device.
        precision: `fp32`, or `bf16` under autocast.
        layer: Take the hidden states after this layer; 0 is what enters the first. None takes the last.

    Raises:
        WeightsError: The file cannot be had, is no BEATs checkpoint, or its weights do not fit its cfg.
        ConfigError: There is no such layer.
    """
    from uniwhisper.encoders import _hub
    from uniwhisper.encoders._windowed import WindowedEncoder

    path = _find_file(name)
    network = _Network(_read(path), layer=layer)
    network.model.to(device)
    return WindowedEncoder(
        network,
        name=name,
        fingerprint=_hub.fingerprint_of([path], precision, layer, _PREPROCESSING),
        sample_rate=network.sample_rate,
        dim=network.model.config.encoder_embed_dim,
        hop_ms=1000 * network.grid.stride / network.sample_rate,
        model=find(FAMILY.models, name),
        device=device,
        precision=precision,
    )


def _find_file(name: str) -> Path:
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if name not in _FILES:
        raise WeightsError(f"expected a BEATs checkpoint file at {name}, found nothing there")
    placed = home() / "encoders" / _FILES[name]
    if placed.is_file():
        return placed
    raise WeightsError(
        f"expected the weights of {name!r} at {placed}, found nothing there. Microsoft publishes {_FILES[name]} "
        "through links in github.com/microsoft/unilm/tree/master/beats, and neither the hub nor a package registry has "
        "it from them: fetch it yourself and place it there, or name the file"
    )


def _read(path: Path) -> BeatsModel:
    """Return the model of a checkpoint file, every weight of it read from there."""
    from uniwhisper.encoders._beats_model import BeatsConfig, BeatsModel
    from uniwhisper.encoders._hub import load_tensors

    checkpoint = load_tensors(path)
    if not isinstance(checkpoint, Mapping) or not {"cfg", "model"} <= set(checkpoint):
        keys = sorted(map(str, checkpoint))[:6] if isinstance(checkpoint, Mapping) else type(checkpoint).__name__
        raise WeightsError(f"expected a BEATs checkpoint with cfg and model in {path}, found {keys}")
    weights: Mapping[str, Any] = checkpoint["model"]
    if any(key.startswith("quantize") for key in weights):
        raise WeightsError(f"expected a BEATs encoder in {path}, found a tokenizer of BEATs: fetch BEATs_iter3.pt")
    model = BeatsModel(BeatsConfig.of(checkpoint["cfg"]), bands=_BANDS)
    repeated = tuple(f"encoder.layers.{n}.self_attn.relative_attention_bias.weight" for n in range(1, 1000))
    kept = {k: v for k, v in weights.items() if k not in repeated and not k.startswith("predictor")}
    try:
        model.load_state_dict(kept)
    except RuntimeError as e:
        raise WeightsError(f"expected weights in {path} that fit its cfg, found: {e}") from e
    return model.eval().requires_grad_(False)


class _Network:
    """The network of one checkpoint; see `_windowed.Network`."""

    sample_rate = 16_000
    equal_lengths = False

    def __init__(self, model: BeatsModel, *, layer: int | None) -> None:
        from uniwhisper.encoders._kaldi import FRAME_SAMPLES, SHIFT_SAMPLES
        from uniwhisper.encoders._windowed import Grid

        total = model.config.encoder_layers
        if layer is not None and not 0 <= layer <= total:
            raise ConfigError(f"layer: expected 0 to {total}, found {layer}")
        self.model = model
        self._layer = layer
        self._patch = model.config.input_patch_size
        receptive = (self._patch - 1) * SHIFT_SAMPLES + FRAME_SAMPLES
        self.grid = Grid(
            stride=self._patch * SHIFT_SAMPLES, receptive=receptive, frames=_WINDOW_STEPS, minimum=receptive
        )

    def windows(self, wave: np.ndarray) -> list[Window]:
        import torch

        from uniwhisper.encoders._windowed import Window

        return [
            Window(values=torch.from_numpy(part), num_frames=count, duration_s=len(part) / self.sample_rate)
            for part, count in self.grid.cut(wave)
        ]

    def run(self, values: Sequence[Tensor]) -> list[Tensor]:
        import torch

        from uniwhisper.encoders._windowed import pad_stack

        # The filter bank spans many powers of ten and stays in full precision under autocast.
        with torch.autocast(values[0].device.type, enabled=False):
            features = [self._features(samples) for samples in values]
        stacked, mask = pad_stack(features)
        steps = None if mask is None else mask[:, :: self._patch]
        out = self.model(stacked, steps, self._layer).mean(dim=2)
        return [frames[: len(f) // self._patch] for frames, f in zip(out, features, strict=True)]

    def _features(self, samples: Tensor) -> Tensor:
        """Return the normalised filter bank of a window, cut to whole patches."""
        from uniwhisper.encoders._kaldi import fbank

        bank = fbank(samples * _FULL_SCALE, bands=_BANDS, window="povey")
        return (bank[: len(bank) // self._patch * self._patch] - _FBANK_MEAN) / (2 * _FBANK_DEVIATION)
