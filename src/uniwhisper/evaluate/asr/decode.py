"""Greedy transcripts of many clips: similar lengths side by side, one new token each a step, none cut off unseen.

Guarantees: a transcript depends on the clips only, not on the number of threads; what it says is what decoding without
a cache would say; an answer that reached its limit is marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from uniwhisper.evaluate.asr.adapter import SwigluAdapter
from uniwhisper.evaluate.asr.cached import cached_attention, open_cache
from uniwhisper.evaluate.asr.config import AsrConfig
from uniwhisper.evaluate.asr.decoders import FrozenLM
from uniwhisper.evaluate.asr.examples import Utterance, pack
from uniwhisper.threads import map_threads

if TYPE_CHECKING:
    from uniwhisper.evaluate.frames import FrameStore

__all__ = ["Answer", "decode_groups", "greedy", "transcripts"]

_SHRINK = 0.75
"""Finished sequences are dropped from the batch once no more than this share is still being written."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What the LM wrote for one clip."""

    tokens: tuple[int, ...]
    """Without the token that ends it."""
    truncated: bool
    """Whether the limit ended it."""


def transcripts(
    adapter: SwigluAdapter,
    lm: FrozenLM,
    frames: FrameStore,
    chosen: Sequence[Utterance],
    config: AsrConfig,
    *,
    limit: int,
) -> tuple[list[str], int]:
    """Return the transcript of every clip in `chosen`, in its order, and how many reached `limit` tokens."""
    device = str(next(adapter.parameters()).device)
    groups = decode_groups(chosen, config, limit=limit)

    @torch.no_grad()
    def decode(group: Sequence[int]) -> list[Answer]:
        members = [chosen[i] for i in group]
        packed = pack(frames, members, device)
        with torch.autocast(packed.values.device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            audio = adapter(packed)
        prompt = lm.decoder.embedding[torch.tensor([lm.separator], device=device)]
        inputs = [torch.cat([rows.to(prompt.dtype), prompt]) for rows in audio.split()]
        return greedy(lm, inputs, limit=limit, repetition_penalty=config.repetition_penalty)

    texts, num_truncated = [""] * len(chosen), 0
    with cached_attention(lm.decoder):
        for group, answers in zip(groups, map_threads(decode, groups), strict=True):
            for i, answer in zip(group, answers, strict=True):
                texts[i] = lm.decoder.tokenizer.decode(answer.tokens, skip_special_tokens=True).strip()
                num_truncated += answer.truncated
    return texts, num_truncated


def decode_groups(chosen: Sequence[Utterance], config: AsrConfig, *, limit: int) -> list[list[int]]:
    """Return the clips in groups of similar length, longest first, each within `decode_positions`."""
    order = sorted(range(len(chosen)), key=lambda i: (-chosen[i].inputs, i))
    groups: list[list[int]] = []
    for i in order:
        if groups:
            longest = chosen[groups[-1][0]].inputs + 1 + limit
            if (len(groups[-1]) + 1) * longest <= config.decode_positions:
                groups[-1].append(i)
                continue
        groups.append([i])
    return groups


@torch.no_grad()
def greedy(lm: FrozenLM, inputs: Sequence[Tensor], *, limit: int, repetition_penalty: float = 1.0) -> list[Answer]:
    """Return the answers to several sequences of decoder inputs `[S_i, Q]`; call it within `cached_attention`.

    Args:
        lm: The frozen LM.
        inputs: What it has read before it writes.
        limit: Most tokens of an answer, the end included.
        repetition_penalty: Divides positive and multiplies negative logits of tokens that the answer holds already.
            Source: Keskar et al., arXiv 1909.05858, section 4.1, in the form of transformers' RepetitionPenalty
            processor, which never sees the audio.
    """
    model = lm.decoder.lm
    head, table = model.get_output_embeddings(), model.get_input_embeddings()  # type: ignore[operator]
    answers: list[list[int]] = [[] for _ in inputs]
    ended = [False] * len(inputs)
    cache, states = open_cache(lm.decoder, inputs)
    active = list(range(len(inputs)))  # the sequence in each row of the cache, finished ones included
    seen: Tensor | None = None
    for count in range(limit):
        logits = head(states).float()
        if repetition_penalty != 1:
            seen = torch.zeros_like(logits, dtype=torch.bool) if seen is None else seen
            logits = torch.where(seen, _penalised(logits, repetition_penalty), logits)
        tokens = logits.argmax(dim=-1)
        if seen is not None:
            seen[torch.arange(len(tokens), device=tokens.device), tokens] = True
        for i, token in zip(active, tokens.tolist(), strict=True):
            ended[i] = ended[i] or token == lm.end
            if not ended[i]:
                answers[i].append(token)
        left = [row for row, i in enumerate(active) if not ended[i]]
        if not left or count == limit - 1:
            break
        if len(left) <= _SHRINK * len(active):
            rows = torch.tensor(left, device=tokens.device)
            cache.keep(rows)
            tokens, active = tokens[rows], [active[row] for row in left]
            seen = None if seen is None else seen[rows]
        states = cache.step(table(tokens))
    return [Answer(tokens=tuple(answer), truncated=not done) for answer, done in zip(answers, ended, strict=True)]


def _penalised(logits: Tensor, penalty: float) -> Tensor:
    return torch.where(logits < 0, logits * penalty, logits / penalty)
