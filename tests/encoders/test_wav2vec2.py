"""wav2vec 2.0, HuBERT, WavLM and data2vec against transformers on one clip, and what their folders must hold."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from uniwhisper.encoders import load_encoder
from uniwhisper.errors import ConfigError, WeightsError

from .small import MAKERS, noise

KINDS = [name for name in MAKERS if name.startswith(("wav2vec2", "hubert", "wavlm", "data2vec"))]
ModelOf = Callable[[str], Path]


def _theirs(folder: Path, wave: np.ndarray, **options: Any) -> Any:
    from transformers import AutoFeatureExtractor, AutoModel

    extractor = AutoFeatureExtractor.from_pretrained(folder)
    values = extractor(wave, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        return AutoModel.from_pretrained(folder).eval()(values, **options)


@pytest.mark.parametrize("kind", KINDS)
def test_frames_are_transformers_last_hidden_states(kind: str, model_of: ModelOf) -> None:
    folder, wave = model_of(kind), noise(17_321, 1) + 0.03
    theirs = _theirs(folder, wave).last_hidden_state[0].numpy()
    ours = load_encoder(str(folder)).frames([wave, noise(40_000, 2)])[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_are_transformers_hidden_states(kind: str, model_of: ModelOf) -> None:
    folder, wave = model_of(kind), noise(9_000, 3)
    theirs = _theirs(folder, wave, output_hidden_states=True).hidden_states
    for layer in (0, 1, 2):
        ours = load_encoder(str(folder), layer=layer).frames([wave])[0]
        np.testing.assert_allclose(ours, theirs[layer][0].numpy(), atol=1e-5)
    whole = load_encoder(str(folder)).frames([wave])[0]
    np.testing.assert_array_equal(load_encoder(str(folder), layer=3).frames([wave])[0], whole)
    with pytest.raises(ConfigError, match="layer: expected 0 to 3, found 4"):
        load_encoder(str(folder), layer=4)


@pytest.mark.parametrize("kind", ["wav2vec2-base", "data2vec", "hubert-batch-norm"])
def test_these_models_would_feel_padding(kind: str, model_of: ModelOf) -> None:
    """What is guarded against is real: zeros behind a clip, masked as transformers does it, change its frames."""
    from transformers import AutoModel

    wave = torch.from_numpy(noise(16_000, 4))
    model = AutoModel.from_pretrained(model_of(kind)).eval()
    padded = torch.stack([torch.nn.functional.pad(wave, (0, 16_000)), torch.from_numpy(noise(32_000, 5))])
    mask = torch.ones(2, 32_000, dtype=torch.long)
    mask[0, 16_000:] = 0
    with torch.inference_mode():
        alone = model(wave[None]).last_hidden_state[0]
        batched = model(padded, attention_mask=mask).last_hidden_state[0, : len(alone)]
    assert (alone - batched).abs().max() > 1e-3


def _copy(source: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "copy"))


def test_samples_are_normalised_only_where_the_folder_says_so(model_of: ModelOf, tmp_path: Path) -> None:
    folder = _copy(model_of("wavlm-large"), tmp_path)
    wave = noise(16_000, 6)
    scaled = load_encoder(str(folder))
    np.testing.assert_allclose(scaled.frames([wave + 0.5])[0], scaled.frames([wave])[0], atol=1e-3)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    plain = load_encoder(str(folder))
    assert np.abs(plain.frames([wave + 0.5])[0] - plain.frames([wave])[0]).max() > 1e-2
    assert plain.fingerprint != scaled.fingerprint


def test_a_clip_is_normalised_as_a_whole_and_not_window_by_window(model_of: ModelOf, tmp_path: Path) -> None:
    clip = np.concatenate([noise(16_000 * 29, 8), 3 * noise(16_000 * 4, 9) + 0.2])
    whole = load_encoder(str(model_of("wav2vec2-large"))).frames([clip])[0]
    folder = _copy(model_of("wav2vec2-large"), tmp_path)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": false}')
    scaled = (clip - clip.mean()) / np.sqrt(clip.var() + 1e-7)
    np.testing.assert_allclose(whole, load_encoder(str(folder)).frames([scaled])[0], atol=1e-4)


def test_without_its_preprocessing_a_folder_is_refused(model_of: ModelOf, tmp_path: Path) -> None:
    folder = _copy(model_of("hubert-base"), tmp_path)
    (folder / "preprocessor_config.json").write_text('{"sampling_rate": 8000}')
    with pytest.raises(WeightsError, match="sampling_rate 16000, found 8000"):
        load_encoder(str(folder))
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(WeightsError, match=r"preprocessor_config\.json .* whether samples are normalised"):
        load_encoder(str(folder))


def test_missing_weights_are_never_made_up(model_of: ModelOf, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = _copy(model_of("hubert-base"), tmp_path)
    tensors = load_file(folder / "model.safetensors")
    del tensors["encoder.layers.1.attention.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=r"every part of the model in .*, found none for encoder\.layers\.1"):
        load_encoder(str(folder))


def test_a_pickle_of_the_old_layout_is_read(model_of: ModelOf, tmp_path: Path) -> None:
    """The hub has several of these as pytorch_model.bin with the older names of weight norm."""
    from safetensors.torch import load_file

    source = model_of("wavlm-large")
    folder = _copy(source, tmp_path)
    tensors = load_file(folder / "model.safetensors")
    old = {
        k.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): v
        for k, v in tensors.items()
    }
    assert set(old) != set(tensors)
    torch.save(old, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    wave = noise(8_000, 7)
    found, expected = load_encoder(str(folder)), load_encoder(str(source))
    np.testing.assert_array_equal(found.frames([wave])[0], expected.frames([wave])[0])
    assert found.fingerprint != expected.fingerprint
