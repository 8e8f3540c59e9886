from __future__ import annotations

import numpy as np
import pytest
import torch

from tiny import tone
from uniwhisper.embed import AudioEmbedder
from uniwhisper.errors import AudioError

from .conftest import Export


def padded(*waves: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return waves as the harness pads them, with its mask."""
    audio = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(wave) for wave in waves], batch_first=True)
    lengths = torch.tensor([len(wave) for wave in waves])
    return audio, (torch.arange(audio.shape[1])[None] < lengths[:, None]).int()


def test_padding_is_not_encoded(export: Export, embedder: AudioEmbedder) -> None:
    encoder = export("xares-llm").UniWhisperEncoder()
    assert encoder.output_dim == 32
    waves = [tone(0.5, 300), tone(3.0, 500)]
    audio, mask = padded(*waves)
    features, kept = encoder(audio, mask)
    assert features.shape == (2, 75, 32)
    assert kept.shape == (2, 75)
    assert kept.dtype == mask.dtype
    assert kept.sum(dim=1).tolist() == [13, 75]
    for number, frames in enumerate(embedder.frames(waves)):
        np.testing.assert_allclose(features[number, : len(frames)].numpy(), frames, rtol=0, atol=1e-5)
    assert not features[0, 13:].any()


def test_without_a_mask_everything_counts(export: Export) -> None:
    features, kept = export("xares-llm").UniWhisperEncoder()(torch.from_numpy(tone(1.0, 300)))
    assert features.shape == (1, 25, 32)
    assert kept.tolist() == [[1] * 25]


def test_masks_that_make_no_sense(export: Export) -> None:
    encoder = export("xares-llm").UniWhisperEncoder()
    audio, mask = padded(tone(0.5, 300), tone(1.0, 300))
    with pytest.raises(AudioError, match="one value a sample"):
        encoder(audio, mask[:, ::160])
    with pytest.raises(AudioError, match="a mask without any for clip 1"):
        encoder(audio, mask * torch.tensor([[1], [0]]))
    with pytest.raises(AudioError, match="found one with a gap"):
        encoder(audio, mask.flip(1))
