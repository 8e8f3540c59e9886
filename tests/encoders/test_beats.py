"""BEATs against its equations, written out position by position, and what is refused as a checkpoint."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from uniwhisper.encoders import beats, load_encoder
from uniwhisper.encoders._beats_model import BeatsConfig, BeatsModel
from uniwhisper.encoders._kaldi import fbank
from uniwhisper.errors import ConfigError, WeightsError

from . import small
from .small import BEATS, noise

Weights = dict[str, np.ndarray]


def _norm(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    out = np.empty_like(x)
    for i, row in enumerate(x):
        mean = row.sum() / len(row)
        variance = ((row - mean) ** 2).sum() / len(row)
        out[i] = (row - mean) / math.sqrt(variance + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]
    return out


def _linear(x: np.ndarray, w: Weights, name: str) -> np.ndarray:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    return np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.ravel()]).reshape(x.shape)


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _bucket(key: int, query: int, config: BeatsConfig) -> int:
    half = config.num_buckets // 2
    near = half // 2
    distance = abs(key - query)
    if distance < near:
        place = distance
    else:
        grown = math.log(distance / near) / math.log(config.max_distance / near) * (half - near)
        place = min(near + int(grown), half - 1)
    return place + (half if key > query else 0)


def _positions(x: np.ndarray, w: Weights, config: BeatsConfig) -> np.ndarray:
    """A grouped convolution, its kernel a direction of unit norm per tap times that tap's length, then GELU."""
    direction, length = w["encoder.pos_conv.0.weight_v"], w["encoder.pos_conv.0.weight_g"]
    taps, width = config.conv_pos, config.encoder_embed_dim
    per_group = width // config.conv_pos_groups
    kernel = np.empty_like(direction)
    for tap in range(taps):
        kernel[:, :, tap] = direction[:, :, tap] / math.sqrt((direction[:, :, tap] ** 2).sum()) * length[0, 0, tap]
    out = np.tile(w["encoder.pos_conv.0.bias"], (len(x), 1))
    for t in range(len(x)):
        for channel in range(width):
            first = channel // per_group * per_group
            for tap in range(taps):
                at = t + tap - taps // 2
                if 0 <= at < len(x):
                    out[t, channel] += kernel[channel, :, tap] @ x[at, first : first + per_group]
    return _gelu(out)


def _attention(x: np.ndarray, w: Weights, layer: int, config: BeatsConfig) -> np.ndarray:
    name = f"encoder.layers.{layer}.self_attn"
    heads, size = config.encoder_attention_heads, config.encoder_embed_dim // config.encoder_attention_heads
    query, key, value = (_linear(x, w, f"{name}.{part}_proj") for part in "qkv")
    table = w["encoder.layers.0.self_attn.relative_attention_bias.weight"]
    out = np.zeros_like(x)
    for head in range(heads):
        part = slice(head * size, (head + 1) * size)
        for i in range(len(x)):
            gate = _linear(query[i, part], w, f"{name}.grep_linear")
            update, reset = _sigmoid(gate[:4].sum()), _sigmoid(gate[4:].sum())
            scale = update * (reset * w[f"{name}.grep_a"][0, head, 0, 0] - 1) + 2
            scores = np.array(
                [
                    query[i, part] @ key[j, part] / math.sqrt(size) + scale * table[_bucket(j, i, config), head]
                    for j in range(len(x))
                ]
            )
            share = np.exp(scores - scores.max())
            out[i, part] = share / share.sum() @ value[:, part]
    return _linear(out, w, f"{name}.out_proj")


