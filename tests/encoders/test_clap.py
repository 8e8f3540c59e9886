"""CLAP against transformers on windows up to 10 s, fused models without their fusion, and the time of its frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from uniwhisper.encoders import load_encoder
from uniwhisper.errors import WeightsError

from .small import noise

ModelOf = Callable[[str], Path]


@pytest.mark.parametrize("seconds", [0.4, 3.3, 10.0])
@pytest.mark.parametrize("kind", ["clap", "clap-fused"])
def test_frames_are_the_bands_mean_of_transformers_states(kind: str, seconds: float, model_of: ModelOf) -> None:
    from transformers import ClapFeatureExtractor, ClapModel

    folder, wave = model_of(kind), noise(int(seconds * 48_000), 1)
    inputs = ClapFeatureExtractor.from_pretrained(folder)(wave, sampling_rate=48_000, return_tensors="pt")
    model = ClapModel.from_pretrained(folder).eval().audio_model
    with torch.inference_mode():
        features = inputs["input_features"].float()
        hidden = model(input_features=features, is_longer=torch.tensor([[False]])).last_hidden_state[0]
    assert hidden.shape == (64, 2, 32)
    ours = load_encoder(str(folder)).frames([wave])[0]
    assert len(ours) == max(1, round(seconds / 0.3125))
    np.testing.assert_allclose(ours, hidden.mean(dim=1).T[: len(ours)].numpy(), atol=2e-4)


def test_frames_follow_the_clip_in_time(model_of: ModelOf) -> None:
    """A click moves the frames around it most: the last hidden state is unfolded in the right order."""
    encoder = load_encoder(str(model_of("clap")))
    quiet = noise(480_000, 2) * 0.01
    still = encoder.frames([quiet])[0]
    for second in (1.0, 4.2, 8.9):
        clip = quiet.copy()
        at = int(second * 48_000)
        clip[at : at + 4800] += noise(4800, 3) * 10
        moved = np.abs(encoder.frames([clip])[0] - still).sum(axis=1)
        assert abs((int(moved.argmax()) + 0.5) * 0.3125 - second) < 0.7


def test_a_folder_without_its_extractor_is_refused(model_of: ModelOf, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(model_of("clap"), tmp_path / "copy"))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"expected preprocessor_config\.json"):
        load_encoder(str(folder))
