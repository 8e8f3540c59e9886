"""Dasheng's encoder: decibels of 64 mel bands, batch norm, patches of 40 ms over all bands, a pre-norm transformer.

Written from arXiv 2406.06992 and to the parameter names of its checkpoints, the publisher's files and the hub's alike.
Facts that only the code states (layer norm epsilon 1e-6, learnt positions in time and frequency, windows of 1008 mel
frames, decibels at most 120 below the loudest) are from XiaoMi/dasheng@50219b7 dasheng/train/models.py.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

__all__ = ["DashengModel"]

_EPS = 1e-6


class DashengModel(nn.Module):
    """The encoder; `forward` maps mel spectrograms in decibels to hidden states, one per patch."""

    def __init__(self, *, width: int, depth: int, heads: int, bands: int, patch: int, steps: int, inner: int) -> None:
        super().__init__()
        self.bands, self.patch, self.steps = bands, patch, steps
        self.init_bn = nn.ModuleDict({"1": nn.BatchNorm2d(bands)})
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(1, width, (bands, patch), stride=(bands, patch))})
        self.time_pos_embed = nn.Parameter(torch.zeros(1, width, 1, steps))
        self.freq_pos_embed = nn.Parameter(torch.zeros(1, width, 1, 1))
        self.blocks = nn.ModuleList(_Block(width, heads, inner) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=_EPS)

    def forward(
        self,
        mel: Float[Tensor, "batch frames bands"],
        mask: Bool[Tensor, "batch steps"] | None = None,
        layer: int | None = None,
    ) -> Float[Tensor, "batch steps width"]:
        """Return the hidden states after `layer` blocks (None: all, then the last norm).

        Args:
            mel: Decibels, whole patches of time and at most `steps` of them.
            mask: Which patches are real; None if all are.
            layer: How many blocks to compute.
        """
        scaled = self.init_bn["1"](mel.transpose(1, 2)[..., None])[..., 0]
        x = self.patch_embed["proj"](scaled[:, None])
        x = (x + self.time_pos_embed[..., : x.shape[-1]] + self.freq_pos_embed).flatten(2).transpose(1, 2)
        real = None if mask is None else mask[:, None, None, :]
        for block in self.blocks[:layer]:
            x = block(x, real)
        return self.norm(x) if layer is None else x


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPS)
        self.attn = _Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=_EPS)
        self.mlp = nn.ModuleDict({"fc1": nn.Linear(width, inner), "fc2": nn.Linear(inner, width)})

    def forward(self, x: Tensor, real: Tensor | None) -> Tensor:
        x = x + self.attn(self.norm1(x), real)
        return x + self.mlp["fc2"](F.gelu(self.mlp["fc1"](self.norm2(x))))


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, real: Tensor | None) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=real)
        return self.proj(out.transpose(1, 2).flatten(2))
