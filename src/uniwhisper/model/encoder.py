"""Whisper's audio encoder on true-length input: reads log-mels of any length, returns packed 20 ms frames.

Parameter names are those of Hugging Face's `WhisperEncoder`, so hub weights load as they are.
`forward` never computes padding: clips are laid end to end (packing.py), the convolutions see each clip followed by
what follows it in a padded window, and attention stays within the clip. A clip's frames therefore do not depend on its
batch.
`forward_padded` is the compatibility mode: the stock 30 s window, every frame attended, silence included.

Shape letters: `B` clips, `M` mel bins, `F` mel frames, `T` encoder frames of all clips together, `D` width, `H` heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional

from uniwhisper.errors import EncoderError, WeightsError
from uniwhisper.model.dims import EncoderDims, read_encoder_dims
from uniwhisper.model.packing import Packed, segment_attention

__all__ = ["AudioEncoder", "load_encoder"]

_LEAD = 2
"""Zero frames before each clip in the packed convolution: even, so that stride 2 stays on the clip's even frames."""
_TAIL = 2
"""Frames after each clip that are read: the last output of the two convolutions reads at most two frames past it."""


class SelfAttention(nn.Module):
    """Multi-head self-attention within each clip of a pack."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width, bias=False)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Float[Tensor, "T D"], lengths: tuple[int, ...]) -> Float[Tensor, "T D"]:
        """Return the attended frames; the three input projections run as one matrix product."""
        weight = torch.cat([self.q_proj.weight, self.k_proj.weight, self.v_proj.weight])
        bias = torch.cat([self.q_proj.bias, torch.zeros_like(self.q_proj.bias), self.v_proj.bias])
        mixed = functional.linear(x, weight, bias)
        query, key, value = mixed.view(len(x), 3, self.heads, -1).permute(1, 2, 0, 3).unbind(0)
        attended = segment_attention(query, key, value, lengths, causal=False)
        return self.out_proj(attended.transpose(0, 1).reshape(x.shape))


class EncoderLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.self_attn = SelfAttention(width, heads)
        self.final_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Float[Tensor, "T D"], lengths: tuple[int, ...]) -> Float[Tensor, "T D"]:
        """Return the layer's output for a pack of clips."""
        x = x + self.self_attn(self.self_attn_layer_norm(x), lengths)
        return x + self.fc2(functional.gelu(self.fc1(self.final_layer_norm(x))))


