"""Whisper's audio encoder on true-length input: reads log-mels of any length, returns packed 20 ms frames.

Parameter names are those of Hugging Face's `WhisperEncoder`, so hub weights load as they are.
`forward` computes no padding: clips are laid end to end (packing.py), the convolutions see each clip followed by
what follows it in a padded window, and attention stays within the clip. A clip's frames therefore do not depend on its
batch. With `ExecutionConfig.encoder = "padded"` the same frames are computed in 30 s windows with a mask.
`forward_padded` is the compatibility mode: the stock 30 s window, every frame attended, silence included.

Shape letters: `B` clips, `M` mel bins, `F` mel frames, `T` encoder frames of all clips together, `D` width, `H` heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors import safe_open
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from uniwhisper.errors import EncoderError, WeightsError
from uniwhisper.mel import silence_value
from uniwhisper.model.dims import EncoderDims, read_encoder_dims
from uniwhisper.model.execution import ExecutionConfig
from uniwhisper.model.layer import EncoderLayer
from uniwhisper.model.packing import Packed, Segments, on_device, positions_within, take_rows

__all__ = ["AudioEncoder", "load_encoder"]

_LEAD = 2
"""Zero frames before each clip in the packed convolution: even, so that stride 2 stays on the clip's even frames."""
_TAIL = 2
"""Frames after each clip that are read: the last output of the two convolutions reads at most two frames past it."""


class AudioEncoder(nn.Module):
    """Whisper's audio encoder (the paper, section 2.1) for packs of true-length clips."""

    def __init__(self, dims: EncoderDims, execution: ExecutionConfig | None = None) -> None:
        super().__init__()
        self.dims = dims
        self.execution = execution or ExecutionConfig()
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
            mels: Log-mels at 100 frames a second, each of 1 to `2 * n_audio_ctx` frames, on the encoder's device.
            tails: For each clip the two frames that follow it (`mel.log_mel_tails`), or one value that both have.

        Returns:
            `ceil(F / 2)` frames a clip.

        Raises:
            EncoderError: A log-mel is empty, too long, or has another number of bins.
            ConfigError: The attention kernel that was asked for cannot run on this device.
        """
        self._check(mels)
        lengths = tuple(-(-mel.shape[1] // 2) for mel in mels)
        if self.execution.encoder == "padded":
            return Packed(values=self._in_windows(mels, tails, lengths), lengths=lengths)
        x, rows = self._convolve(mels, tails)
        positions = torch.cat([self.embed_positions.weight[:length] for length in lengths])
        segments = Segments.packed(lengths, device=x.device, kernel=self.execution.attention)
        return Packed(values=self._transform(take_rows(x, rows) + positions, segments), lengths=lengths)

    def forward_padded(self, mel: Float[Tensor, "B M F"]) -> Float[Tensor, "B T D"]:
        """Return the frames of full 30 s windows, exactly as the stock encoder does (silence is attended too)."""
        frames = 2 * self.dims.n_audio_ctx
        if mel.ndim != 3 or mel.shape[2] != frames:
            raise EncoderError(
                f"compat mode: expected log-mels [B, {self.dims.n_mels}, {frames}], found {tuple(mel.shape)}"
            )
        lengths = (self.dims.n_audio_ctx,) * len(mel)
        segments = Segments.packed(lengths, device=mel.device, kernel=self.execution.attention)
        return self._transform(self._windowed(mel), segments).view(len(mel), self.dims.n_audio_ctx, -1)

    def _in_windows(
        self, mels: Sequence[Tensor], tails: Sequence[Tensor | float], lengths: tuple[int, ...]
    ) -> Float[Tensor, "T D"]:
        """Return the frames of clips that are each computed in a 30 s window: clip, what follows it, silence."""
        size = self.dims.n_audio_ctx
        windows = []
        for mel, tail in zip(mels, tails, strict=True):
            with_tail = torch.cat([mel, _tail_frames(mel, tail)], dim=1)[:, : 2 * size]
            silence = silence_value(mel)[None, None].expand(len(mel), 2 * size - with_tail.shape[1])
            windows.append(torch.cat([with_tail, silence], dim=1))
        x = self._windowed(torch.stack(windows))
        segments = Segments.padded(lengths, size, device=x.device, kernel=self.execution.attention)
        numbers = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))
        valid = on_device(numbers * size + positions_within(lengths), x.device)
        return take_rows(self._transform(x, segments), valid)

    def _windowed(self, mel: Float[Tensor, "B M F"]) -> Float[Tensor, "T D"]:
        x = functional.gelu(self.conv2(functional.gelu(self.conv1(mel)))).transpose(1, 2)
        return (x + self.embed_positions.weight).reshape(-1, self.dims.n_audio_state)

    def _transform(self, x: Float[Tensor, "T D"], segments: Segments) -> Float[Tensor, "T D"]:
        compiled = self.execution.compile
        recompute = self.execution.recompute and torch.is_grad_enabled()
        for layer in self.layers:
            if recompute:  # nothing in a layer is random
                x = checkpoint(layer, x, segments, compiled, use_reentrant=False, preserve_rng_state=False)
            else:
                x = layer(x, segments, compiled)
        return self.layer_norm(x)

    def _convolve(self, mels: Sequence[Tensor], tails: Sequence[Tensor | float]) -> tuple[Tensor, Tensor]:
        """Return conv features of one long row of clips, and the numbers of the rows that belong to clips.

        Layout of a clip: `_LEAD` zeros | its mel frames | its `_TAIL` frames | a zero where that makes it even. Past
        the end of a full window the tail is zeros, as the stock encoder pads.
        The stock encoder sees zeros left of a clip in *both* convolutions, so conv1's output there is cleared.
        """
        limit = 2 * self.dims.n_audio_ctx
        zeros = mels[0].new_zeros(self.dims.n_mels, _LEAD + _TAIL + 1)
        pieces, starts, total = [], [], 0
        for mel, tail in zip(mels, tails, strict=True):
            frames = mel.shape[1]
            within = min(_TAIL, limit - frames)
            after = _TAIL - within + frames % 2
            pieces += [zeros[:, :_LEAD], mel, _tail_frames(mel, tail)[:, :within], zeros[:, :after]]
            starts.append(total + _LEAD)
            total += _LEAD + frames + within + after
        device = mels[0].device
        first = torch.tensor(starts)
        keep = torch.ones(total)
        keep[(first[:, None] - 1 - torch.arange(_LEAD)).flatten()] = 0
        counts = torch.tensor([-(-mel.shape[1] // 2) for mel in mels])
        rows = (first // 2).repeat_interleave(counts) + positions_within(counts.tolist())
        hidden = functional.gelu(self.conv1(torch.cat(pieces, dim=1)[None]))
        hidden = functional.gelu(self.conv2(hidden * on_device(keep.to(hidden.dtype), device)))
        return hidden[0].T, on_device(rows, device)

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


def _tail_frames(mel: Float[Tensor, "M F"], tail: Tensor | float) -> Float[Tensor, "M 2"]:
    return tail if isinstance(tail, Tensor) else mel.new_full((len(mel), _TAIL), tail)


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
