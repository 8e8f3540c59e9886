"""The training step that one would write with Hugging Face parts, for comparison: 30 s windows and padded batches.

Features come from `WhisperFeatureExtractor` (zero-padded to 30 s), the encoder is `WhisperEncoder`'s own layers on all
1500 frames, the LM is `AutoModelForCausalLM` on a batch padded to its longest sequence with `attention_mask`,
`position_ids` and `labels`, and its loss computes logits at every position.

The stock encoder lets real frames attend to the padding, so it computes another function than true-length input
does. To have equal losses its layers are given a key mask here (`masked=True`); `masked=False` is the stock behaviour.
In both cases only frames within the clip are handed to the LM. Subsampler and adapter are copies of ours, run on padded
frames.

Shape letters: `B` clips, `M` mel bins, `T` padded 20 ms frames, `A` padded decoder positions of audio, `D` and `Q`
widths of encoder and LM.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from uniwhisper.audio import SAMPLE_RATE
from uniwhisper.model.turns import Turn
from uniwhisper.model.uniwhisper import UniWhisper

__all__ = ["PaddedBatch", "PlainModel"]

_IGNORED = -100  # the label that Hugging Face's losses leave out


@dataclass(frozen=True, kw_only=True, slots=True)
class PaddedBatch:
    """A batch as the plain side reads it."""

    features: Float[Tensor, "B M 3000"]
    frames: tuple[int, ...]
    """Valid 20 ms frames of each clip."""
    turns: list[Turn]


class PlainModel(nn.Module):
    """Whisper encoder, subsampler, adapter and frozen LM on padded batches."""

    def __init__(self, model: UniWhisper, *, encoder_folder: Path, lm_folder: Path, dtype: torch.dtype) -> None:
        """Load Hugging Face's modules from the same folders and copy what is ours from `model`."""
        from transformers import AutoModelForCausalLM, WhisperFeatureExtractor, WhisperModel

        super().__init__()
        self.encoder = WhisperModel.from_pretrained(encoder_folder, dtype=torch.float32).encoder.train()
        self.subsampler = copy.deepcopy(model.audio.subsampler.conv)
        self.adapter = copy.deepcopy(model.adapter)
        self.lm = AutoModelForCausalLM.from_pretrained(lm_folder, dtype=dtype).eval().requires_grad_(False)
        self.opening = model.decoder.dialogue.opening
        self.precision = model.precision
        self.extractor = WhisperFeatureExtractor(feature_size=model.audio.encoder.dims.n_mels)

    def collate(self, waves: Sequence[np.ndarray], frames: Sequence[int], turns: Sequence[Turn]) -> PaddedBatch:
        """Return the padded batch of some clips."""
        features = self.extractor(list(waves), sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features
        return PaddedBatch(features=features, frames=tuple(frames), turns=list(turns))

    def encode(self, features: Float[Tensor, "B M 3000"], frames: Sequence[int], *, masked: bool) -> Tensor:
        """Return frames [B, T, D]; with `masked` no frame attends to padding, without it this is the stock encoder."""
        if not masked:
            return self.encoder(features).last_hidden_state
        encoder = self.encoder
        x = functional.gelu(encoder.conv1(features))
        x = functional.gelu(encoder.conv2(x)).transpose(1, 2) + encoder.embed_positions.weight
        mask = (torch.arange(x.shape[1]) < torch.tensor(frames)[:, None])[:, None, None]
        for layer in encoder.layers:
            x = layer(x, attention_mask=mask)
        return encoder.layer_norm(x)

    def audio_inputs(self, batch: PaddedBatch, *, masked: bool = True) -> list[Tensor]:
        """Return the LM's inputs [A_i, Q] of each clip: subsampled, adapted, and cut to the clip."""
        with torch.autocast("cpu", dtype=self.precision or torch.bfloat16, enabled=self.precision is not None):
            x = self.encode(batch.features, batch.frames, masked=masked)
            x = _repeat_last(x, batch.frames, x.shape[1])
            x = self.subsampler(x.transpose(1, 2)).transpose(1, 2)
            halved = [-(-n // 2) for n in batch.frames]
            size = self.adapter.reduction
            groups = -(-x.shape[1] // size)
            x = self.adapter.norm(_repeat_last(x, halved, groups * size)).unflatten(1, (groups, size))
            wide = functional.gelu(self.adapter.fc1(x.flatten(2)))
            x = self.adapter.skip(x.mean(dim=2)) + self.adapter.fc2(wide)
        return [row[: -(-n // size)] for row, n in zip(x, halved, strict=True)]

    def forward(self, batch: PaddedBatch, *, masked: bool = True) -> Tensor:
        """Return the mean loss over the answer tokens, computed by the LM's own loss."""
        audio = self.audio_inputs(batch, masked=masked)
        embeds, attention, labels = self._padded(audio, batch.turns)
        positions = torch.arange(embeds.shape[1]).expand(len(embeds), -1)
        output = self.lm(
            inputs_embeds=embeds,
            attention_mask=attention,
            position_ids=positions,
            labels=labels,
            num_items_in_batch=sum(len(turn.answer) for turn in batch.turns),
            use_cache=False,
        )
        return output.loss

    def _padded(self, audio: Sequence[Tensor], turns: Sequence[Turn]) -> tuple[Tensor, Tensor, Tensor]:
        """Return embeddings, attention mask and labels of a batch padded on the right to its longest sequence."""
        table: Tensor = self.lm.get_input_embeddings().weight  # type: ignore[assignment]
        opening = table[torch.tensor(self.opening, dtype=torch.long)]
        embeds, labels = [], []
        for values, turn in zip(audio, turns, strict=True):
            text = torch.tensor(turn.prompt + turn.answer)
            embeds.append(torch.cat([opening, values.to(table.dtype), table[text]]))
            row = torch.full((len(embeds[-1]),), _IGNORED)
            row[-len(turn.answer) :] = torch.tensor(turn.answer)
            labels.append(row)
        attention = pad_sequence([torch.ones(len(row), dtype=torch.long) for row in labels], batch_first=True)
        return (
            pad_sequence(embeds, batch_first=True),
            attention,
            pad_sequence(labels, batch_first=True, padding_value=_IGNORED),
        )


def _repeat_last(x: Tensor, lengths: Sequence[int], size: int) -> Tensor:
    """Return [B, size, D] where a clip's last row stands in every row after it, as our odd-length rule wants."""
    rows = torch.arange(size).minimum(torch.tensor(lengths)[:, None] - 1)
    return x.gather(1, rows[:, :, None].expand(-1, -1, x.shape[2]))
