"""The audio tower of CLAP (HTSAT) through transformers: log-mel of 10 s at 48 kHz, a Swin transformer, 32 frames.

Every window is 10 s long; a shorter one is repeated as often as it fits and filled with zeros, as in CLAP's training,
and only the frames of its first copy come out. The two bands that are left of frequency are averaged, so frames are
the width of the last hidden state and lie 312.5 ms apart (measured from the shapes, not taken from the
configuration). Longer clips are cut into consecutive windows; the random crops and the fusion of the publisher's
preprocessing are not used, because they are neither repeatable nor in time. A frame counts where its first half lies
in the clip, and a clip has at least one. Clips must be given at 48 kHz: `sample_rate` says so.

Source: arXiv 2211.06687 sec. 3; transformers ClapFeatureExtractor, ClapAudioModel.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from uniwhisper.encoders._family import Family, Model, find
from uniwhisper.errors import WeightsError

if TYPE_CHECKING:
    from torch import Tensor

    from uniwhisper.encoders._windowed import Window, WindowedEncoder

__all__ = ["FAMILY", "claims", "load"]

_PREPROCESSING = "CLAP log-mel, repeated and filled to 10 s, consecutive windows, bands averaged, v1"
_POWER_FLOOR = 1e-10

# Training: laion/clap-htsat-unfused and -fused are 630k-audioset-best and 630k-audioset-fusion-best, trained on
# AudioSet and LAION-Audio-630K (LAION-AI/CLAP issues 123 and 142), which draws on Freesound and BBC among others.
# The larger ones went on with music and speech that are not listed.
FAMILY = Family(
    name="clap",
    about="The audio tower of CLAP (HTSAT), which reads 48 kHz: by name, hub id or folder.",
    model_types=("clap",),
    models=(
        Model(
            name="clap-htsat",
            hub_id="laion/clap-htsat-unfused",
            title="CLAP (HTSAT)",
            trained_on=("laion_audio", "audioset", "freesound"),
            training_known=True,
            license="Apache-2.0",
            aliases=("clap-htsat-unfused",),
        ),
        Model(
            name="clap-htsat-fused",
            hub_id="laion/clap-htsat-fused",
            title="CLAP (HTSAT, fused)",
            trained_on=("laion_audio", "audioset", "freesound"),
            training_known=True,
            license="Apache-2.0",
        ),
        Model(
            name="clap-larger-general",
            hub_id="laion/larger_clap_general",
            title="CLAP (larger, general)",
            trained_on=("laion_audio", "audioset", "freesound"),
            training_known=False,
            license="Apache-2.0",
        ),
    ),
)


def claims(name: str) -> bool:
    """Return False: beside the names of `FAMILY.models`, the `model_type` of a configuration decides."""
    return False


def load(name: str, *, device: str = "cpu", precision: str = "fp32") -> WindowedEncoder:
    """Return the encoder `name`.

    Args:
        name: A model of `FAMILY`, a hub id, or a folder in the hub's layout.
        device: A torch device.
        precision: `fp32`, or `bf16` under autocast.

    Raises:
        WeightsError: The weights or preprocessor_config.json cannot be had, or do not fit config.json.
    """
    from uniwhisper.encoders import _hub
    from uniwhisper.encoders._windowed import WindowedEncoder

    folder = _hub.find_folder(name, FAMILY.models)
    network = _Network(_hub.load_pretrained(folder).audio_model, _extractor(folder), device)
    files = [*_hub.weight_files(folder), *_hub.config_files(folder)]
    return WindowedEncoder(
        network,
        name=name,
        fingerprint=_hub.fingerprint_of(files, precision, _PREPROCESSING),
        sample_rate=network.sample_rate,
        dim=network.dim,
        hop_ms=1000 * network.grid.stride / network.sample_rate,
        model=find(FAMILY.models, name),
        device=device,
        precision=precision,
    )


def _extractor(folder: Path) -> Any:
    from transformers import ClapFeatureExtractor

    if not (folder / "preprocessor_config.json").is_file():
        raise WeightsError(
            f"expected preprocessor_config.json in {folder}, which says how spectrograms are made, found none; "
            "fetch it from the model's hub repository"
        )
    return ClapFeatureExtractor.from_pretrained(folder)


class _Network:
    """The network of one model; see `_windowed.Network`."""

    equal_lengths = False  # every window is filled to one length

    def __init__(self, model: Any, extractor: Any, device: str) -> None:
        import torch

        from uniwhisper.encoders._windowed import Grid

        self.model = model.to(device)
        self.sample_rate = int(extractor.sampling_rate)
        self._length = int(extractor.nb_max_samples)
        self._n_fft, self._hop = int(extractor.fft_window_size), int(extractor.hop_length)
        # Models with fusion were trained on one kind of mel filters and those without on another.
        filters = extractor.mel_filters if extractor.truncation == "fusion" else extractor.mel_filters_slaney
        self._filters = torch.from_numpy(np.asarray(filters, dtype=np.float32)).to(device)
        self._taper = torch.hann_window(self._n_fft, device=device)
        with torch.inference_mode():
            probe = self.run([torch.zeros(self._length, device=device)])[0]
        frames, self.dim = probe.shape
        stride, rest = divmod(self._length, frames)
        if rest:
            raise WeightsError(f"expected a whole number of samples a frame, found {frames} frames of {self._length}")
        self.grid = Grid(stride=stride, receptive=-(-stride // 2), frames=frames, minimum=1, window=self._length)

    def windows(self, wave: np.ndarray) -> list[Window]:
        import torch

        from uniwhisper.encoders._windowed import Window

        duration_s = self._length / self.sample_rate
        return [
            Window(values=torch.from_numpy(part), num_frames=count, duration_s=duration_s)
            for part, count in self.grid.cut(wave)
        ]

    def _filled(self, part: Tensor) -> Tensor:
        """Return a window repeated as often as it fits, then zeros."""
        from torch.nn.functional import pad

        repeated = part.repeat(self._length // len(part))
        return pad(repeated, (0, self._length - len(repeated)))

    def run(self, values: Sequence[Tensor]) -> list[Tensor]:
        import torch

        samples = torch.stack([self._filled(part) for part in values])
        with torch.autocast(samples.device.type, enabled=False):
            features = self._log_mel(samples)[:, None]
        longer = torch.zeros(len(values), 1, dtype=torch.bool, device=samples.device)
        hidden = self.model(input_features=features, is_longer=longer).last_hidden_state
        return list(hidden.mean(dim=2).transpose(1, 2))  # [B, width, bands, time]

    def _log_mel(self, samples: Tensor) -> Tensor:
        """Return the log-mel spectrogram in decibels, `[B, frames, bands]`."""
        import torch

        spectrum = torch.stft(
            samples, self._n_fft, self._hop, window=self._taper, center=True, pad_mode="reflect", return_complex=True
        )
        power = spectrum.abs().square().transpose(1, 2) @ self._filters
        return 10.0 * power.clamp_min(_POWER_FLOOR).log10()
