"""BEATs: patches of a filter bank, positions by convolution, a post-norm transformer with gated relative bias.

Written from the equations of arXiv 2212.09058 and of WavLM (arXiv 2110.13900 eq. 5-7), and to the parameter names of
Microsoft's checkpoints. Facts that only their code states (the gate sees the projected query of its head; the bias of
the first layer serves all; deep norm weighs the residual by (2 layers)^(1/4)) are from microsoft/unilm@9102ed9
beats/backbone.py and @c68101b beats/BEATs.py. Positions behind a mask are zero before the position embedding and get
no attention, so padding changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from uniwhisper.errors import WeightsError

__all__ = ["BeatsConfig", "BeatsModel"]


@dataclass(frozen=True, kw_only=True, slots=True)
class BeatsConfig:
    """The part of a checkpoint's `cfg` that decides what the encoder computes; names and defaults are the publisher's.

    Source: microsoft/unilm@c68101b beats/BEATs.py BEATsConfig.
    """

    input_patch_size: int
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_norm_first: bool = False
    deep_norm: bool = False
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = False
    num_buckets: int = 320
    max_distance: int = 1280
    gru_rel_pos: bool = False

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> BeatsConfig:
        """Return the configuration in a checkpoint's `cfg`.

        Raises:
            WeightsError: It has no patch size, or asks for what no published BEATs has.
        """
        if "input_patch_size" not in values:
            raise WeightsError("expected input_patch_size in the checkpoint's cfg; is it a BEATs encoder?")
        config = cls(**{f.name: values[f.name] for f in fields(cls) if f.name in values})
        if config.activation_fn != "gelu" or config.layer_norm_first or not config.relative_position_embedding:
            raise WeightsError(
                "expected a BEATs cfg with activation_fn gelu, layer_norm_first False and relative_position_embedding "
                f"True, found {config.activation_fn!r}, {config.layer_norm_first}, {config.relative_position_embedding}"
            )
        return config


class BeatsModel(nn.Module):
    """The encoder without its predictor; `forward` maps a normalised filter bank to hidden states per patch."""

    def __init__(self, config: BeatsConfig, *, bands: int = 128) -> None:
        super().__init__()
        size, width = config.input_patch_size, config.encoder_embed_dim
        self.config = config
        self.bands_of_patches = bands // size
        self.patch_embedding = nn.Conv2d(1, config.embed_dim, size, stride=size, bias=config.conv_bias)
        self.layer_norm = nn.LayerNorm(config.embed_dim)
        self.post_extract_proj = nn.Linear(config.embed_dim, width) if config.embed_dim != width else nn.Identity()
        self.encoder = _Encoder(config)

    def patches(self, fbank: Float[Tensor, "batch frames bands"]) -> Float[Tensor, "batch patches width"]:
        """Return projected patches, time first: all bands of one time step follow one another."""
        embedded = self.patch_embedding(fbank[:, None]).flatten(2).transpose(1, 2)
        return self.post_extract_proj(self.layer_norm(embedded))

    def forward(
        self,
        fbank: Float[Tensor, "batch frames bands"],
        mask: Bool[Tensor, "batch steps"] | None = None,
        layer: int | None = None,
    ) -> Float[Tensor, "batch steps bands_of_patches width"]:
        """Return the hidden states after `layer` layers (None: all).

        Args:
            fbank: Normalised filter banks, whole patches of time.
            mask: Which time steps of patches are real; None if all are.
            layer: How many layers to compute.
        """
        x = self.patches(fbank)
        real = None if mask is None else mask.repeat_interleave(self.bands_of_patches, dim=1)
        x = self.encoder(x, real, layer)
        return x.unflatten(1, (-1, self.bands_of_patches))


class _Encoder(nn.Module):
    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width, kernel = config.encoder_embed_dim, config.conv_pos
        self.pos_conv = nn.Sequential(_PositionConv(width, kernel, config.conv_pos_groups))
        self.layer_norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(_Layer(config, first=number == 0) for number in range(config.encoder_layers))

    def forward(self, x: Tensor, real: Tensor | None, layer: int | None) -> Tensor:
        if real is not None:
            x = x.masked_fill(~real[..., None], 0.0)
        x = self.layer_norm(x + self.pos_conv(x))
        bias = cast(_Layer, self.layers[0]).self_attn.position_bias(x.shape[1])
        for block in self.layers[:layer]:
            x = block(x, bias, real)
        return x


class _PositionConv(nn.Module):
    """A grouped convolution whose weight is a direction and one length per tap; as many positions out as in."""

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.weight_v = nn.Parameter(torch.empty(width, width // groups, kernel).normal_(std=0.02))
        self.weight_g = nn.Parameter(torch.ones(1, 1, kernel))
        self.bias = nn.Parameter(torch.zeros(width))
        self.groups = groups

    def forward(self, x: Float[Tensor, "batch time width"]) -> Float[Tensor, "batch time width"]:
        weight = self.weight_v * (self.weight_g / self.weight_v.norm(dim=(0, 1), keepdim=True))
        kernel = weight.shape[-1]
        out = F.conv1d(x.transpose(1, 2), weight, self.bias, padding=kernel // 2, groups=self.groups)
        return F.gelu(out[..., : x.shape[1]]).transpose(1, 2)  # an even kernel yields one position too many


class _Layer(nn.Module):
    def __init__(self, config: BeatsConfig, *, first: bool) -> None:
        super().__init__()
        width, inner = config.encoder_embed_dim, config.encoder_ffn_embed_dim
        self.self_attn = _Attention(config, first=first)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)
        self.final_layer_norm = nn.LayerNorm(width)
        self.residual = (2 * config.encoder_layers) ** 0.25 if config.deep_norm else 1.0

    def forward(self, x: Tensor, bias: Tensor, real: Tensor | None) -> Tensor:
        x = self.self_attn_layer_norm(x * self.residual + self.self_attn(x, bias, real))
        return self.final_layer_norm(x * self.residual + self.fc2(F.gelu(self.fc1(x))))


class _Attention(nn.Module):
    def __init__(self, config: BeatsConfig, *, first: bool) -> None:
        super().__init__()
        width = config.encoder_embed_dim
        self.heads = config.encoder_attention_heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.num_buckets, self.max_distance = config.num_buckets, config.max_distance
        if first:  # the published files repeat it in every layer
            self.relative_attention_bias = nn.Embedding(config.num_buckets, self.heads)
        self.gated = config.gru_rel_pos
        if self.gated:
            self.grep_linear = nn.Linear(width // self.heads, 8)
            self.grep_a = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def position_bias(self, length: int) -> Float[Tensor, "heads length length"]:
        """Return the bias of every pair of positions, before any gate."""
        positions = torch.arange(length, device=self.q_proj.weight.device)
        buckets = self._bucket(positions[None, :] - positions[:, None])
        return self.relative_attention_bias(buckets).permute(2, 0, 1)

    def _bucket(self, distance: Tensor) -> Tensor:
        """Return the bucket of a signed distance: exact when near, logarithmic when far, one half for each sign."""
        half = self.num_buckets // 2
        near = half // 2
        size = distance.abs()
        scaled = torch.log(size.float().clamp_min(1) / near) / math.log(self.max_distance / near) * (half - near)
        far = (near + scaled.long()).clamp_max(half - 1)
        return torch.where(size < near, size, far) + half * (distance > 0)

    def forward(self, x: Tensor, bias: Tensor, real: Tensor | None) -> Tensor:
        query, key, value = (
            project(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        mask = bias.to(query.dtype)[None]
        if self.gated:
            gates = self.grep_linear(query).unflatten(-1, (2, 4)).sum(-1).sigmoid()
            update, reset = gates[..., :1], gates[..., 1:]
            mask = (update * (reset * self.grep_a - 1.0) + 2.0) * mask
        if real is not None:
            mask = mask.masked_fill(~real[:, None, None, :], float("-inf"))
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=mask.to(query.dtype))
        return self.out_proj(out.transpose(1, 2).flatten(2))
