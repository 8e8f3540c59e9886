"""Random models of a few thousand parameters in the layouts that publishers use, one folder or file each."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from tiny import randomise, tiny_whisper
from uniwhisper.encoders._beats_model import BeatsConfig, BeatsModel
from uniwhisper.encoders._dasheng_model import DashengModel

_SPEECH = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (12,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
_LARGE = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


def _save(folder: Path, model: Any, extractor: Any) -> Path:
    randomise(model, 5)
    disturb_norms(model)
    model.save_pretrained(folder)
    extractor.save_pretrained(folder)
    return folder


def disturb_norms(model: nn.Module) -> None:
    """Give batch norms statistics, so that they do something."""
    generator = torch.Generator().manual_seed(8)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2.0, generator=generator)


def speech(folder: Path, kind: str, *, normalize: bool = True, **options: Any) -> Path:
    from transformers import AutoConfig, AutoModel, Wav2Vec2FeatureExtractor

    config = AutoConfig.for_model(kind, **{**_SPEECH, **options})
    return _save(folder, AutoModel.from_config(config), Wav2Vec2FeatureExtractor(do_normalize=normalize))


def ast(folder: Path) -> Path:
    import warnings

    from transformers import ASTConfig, ASTFeatureExtractor, ASTModel

    config = ASTConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # it finds some of its own 128 filters empty
        extractor = ASTFeatureExtractor(mean=-4.0, std=4.5)
    return _save(folder, ASTModel(config), extractor)


def clap(folder: Path, *, fusion: bool = False) -> Path:
    from transformers import ClapConfig, ClapFeatureExtractor, ClapModel

    text = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    sound = {
        "patch_embeds_hidden_size": 8,
        "depths": [1, 1, 1, 1],
        "num_attention_heads": [1, 1, 2, 2],
        "hidden_size": 64,
        "enable_fusion": fusion,
    }
    config = ClapConfig(
        text_config={**text, "vocab_size": 50, "max_position_embeddings": 20}, audio_config=sound, projection_dim=8
    )
    extractor = ClapFeatureExtractor(truncation="fusion" if fusion else "rand_trunc")
    return _save(folder, ClapModel(config), extractor)


BEATS = BeatsConfig(
    input_patch_size=16,
    embed_dim=8,
    encoder_layers=2,
    encoder_embed_dim=16,
    encoder_ffn_embed_dim=24,
    encoder_attention_heads=2,
    deep_norm=True,
    conv_pos=8,
    conv_pos_groups=4,
    relative_position_embedding=True,
    num_buckets=8,
    max_distance=20,
    gru_rel_pos=True,
)


def beats_weights(config: BeatsConfig = BEATS) -> dict[str, torch.Tensor]:
    """Return random weights under the publisher's names, which repeat the position bias in every layer."""
    with torch.random.fork_rng():
        torch.manual_seed(6)
        model = BeatsModel(config)
    randomise(model, 6, scale=0.4)
    weights = {k: v.detach().clone() for k, v in model.state_dict().items()}
    for layer in range(1, config.encoder_layers):
        first = weights["encoder.layers.0.self_attn.relative_attention_bias.weight"]
        weights[f"encoder.layers.{layer}.self_attn.relative_attention_bias.weight"] = first
    return weights


def beats(path: Path, config: BeatsConfig = BEATS, **extra: torch.Tensor) -> Path:
    cfg = {**asdict(config), "dropout": 0.1, "finetuned_model": bool(extra)}
    torch.save({"cfg": cfg, "model": {**beats_weights(config), **extra}}, path)
    return path


def dasheng_weights() -> dict[str, torch.Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(7)
        model = DashengModel(width=16, depth=2, heads=2, bands=64, patch=4, steps=252, inner=32)
    randomise(model, 7)
    disturb_norms(model)
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def dasheng(folder: Path) -> Path:
    folder.mkdir()
    save_file({f"encoder.{k}": v for k, v in dasheng_weights().items()}, folder / "model.safetensors")
    config = {"model_type": "dasheng", "name": "dasheng-base", "encoder_kwargs": {"num_heads": 2, "depth": 2}}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def whisper(folder: Path) -> Path:
    return tiny_whisper(folder, layers=1, width=32, heads=2)


MAKERS: Mapping[str, Callable[[Path], Path]] = {
    "wav2vec2-base": lambda path: speech(path, "wav2vec2"),
    "wav2vec2-large": lambda path: speech(path, "wav2vec2", **_LARGE),
    "hubert-base": lambda path: speech(path, "hubert", normalize=False),
    "hubert-large": lambda path: speech(path, "hubert", **_LARGE),
    "hubert-batch-norm": lambda path: speech(path, "hubert", conv_pos_batch_norm=True),
    "wavlm-base": lambda path: speech(path, "wavlm", normalize=False),
    "wavlm-large": lambda path: speech(path, "wavlm", **_LARGE),
    "data2vec": lambda path: speech(path, "data2vec-audio", num_conv_pos_embeddings=3),
    "ast": ast,
    "clap": clap,
    "clap-fused": lambda path: clap(path, fusion=True),
    "beats": lambda path: beats(path.with_suffix(".pt")),
    "dasheng": dasheng,
    "whisper": whisper,
}
"""A maker of each kind of model that pads, normalises or windows in a way of its own."""


def noise(num_samples: int, seed: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)
