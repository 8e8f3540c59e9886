"""Dasheng against its equations, written out, from both layouts of its weights."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from uniwhisper.encoders import dasheng, load_encoder
from uniwhisper.errors import ConfigError, WeightsError

from . import small
from .small import noise

ModelOf = Callable[[str], Path]
Weights = dict[str, np.ndarray]


def _decibels(wave: np.ndarray) -> np.ndarray:
    """Return `[frames, 64]`: reflected ends, Hann windows of 512, triangles on the HTK scale, at most 120 dB deep."""

    def mel(hz: float) -> float:
        return 2595.0 * math.log10(1 + hz / 700)

    def hertz(value: float) -> float:
        return 700 * (10 ** (value / 2595) - 1)

    edges = [hertz(mel(8000.0) * n / 65) for n in range(66)]
    padded = np.concatenate([wave[1:257][::-1], wave, wave[-257:-1][::-1]]).astype(np.float64)
    taper = np.array([0.5 - 0.5 * math.cos(2 * math.pi * n / 512) for n in range(512)])
    weights = np.zeros((257, 64))
    for band in range(64):
        left, centre, right = edges[band : band + 3]
        for k in range(257):
            hz = k * 8000 / 256
            weights[k, band] = max(0.0, min((hz - left) / (centre - left), (right - hz) / (right - centre)))
    rows = []
    for frame in range(len(wave) // 160 + 1):
        power = np.abs(np.fft.fft(padded[frame * 160 : frame * 160 + 512] * taper)[:257]) ** 2
        rows.append([10 * math.log10(max(energy, 1e-10)) for energy in power @ weights])
    found = np.array(rows)
    return np.maximum(found, found.max() - 120)


def _norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    centred = x - x.mean(axis=-1, keepdims=True)
    deviation = np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-6)
    return centred / deviation * w[f"{name}.weight"] + w[f"{name}.bias"]


def _linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _restated(mel: np.ndarray, w: Weights, heads: int) -> np.ndarray:
    scale = w["init_bn.1.weight"] / np.sqrt(w["init_bn.1.running_var"] + 1e-5)
    mel = (mel - w["init_bn.1.running_mean"]) * scale + w["init_bn.1.bias"]
    kernel = w["patch_embed.proj.weight"][:, 0]
    x = np.array(
        [
            [(kernel[c] * mel[4 * t : 4 * t + 4].T).sum() + w["patch_embed.proj.bias"][c] for c in range(len(kernel))]
            for t in range(len(mel) // 4)
        ]
    )
    x = x + w["time_pos_embed"][0, :, 0, : len(x)].T + w["freq_pos_embed"][0, :, 0, 0]
    width = x.shape[1]
    size = width // heads
    for layer in range(2):
        name = f"blocks.{layer}"
        joint = _linear(_norm(x, w, f"{name}.norm1"), w, f"{name}.attn.qkv")
        mixed = np.zeros_like(x)
        for head in range(heads):
            query, key, value = (joint[:, k * width + head * size : k * width + (head + 1) * size] for k in range(3))
            scores = np.exp(query @ key.T / math.sqrt(size))
            mixed[:, head * size : (head + 1) * size] = scores / scores.sum(axis=1, keepdims=True) @ value
        x = x + _linear(mixed, w, f"{name}.attn.proj")
        inner = _linear(_norm(x, w, f"{name}.norm2"), w, f"{name}.mlp.fc1")
        active = np.vectorize(lambda v: 0.5 * v * (1 + math.erf(v / math.sqrt(2))))(inner)
        x = x + _linear(active, w, f"{name}.mlp.fc2")
    return _norm(x, w, "norm")


def test_it_computes_what_the_publisher_says(model_of: ModelOf) -> None:
    wave = noise(7_000, 1)
    wave[3000:] *= 1e-7  # so quiet that the 120 dB count
    weights = {k: v.double().numpy() for k, v in small.dasheng_weights().items()}
    expected = _restated(_decibels(wave), weights, heads=2)
    ours = load_encoder(str(model_of("dasheng"))).frames([wave])[0]
    assert len(expected) == (7_000 // 160 + 1) // 4
    np.testing.assert_allclose(ours, expected, atol=1e-3)


def test_a_long_clip_is_cut_every_1008_mel_frames(model_of: ModelOf) -> None:
    wave = noise(16_000 * 14, 2)
    weights = {k: v.double().numpy() for k, v in small.dasheng_weights().items()}
    mel = _decibels(wave)
    expected = np.concatenate([_restated(mel[:1008], weights, 2), _restated(mel[1008:], weights, 2)])
    np.testing.assert_allclose(load_encoder(str(model_of("dasheng"))).frames([wave])[0], expected, atol=1e-3)


def test_the_publishers_file_is_read(model_of: ModelOf, tmp_path: Path) -> None:
    weights = {
        **small.dasheng_weights(),
        "front_end.0.mel_scale.fb": torch.ones(3),
        "front_end.0.window": torch.ones(3),
    }
    torch.save({"model": weights, "config": {"num_heads": 2, "depth": 2}}, tmp_path / "m.pt")
    assert dasheng.claims(str(tmp_path / "m.pt"))
    wave = noise(16_000, 3)
    ours = load_encoder(str(tmp_path / "m.pt")).frames([wave])[0]
    np.testing.assert_array_equal(ours, load_encoder(str(model_of("dasheng"))).frames([wave])[0])


def test_layers(model_of: ModelOf) -> None:
    folder, wave = str(model_of("dasheng")), noise(16_000, 3)
    last = load_encoder(folder).frames([wave])[0]
    np.testing.assert_array_equal(load_encoder(folder, layer=2).frames([wave])[0], last)
    assert not np.allclose(load_encoder(folder, layer=1).frames([wave])[0], last, atol=1e-2)
    with pytest.raises(ConfigError, match="layer: expected 0 to 2"):
        load_encoder(folder, layer=3)


def test_other_weights_are_refused(model_of: ModelOf, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(model_of("dasheng"), tmp_path / "copy"))
    (folder / "config.json").write_text(json.dumps({"model_type": "dasheng"}))
    with pytest.raises(WeightsError, match=r"expected num_heads .* width of 16"):
        load_encoder(str(folder))
    torch.save({"model": {"time_pos_embed": torch.ones(1)}, "config": {}}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match="weights of a Dasheng encoder"):
        load_encoder(str(tmp_path / "m.pt"))
    weights = small.dasheng_weights()
    del weights["norm.weight"]
    torch.save({"model": weights, "config": {"num_heads": 2}}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match=r"norm\.weight"):
        load_encoder(str(tmp_path / "m.pt"))
    torch.save({"time_pos_embed": 1}, tmp_path / "m.pt")
    with pytest.raises(WeightsError, match="with model and config"):
        load_encoder(str(tmp_path / "m.pt"))
