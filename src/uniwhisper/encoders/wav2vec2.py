"""wav2vec 2.0, HuBERT, WavLM and data2vec through transformers: convolutions on samples, then a transformer.

Frames are 20 ms apart (320 samples; each sees 25 ms of samples before the transformer). The last layer's hidden
states are taken, after the final layer norm where the model has one; `layer` takes an earlier one and computes no
further. A clip is scaled to zero mean and unit variance where its preprocessor_config.json says so, over its own
samples alone. Longer clips are cut into windows of 30 s that continue one grid of frames.

Padding never reaches the front end: windows of different length run through it apart, because the group norm of the
base models spans time. The transformer runs several windows at once behind a mask where that changes nothing; where
it does (WavLM, data2vec's stacked positional convolutions, HuBERT with batch norm there), only windows of one length.
A clip shorter than the front end's 25 ms is padded with zeros up to it and yields one frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uniwhisper.encoders._family import Family, Model
from uniwhisper.errors import ConfigError, WeightsError
from uniwhisper.files import read_json

if TYPE_CHECKING:
    from torch import Tensor

    from uniwhisper.encoders._windowed import Window, WindowedEncoder

__all__ = ["FAMILY", "claims", "load"]

_WINDOW_S = 30
_PREPROCESSING = "samples, own statistics, 30 s windows on one grid, v1"

_LIBRI_LIGHT = ("libri_light",)
_WAVLM_LARGE = ("libri_light", "gigaspeech", "voxpopuli")
# VoxLingua33 is a part of VoxLingua107.
_XLS_R = ("voxpopuli", "multilingual_librispeech", "common_voice", "voxlingua107", "voxlingua33", "babel")

# Sources of the corpora: wav2vec 2.0 arXiv 2006.11477 sec. 4.1; VoxPopuli arXiv 2101.00390 sec. 4; XLS-R arXiv
# 2111.09296 sec. 3.1; HuBERT arXiv 2106.07447 sec. 4.1; WavLM arXiv 2110.13900 sec. 4.1; data2vec arXiv 2202.03555
# sec. 5.2. Licences: the models' cards on the hub.
FAMILY = Family(
    name="wav2vec2",
    about="Speech models on raw samples: wav2vec 2.0, HuBERT, WavLM, data2vec; also any hub id or folder of these.",
    model_types=("wav2vec2", "hubert", "wavlm", "data2vec-audio"),
    models=(
        # The paper's baseline "wav2vec 2.0-Large" is named nowhere; its scores follow those that X-ARES publishes for
        # this checkpoint (fluent speech commands, VoxCeleb1 and others within 2 points), not those of the 960 h one.
        Model(
            name="wav2vec2-large",
            hub_id="facebook/wav2vec2-large-100k-voxpopuli",
            title="wav2vec 2.0 Large (VoxPopuli)",
            trained_on=("voxpopuli",),
            training_known=True,
            license="CC-BY-NC-4.0",
            aliases=("wav2vec2-large-100k-voxpopuli",),
        ),
        Model(
            name="wav2vec2-base",
            hub_id="facebook/wav2vec2-base",
            title="wav2vec 2.0 Base",
            trained_on=("librispeech",),
            training_known=True,
            license="Apache-2.0",
        ),
        Model(
            name="wav2vec2-large-960h",
            hub_id="facebook/wav2vec2-large-960h",
            title="wav2vec 2.0 Large (LibriSpeech)",
            trained_on=("librispeech",),
            training_known=True,
            license="Apache-2.0",
        ),
        Model(
            name="wav2vec2-large-lv60",
            hub_id="facebook/wav2vec2-large-lv60",
            title="wav2vec 2.0 Large (Libri-Light)",
            trained_on=_LIBRI_LIGHT,
            training_known=True,
            license="Apache-2.0",
        ),
        Model(
            name="wav2vec2-xls-r-300m",
            hub_id="facebook/wav2vec2-xls-r-300m",
            title="XLS-R 300M",
            trained_on=_XLS_R,
            training_known=True,
            license="Apache-2.0",
        ),
        Model(
            name="hubert-base",
            hub_id="facebook/hubert-base-ls960",
            title="HuBERT Base",
            trained_on=("librispeech",),
            training_known=True,
            license="Apache-2.0",
        ),
        Model(
            name="hubert-large",
            hub_id="facebook/hubert-large-ll60k",
            title="HuBERT Large",
            trained_on=_LIBRI_LIGHT,
            training_known=True,
            license="Apache-2.0",
        ),
        Model(
            name="wavlm-base-plus",
            hub_id="microsoft/wavlm-base-plus",
            title="WavLM Base+",
            trained_on=_WAVLM_LARGE,
            training_known=True,
            license="CC-BY-SA-3.0",
        ),
        Model(
            name="wavlm-large",
            hub_id="microsoft/wavlm-large",
            title="WavLM Large",
            trained_on=_WAVLM_LARGE,
            training_known=True,
            license="CC-BY-SA-3.0",
        ),
        Model(
            name="data2vec-base",
            hub_id="facebook/data2vec-audio-base",
            title="data2vec Base",
            trained_on=("librispeech",),
            training_known=True,
            license="Apache-2.0",
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
        layer: Take the hidden states after this layer; 0 is what enters the first. None takes the last.

    Raises:
        WeightsError: The weights or preprocessor_config.json cannot be had, or do not fit config.json.
        ConfigError: There is no such layer.
    """
    from uniwhisper.encoders import _hub
    from uniwhisper.encoders._family import find
    from uniwhisper.encoders._windowed import WindowedEncoder

    folder = _hub.find_folder(name, FAMILY.models)
    normalize = _does_normalize(folder)
    model = _hub.load_pretrained(folder)
    network = _Network(model, normalize=normalize, layer=layer)
    network.model.to(device)
    files = [*_hub.weight_files(folder), *_hub.config_files(folder)]
    return WindowedEncoder(
        network,
        name=name,
        fingerprint=_hub.fingerprint_of(files, precision, layer, _PREPROCESSING),
        sample_rate=network.sample_rate,
        dim=int(model.config.hidden_size),
        hop_ms=1000 * network.grid.stride / network.sample_rate,
        model=find(FAMILY.models, name),
        device=device,
        precision=precision,
    )


