"""AST against transformers on one window, and its windows of a long clip."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from uniwhisper.encoders import load_encoder
from uniwhisper.errors import ConfigError, WeightsError

from .small import noise

ModelOf = Callable[[str], Path]


@pytest.mark.filterwarnings("ignore:At least one mel filter")  # of the 128 that transformers makes for AST
@pytest.mark.parametrize("seconds", [0.5, 3.21, 10.0, 10.255])
def test_frames_are_the_bands_mean_of_transformers_patches(seconds: float, model_of: ModelOf) -> None:
    from transformers import AutoFeatureExtractor, AutoModel

    folder, wave = model_of("ast"), noise(int(seconds * 16_000), 1)
    values = AutoFeatureExtractor.from_pretrained(folder)(wave, sampling_rate=16_000, return_tensors="pt")
    with torch.inference_mode():
        hidden = AutoModel.from_pretrained(folder).eval()(**values, output_hidden_states=True)
    grid = hidden.last_hidden_state[0, 2:].reshape(12, 101, 16).mean(dim=0).numpy()
    ours = load_encoder(str(folder)).frames([wave])[0]
    banks = (len(wave) - 400) // 160 + 1
    count = min(101, (banks - 16) // 10 + 1)
    assert len(ours) == count
    np.testing.assert_allclose(ours, grid[:count], atol=1e-4)
    early = hidden.hidden_states[1][0, 2:].reshape(12, 101, 16).mean(dim=0).numpy()
    np.testing.assert_allclose(load_encoder(str(folder), layer=1).frames([wave])[0], early[:count], atol=1e-4)


def test_the_last_layer_may_be_named(model_of: ModelOf) -> None:
    folder, wave = str(model_of("ast")), noise(16_000, 2)
    np.testing.assert_array_equal(
        load_encoder(folder, layer=2).frames([wave])[0], load_encoder(folder).frames([wave])[0]
    )
    with pytest.raises(ConfigError, match="layer: expected 0 to 2"):
        load_encoder(folder, layer=3)


def test_a_folder_without_its_scale_is_refused(model_of: ModelOf, tmp_path: Path) -> None:
    import shutil

    folder = Path(shutil.copytree(model_of("ast"), tmp_path / "copy"))
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 16000, "mean": 0.0}')
    with pytest.raises(WeightsError, match="expected mean and std, found no 'std'"):
        load_encoder(str(folder))
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 16000, "do_normalize": false}')
    load_encoder(str(folder))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"expected preprocessor_config\.json"):
        load_encoder(str(folder))
