"""The only part of the ASR probe that learns: from stacked encoder frames to inputs of the frozen LM.

Shape letters: `T` packed frames, `P` packed decoder inputs, `D` encoder width, `H` hidden width, `Q` decoder width.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from uniwhisper.model.packing import Packed, group_positions

__all__ = ["SwigluAdapter"]


class SwigluAdapter(nn.Module):
    """`proj(silu(fc1(x)) * fc2(x))` with biases, after an optional standardisation of the frames.

    Source: https://pypi.org/project/xares/0.1.3/ (xares/models/asr.py, EncoderAdapter).
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, width: int, *, hidden: int, decoder_width: int, reduction: int = 1) -> None:
        super().__init__()
        self.reduction = reduction
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("scale", torch.ones(width))
        self.fc1 = nn.Linear(width * reduction, hidden)
        self.fc2 = nn.Linear(width * reduction, hidden)
        self.proj = nn.Linear(hidden, decoder_width)

    def stack(self, frames: Packed) -> Packed:
        """Return standardised frames, `reduction` of them side by side in a row."""
        x = (frames.values - self.mean) * self.scale
        if self.reduction == 1:
            return Packed(values=x, lengths=frames.lengths)
        rows, lengths = group_positions(frames.lengths, self.reduction)
        return Packed(values=x[rows.to(x.device)].flatten(1), lengths=lengths)

    def forward(self, frames: Packed) -> Packed:
        """Return decoder inputs, `ceil(T_i / reduction)` a clip."""
        stacked = self.stack(frames)
        x = stacked.values
        values = self.proj(functional.silu(self.fc1(x)) * self.fc2(x))
        return Packed(values=values, lengths=stacked.lengths)

    @torch.no_grad()
    def standardise(self, mean: Float[Tensor, " D"], deviation: Float[Tensor, " D"]) -> None:
        """Let every feature be shifted and scaled so; a feature that never changes is only shifted."""
        self.mean.copy_(mean)
        self.scale.copy_(torch.where(deviation > 0, 1 / deviation.clamp(min=1e-12), torch.ones_like(deviation)))