class AudioEncoder(nn.Module):
    """Whisper's audio encoder (the paper, section 2.1) for packs of true-length clips."""

    def __init__(self, dims: EncoderDims) -> None:
        super().__init__()
        self.dims = dims
        width = dims.n_audio_state
        self.conv1 = nn.Conv1d(dims.n_mels, width, kernel_size=3, padding=1)
        self.conv2 = nn.Conv1d(width, width, kernel_size=3, stride=2, padding=1)
        self.embed_positions = nn.Embedding(dims.n_audio_ctx, width)
        self.layers = nn.ModuleList(EncoderLayer(width, dims.n_audio_head) for _ in range(dims.n_audio_layer))
        self.layer_norm = nn.LayerNorm(width)
        # Sinusoids in every release, never trained: a moving position table would break longer-than-seen clips.
        self.embed_positions.requires_grad_(False)

    def forward(self, mels: Sequence[Float[Tensor, "M F"]], tails: Sequence[Float[Tensor, "M 2"] | float]) -> Packed:
        """Return the frames of every clip, 50 a second, packed.

        Args:
            mels: Log-mels at 100 frames a second, each of 1 to `2 * n_audio_ctx` frames.
            tails: For each clip the two frames that follow it (`mel.log_mel_tails`), or one value that both have.

        Returns:
            `ceil(F / 2)` frames a clip.

        Raises:
            EncoderError: A log-mel is empty, too long, or has another number of bins.
        """
        self._check(mels)
        lengths = tuple(-(-mel.shape[1] // 2) for mel in mels)
        x, rows = self._convolve(mels, tails)
        positions = torch.cat([self.embed_positions.weight[:length] for length in lengths])
        x = x[rows] + positions
        return Packed(values=self._transform(x, lengths), lengths=lengths)

    def forward_padded(self, mel: Float[Tensor, "B M F"]) -> Float[Tensor, "B T D"]:
        """Return the frames of full 30 s windows, exactly as the stock encoder does (silence is attended too)."""
        frames = 2 * self.dims.n_audio_ctx
        if mel.ndim != 3 or mel.shape[2] != frames:
            raise EncoderError(
                f"compat mode: expected log-mels [B, {self.dims.n_mels}, {frames}], found {tuple(mel.shape)}"
            )
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)
        x = (x + self.embed_positions.weight).reshape(-1, self.dims.n_audio_state)
        lengths = (self.dims.n_audio_ctx,) * len(mel)
        return self._transform(x, lengths).view(len(mel), self.dims.n_audio_ctx, -1)

    def _transform(self, x: Float[Tensor, "T D"], lengths: tuple[int, ...]) -> Float[Tensor, "T D"]:
        for layer in self.layers:
            x = layer(x, lengths)
        return self.layer_norm(x)

    def _convolve(self, mels: Sequence[Tensor], tails: Sequence[Tensor | float]) -> tuple[Tensor, Tensor]:
        """Return conv features of one long row of clips, and the numbers of the rows that belong to clips.

        Layout of a clip: `_LEAD` zeros | its mel frames | its `_TAIL` frames | a zero where that makes it even.
        The stock encoder sees zeros left of a clip in *both* convolutions, so conv1's output there is cleared.
        """
        slots = [_LEAD + mel.shape[1] + _TAIL + mel.shape[1] % 2 for mel in mels]
        starts = [0, *accumulate(slots)]
        row = torch.cat(
            [
                functional.pad(self._with_tail(mel, tail), (_LEAD, slot - _LEAD - mel.shape[1] - _TAIL))
                for mel, slot, tail in zip(mels, slots, tails, strict=True)
            ],
            dim=1,
        )
        hidden = functional.gelu(self.conv1(row[None]))
        keep = torch.ones(starts[-1], dtype=hidden.dtype, device=hidden.device)
        for start in starts[:-1]:
            keep[start : start + _LEAD] = 0
        hidden = functional.gelu(self.conv2(hidden * keep))[0].T
        rows = torch.cat(
            [
                torch.arange(-(-mel.shape[1] // 2), device=hidden.device) + (start + _LEAD) // 2
                for mel, start in zip(mels, starts, strict=False)
            ]
        )
        return hidden, rows

    def _with_tail(self, mel: Float[Tensor, "M F"], tail: Tensor | float) -> Float[Tensor, "M F+2"]:
        """Return `mel` and the two frames after it; past the end of a full window zeros, as the stock encoder pads."""
        frames = tail if isinstance(tail, Tensor) else mel.new_full((len(mel), _TAIL), tail)
        within = min(_TAIL, max(0, 2 * self.dims.n_audio_ctx - mel.shape[1]))
        return torch.cat([mel, frames[:, :within], mel.new_zeros(len(mel), _TAIL - within)], dim=1)

    def _check(self, mels: Sequence[Tensor]) -> None:
        limit = 2 * self.dims.n_audio_ctx
        if not mels:
            raise EncoderError("expected at least one log-mel, found an empty batch")
        for number, mel in enumerate(mels):
            if mel.ndim != 2 or mel.shape[0] != self.dims.n_mels or not 1 <= mel.shape[1] <= limit:
                raise EncoderError(
                    f"clip {number} of the batch: expected a log-mel [{self.dims.n_mels}, 1..{limit}], "
                    f"found {list(mel.shape)}; cut longer audio into windows first"
                )


def load_encoder(folder: Path) -> AudioEncoder:
    """Return the encoder stored in a hub-layout folder (`config.json` + `model.safetensors`), in float32.

    Raises:
        WeightsError: A tensor is missing, unknown or of another shape; the message names it.
    """
    encoder = AudioEncoder(read_encoder_dims(folder))
    state: dict[str, Tensor] = {}
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  (not a mapping)
            _, marker, rest = name.rpartition("encoder.") if "encoder." in name else ("", "", "")
            if marker and "decoder" not in name:
                state[rest] = file.get_tensor(name).float()
    expected = encoder.state_dict()
    missing = sorted(expected.keys() - state.keys())
    unknown = sorted(state.keys() - expected.keys())
    wrong = [n for n in expected.keys() & state.keys() if expected[n].shape != state[n].shape]
    if missing or unknown or wrong:
        raise WeightsError(
            f"{folder}/model.safetensors is not this encoder: "
            f"missing {missing[:3]}, unknown {unknown[:3]}, wrong shape {wrong[:3]}"
        )
    encoder.load_state_dict(state)
    return encoder
