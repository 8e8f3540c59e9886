"""A network of a few thousand weights with a stand-in for the frozen LM, and batches for it, made without any file.

Processes that train it import no transformers, so that they start in no time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from uniwhisper.model.dims import AdapterConfig, EncoderDims
from uniwhisper.model.encoder import AudioEncoder
from uniwhisper.model.packing import Packed
from uniwhisper.model.turns import Turn
from uniwhisper.model.uniwhisper import AudioModel, UniWhisper
from uniwhisper.train.batch import Batch
from uniwhisper.types import Example

N_MELS = 8


class StandIn(nn.Module):
    """In place of the LM: answer tokens are predicted from the clip's inputs and the text before them."""

    def __init__(self, width: int = 12, vocabulary: int = 20) -> None:
        super().__init__()
        self.width = width
        self.embedding = nn.Parameter(torch.zeros(vocabulary, width))
        self.execution = None
        self.requires_grad_(False)

    def answer_losses(self, audio: Packed, turns: Sequence[Turn]) -> Tensor:
        losses = []
        for clip, turn in zip(audio.split(), turns, strict=True):
            asked = self.embedding[list(turn.prompt)].mean(dim=0)
            answer = torch.tensor(turn.answer)
            places = torch.arange(1, len(answer) + 1)[:, None] / 10
            states = torch.tanh(clip.mean(dim=0) + clip.amax(dim=0) * places + asked)
            losses.append(functional.cross_entropy(states @ self.embedding.T, answer, reduction="none"))
        return torch.cat(losses)


def tiny_network(seed: int = 0) -> UniWhisper:
    """Return the same random network for the same seed; the lower encoder layer is frozen."""
    dims = EncoderDims(n_mels=N_MELS, n_audio_ctx=50, n_audio_state=16, n_audio_head=2, n_audio_layer=2)
    decoder: Any = StandIn()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = UniWhisper(audio=AudioModel(AudioEncoder(dims)), decoder=decoder, adapter=AdapterConfig(hidden=10))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.3)
    model.audio.encoder.layers[0].requires_grad_(False)
    return model


def batches(number: int, *, seed: int = 0) -> list[Batch]:
    """Return different batches of 1 to 5 clips with 1 to 9 answer tokens each."""
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    made = []
    for index in range(number):
        size = 1 + (index * 3 + 2) % 5
        turns = [
            Turn(prompt=(draw(0, 19),) * draw(1, 4), answer=tuple(draw(0, 19) for _ in range(draw(1, 9))))
            for _ in range(size)
        ]
        lengths = [draw(5, 90) for _ in range(size)]
        names = [f"{index}-{clip}" for clip in range(size)]
        made.append(
            Batch(
                mels=[torch.randn(N_MELS, length, generator=generator) for length in lengths],
                tails=[torch.randn(N_MELS, 2, generator=generator) for _ in lengths],
                turns=turns,
                examples=[
                    Example(clip_id=name, source="toy", family="tagging", prompt="?", answer="!") for name in names
                ],
                domains=("sound",) * size,
                audio_s=sum(lengths) / 100,
                num_answer_tokens=sum(len(turn.answer) for turn in turns),
            )
        )
    return made
