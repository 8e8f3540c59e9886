"""Which example a clip gives in an epoch: a pure function of (seed, clip, epoch).

Reads clips as they are drawn; writes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from uniwhisper.errors import ConfigError
from uniwhisper.instructions import InstructionConfig, families, render
from uniwhisper.types import Clip, Example

__all__ = ["draw_example", "seeded"]

_TAKES_NEGATIVE = ("audio_text_matching", "question_answering")


def seeded(*parts: object) -> int:
    """Return 63 bits that depend on `parts` alone, the same in every process."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=8).digest(), "big") >> 1


def draw_example(
    clip: Clip, others: Sequence[Clip], *, seed: int, epoch: int, config: InstructionConfig, shares: Mapping[str, float]
) -> Example:
    """Return the example that `clip` gives in `epoch`: one of its task families, chosen by `shares` (default 1 each).

    `others` are the clips of the same source; matching takes its wrong text from one of them.

    Raises:
        ConfigError: Every family that the clip supports has share 0.
    """
    names = families(clip, config)
    weights = np.array([shares.get(name, 1.0) for name in names], dtype=np.float64)
    if weights.sum() <= 0:
        raise ConfigError(
            f"clip {clip.id} of source {clip.source} supports {list(names)}, and every one of them has share 0"
        )
    point = seeded(seed, "family", clip.source, clip.id, epoch) / 2**63 * weights.sum()
    family = names[min(int(np.searchsorted(np.cumsum(weights), point, side="right")), len(names) - 1)]
    negative = ""
    if family in _TAKES_NEGATIVE:  # only then: looking at another clip may read it from a shard
        negative = _other_text(clip, others, seeded(seed, "negative", clip.source, clip.id, epoch))
    return render(clip, family, seeded(seed, epoch), config=config, negative=negative)


def _other_text(clip: Clip, others: Sequence[Clip], number: int) -> str:
    """Return a caption or label of another clip of the source; empty where none of a few tried has one."""
    for attempt in range(8):
        annotation = others[(number + attempt * 7919) % len(others)].annotation
        texts = annotation.captions or annotation.labels
        if texts and texts != (clip.annotation.captions or clip.annotation.labels):
            return texts[number % len(texts)]
    return ""