def _restated(bank: np.ndarray, w: Weights, config: BeatsConfig) -> np.ndarray:
    """Return `[patches, width]` for one normalised filter bank."""
    size = config.input_patch_size
    kernel = w["patch_embedding.weight"].reshape(config.embed_dim, -1)
    patches = []
    for t in range(len(bank) // size):
        for f in range(bank.shape[1] // size):
            patches.append(kernel @ bank[t * size : (t + 1) * size, f * size : (f + 1) * size].ravel())
    x = _linear(_norm(np.array(patches), w, "layer_norm"), w, "post_extract_proj")
    x = _norm(x + _positions(x, w, config), w, "encoder.layer_norm")
    alpha = (2 * config.encoder_layers) ** 0.25 if config.deep_norm else 1.0
    for layer in range(config.encoder_layers):
        name = f"encoder.layers.{layer}"
        x = _norm(alpha * x + _attention(x, w, layer, config), w, f"{name}.self_attn_layer_norm")
        inner = _linear(_gelu(_linear(x, w, f"{name}.fc1")), w, f"{name}.fc2")
        x = _norm(alpha * x + inner, w, f"{name}.final_layer_norm")
    return x


@pytest.mark.parametrize("config", [BEATS, replace(BEATS, deep_norm=False, conv_pos=7), replace(BEATS, num_buckets=6)])
def test_it_computes_what_the_paper_says(config: BeatsConfig, tmp_path: Path) -> None:
    encoder = load_encoder(str(small.beats(tmp_path / "m.pt", config)))
    wave = noise(16_000 // 2, 1)
    bank = fbank(torch.from_numpy(wave) * 32768).double().numpy()
    normalised = (bank[:48] - 15.41663) / (2 * 6.55582)
    assert len(bank) == 48
    weights = {k: v.double().numpy() for k, v in small.beats_weights(config).items()}
    expected = _restated(normalised, weights, config).reshape(3, 8, -1).mean(axis=1)
    np.testing.assert_allclose(encoder.frames([wave])[0], expected, atol=2e-5)


def test_distances_fall_into_the_published_buckets() -> None:
    config = replace(BEATS, num_buckets=320, max_distance=800)
    attention = BeatsModel(replace(config, encoder_layers=1)).encoder.layers[0].self_attn
    distances = torch.arange(-1200, 1201)
    expected = [_bucket(int(d), 0, config) for d in distances]
    found = attention._bucket(distances).tolist()  # type: ignore[union-attr]
    differing = [d for d, e, f in zip(distances.tolist(), expected, found, strict=True) if e != f]
    assert len(differing) <= 4  # where float32 rounds a logarithm across a whole number
    assert max(found) == 319


def test_repeated_biases_and_the_classifier_are_accepted(tmp_path: Path) -> None:
    plain = load_encoder(str(small.beats(tmp_path / "a.pt")))
    tuned = load_encoder(str(small.beats(tmp_path / "b.pt", **{"predictor.weight": torch.ones(3, 16)})))
    wave = noise(16_000, 2)
    np.testing.assert_array_equal(plain.frames([wave])[0], tuned.frames([wave])[0])


def test_an_earlier_layer(tmp_path: Path) -> None:
    path = str(small.beats(tmp_path / "a.pt"))
    wave = noise(16_000, 2)
    last, second = load_encoder(path).frames([wave])[0], load_encoder(path, layer=2).frames([wave])[0]
    np.testing.assert_array_equal(last, second)
    shallow = small.beats(tmp_path / "b.pt", replace(BEATS, deep_norm=False))
    assert not np.allclose(load_encoder(path, layer=1).frames([wave])[0], last, atol=1e-2)
    assert load_encoder(path, layer=0).fingerprint != load_encoder(path, layer=1).fingerprint
    with pytest.raises(ConfigError, match="layer: expected 0 to 2, found 3"):
        load_encoder(str(shallow), layer=3)


def _save(path: Path, value: object) -> Path:
    torch.save(value, path)
    return path


class _Dangerous:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, ...]]:
        return Path.touch, (Path("never"),)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda cfg, w: {"model": w}, "with cfg and model"),
        (lambda cfg, w: [1, 2], "with cfg and model in .*, found list"),
        (lambda cfg, w: {"cfg": {}, "model": w}, "input_patch_size"),
        (lambda cfg, w: {"cfg": {**cfg, "layer_norm_first": True}, "model": w}, "layer_norm_first False"),
        (lambda cfg, w: {"cfg": cfg, "model": {**w, "quantize.embed": torch.ones(1)}}, "a tokenizer of BEATs"),
        (lambda cfg, w: {"cfg": cfg, "model": {k: w[k] for k in list(w)[1:]}}, "fit its cfg"),
        (lambda cfg, w: {"cfg": {**cfg, "encoder_layers": 3}, "model": w}, "fit its cfg"),
        (lambda cfg, w: {"cfg": cfg, "model": w, "more": _Dangerous()}, "restricted unpickler refuses"),
    ],
)
def test_what_is_no_beats_encoder_is_refused(
    change: Callable[..., object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = _save(tmp_path / "beats.pt", change(asdict(BEATS), small.beats_weights()))
    with pytest.raises(WeightsError, match=message):
        load_encoder(str(path))
    assert not (tmp_path / "never").exists()


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    whole = small.beats(tmp_path / "beats.pt").read_bytes()
    (tmp_path / "beats.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="Fetch the file again"):
        load_encoder(str(tmp_path / "beats.pt"))


def test_files_are_told_apart_by_what_their_pickle_names(tmp_path: Path) -> None:
    assert beats.claims(str(small.beats(tmp_path / "any.pt")))
    assert not beats.claims(str(_save(tmp_path / "other.pt", {"model_state_dict": {"a": torch.ones(1)}})))
    (tmp_path / "text.pt").write_text("no archive")
    assert not beats.claims(str(tmp_path / "text.pt"))
    assert not beats.claims(str(tmp_path / "absent.pt"))


def test_a_published_name_says_where_to_place_the_file(test_home: Path) -> None:
    with pytest.raises(WeightsError, match=r"encoders/BEATs_iter3\.pt, found nothing there\. Microsoft publishes"):
        load_encoder("beats-iter3")
    placed = test_home / "encoders" / "BEATs_iter3.pt"
    placed.parent.mkdir(exist_ok=True)
    small.beats(placed)
    try:
        encoder = load_encoder("beats-iter3")
    finally:
        placed.unlink()
    assert encoder.trained_on == ("audioset",)  # type: ignore[attr-defined]
    assert encoder.license == "MIT"  # type: ignore[attr-defined]