def _does_normalize(folder: Path) -> bool:
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        raise WeightsError(
            f"expected preprocessor_config.json in {folder}, which says whether samples are normalised, found none; "
            "fetch it from the model's hub repository"
        )
    config = read_json(path)
    rate = config.get("sampling_rate", 16_000)
    if rate != 16_000:
        raise WeightsError(f"{path}: expected sampling_rate 16000, found {rate}")
    return bool(config.get("do_normalize", True))


class _Network:
    """The network of one model; see `_windowed.Network`."""

    sample_rate = 16_000

    def __init__(self, model: Any, *, normalize: bool, layer: int | None) -> None:
        from uniwhisper.encoders._windowed import Grid

        config = model.config
        self.model = model
        self._normalize = normalize
        stride = int(np.prod(config.conv_stride))
        receptive = _receptive_field(config.conv_kernel, config.conv_stride)
        frames = _WINDOW_S * self.sample_rate // stride
        self.grid = Grid(stride=stride, receptive=receptive, frames=frames, minimum=receptive)
        # WavLM's attention warns at a mask beside its position bias; data2vec's second positional convolution and
        # HuBERT's batch norm before the first would see other values than zero in the padding.
        self.equal_lengths = config.model_type in ("wavlm", "data2vec-audio") or bool(
            getattr(config, "conv_pos_batch_norm", False)
        )
        if layer is not None:
            _keep_layers(model, layer)

    def windows(self, wave: np.ndarray) -> list[Window]:
        import torch

        from uniwhisper.encoders._windowed import Window

        if self._normalize:
            # Source: transformers Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm
            wave = ((wave - wave.mean(dtype=np.float64)) / np.sqrt(wave.var(dtype=np.float64) + 1e-7)).astype(
                np.float32
            )
        return [
            Window(values=torch.from_numpy(part), num_frames=count, duration_s=len(part) / self.sample_rate)
            for part, count in self.grid.cut(wave)
        ]

    def run(self, values: Sequence[Tensor]) -> list[Tensor]:
        from uniwhisper.encoders._windowed import pad_stack

        parts = self._front_end(values)
        hidden, mask = pad_stack(parts)
        out = self.model.encoder(hidden, attention_mask=mask)[0]
        return [frames[: len(part)] for frames, part in zip(out, parts, strict=True)]

    def _front_end(self, values: Sequence[Tensor]) -> list[Tensor]:
        """Return the projected features `[T_i, D]` of each window; windows of equal length share a pass."""
        import torch

        groups: dict[int, list[int]] = {}
        for i, samples in enumerate(values):
            groups.setdefault(len(samples), []).append(i)
        parts: list[Any] = [None] * len(values)
        for members in groups.values():
            features = self.model.feature_extractor(torch.stack([values[i] for i in members])).transpose(1, 2)
            projected = self.model.feature_projection(features)
            projected = projected[0] if isinstance(projected, tuple) else projected
            for i, part in zip(members, projected, strict=True):
                parts[i] = part
        return parts


def _receptive_field(kernels: Sequence[int], strides: Sequence[int]) -> int:
    """Return how many samples one frame of stacked convolutions sees."""
    field, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        field += (kernel - 1) * step
        step *= stride
    return field


def _keep_layers(model: Any, layer: int) -> None:
    """Cut the transformer off after `layer` layers; what comes out is what the next one would have received."""
    import torch

    total = len(model.encoder.layers)
    if not 0 <= layer <= total:
        raise ConfigError(f"layer: expected 0 to {total}, found {layer}")
    if layer == total:
        return
    model.encoder.layers = model.encoder.layers[:layer]
    if getattr(model.config, "do_stable_layer_norm", False):
        model.encoder.layer_norm = torch.nn.Identity()  # it follows the last layer, not this one
