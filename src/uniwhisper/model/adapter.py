"""Between encoder and decoder: the stride-2 subsampler (40 ms frames) and the adapter (frames -> decoder width).

The subsampler belongs to the encoder that users get; the adapter is only a means of training it.

Shape letters: `T` packed 20 ms frames, `A` packed 40 ms frames, `P` decoder positions, `D` encoder width, `Q` decoder
width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from uniwhisper.model.dims import AdapterConfig
from uniwhisper.model.packing import Packed, group_positions, on_device

__all__ = ["STRIDE", "Adapter", "Subsampler"]

STRIDE = 2
"""Temporal stride after the encoder: 20 ms -> 40 ms. Source: the paper (arXiv 2602.21772), section 3.2."""


class Subsampler(nn.Module):
    """Temporal convolution of kernel 2 and stride 2, initialised as the mean of its two frames.

    The paper fixes the stride and leaves kernel and initialisation open. Starting as a mean keeps Whisper's features
    intact at step 0; kernel 2 = stride means that no output mixes frames of its neighbours.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(width, width, kernel_size=STRIDE, stride=STRIDE)
        with torch.no_grad():
            self.bias.zero_()
            self.conv.weight.copy_(torch.eye(width)[:, :, None].expand(-1, -1, STRIDE) / STRIDE)

    @property
    def bias(self) -> Tensor:
        """Return the convolution's bias, which it always has."""
        assert self.conv.bias is not None
        return self.conv.bias

    def forward(self, frames: Packed) -> Packed:
        """Return 40 ms frames, `ceil(T_i / 2)` a clip; a lone last frame is convolved with itself."""
        rows, lengths = group_positions(frames.lengths, STRIDE)
        pairs = frames.values[on_device(rows, frames.values.device)]  # A, 2, D
        weight = self.conv.weight.permute(0, 2, 1).reshape(self.conv.out_channels, -1)  # the conv as one matrix
        return Packed(values=functional.linear(pairs.flatten(1), weight, self.conv.bias), lengths=lengths)

    @torch.no_grad()
    def calibrate(self, mean: Float[Tensor, " D"], transform: Float[Tensor, "D D"]) -> None:
        """Fold the affine map `transform @ (frame - mean)` into the convolution, so that its outputs are mapped so."""
        weight = torch.einsum("ij,jkt->ikt", transform, self.conv.weight)
        bias = transform @ (self.bias - mean)
        self.conv.weight.copy_(weight)
        self.bias.copy_(bias)


class Adapter(nn.Module):
    """A linear map plus a zero-initialised MLP, from `reduction` stacked frames to one decoder input.

    The linear map can be set to a closed-form solution (`train/warm_start.py`); the MLP then only learns the rest.
    """

    def __init__(self, *, width: int, decoder_width: int, config: AdapterConfig) -> None:
        super().__init__()
        self.reduction = config.reduction
        self.norm = nn.LayerNorm(width)
        self.skip = nn.Linear(width, decoder_width)
        self.fc1 = nn.Linear(width * config.reduction, config.hidden)
        self.fc2 = nn.Linear(config.hidden, decoder_width)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, frames: Packed) -> Packed:
        """Return decoder inputs `Z` (the paper's equation 1), `ceil(A_i / reduction)` a clip."""
        x = self.norm(frames.values)
        lengths = frames.lengths
        if self.reduction > 1:
            rows, lengths = group_positions(lengths, self.reduction)
            stacked = x[on_device(rows, x.device)]  # P, reduction, D
            x, wide = stacked.mean(dim=1), stacked.flatten(1)
        else:
            wide = x
        values = self.skip(x) + self.fc2(functional.gelu(self.fc1(wide)))
        return Packed(values=values, lengths=lengths)
