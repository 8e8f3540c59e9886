"""What a run trains on: the clips of every source and their lengths, from shards or from memory.

Clips are any sequence that gives one by its number, so those of a shard set stay on disk until they are drawn. Writes
nothing; `key` names the content, wherever it lies.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from uniwhisper.errors import ConfigError
from uniwhisper.files import content_hash
from uniwhisper.manifest import clip_to_json
from uniwhisper.shards import ShardSet
from uniwhisper.types import Clip

__all__ = ["TrainingData", "training_data"]

_PLACE = ("path", "offset_bytes", "num_bytes")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingData:
    """Training clips by source."""

    sources: Mapping[str, Sequence[Clip]]
    durations: Mapping[str, np.ndarray]
    """Source -> seconds of every clip, float [clips]."""
    key: str
    """Hash of the content."""
    searches: tuple[str, ...] = ()
    """Keys of the searches for leakage that the clips went through, as far as is known."""
    licenses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Source -> the licences that its clips state; empty text where one states none."""

    def corpora(self) -> dict[str, dict[str, Any]]:
        """Return what a trained encoder says of its data: clips, hours and licences of every source."""
        return {
            name: {
                "clips": len(seconds),
                "hours": round(float(np.sum(seconds)) / 3600, 4),
                "licenses": list(self.licenses.get(name, ())),
            }
            for name, seconds in sorted(self.durations.items())
        }


def training_data(data: ShardSet | Sequence[Clip]) -> TrainingData:
    """Return the training clips of a shard set opened with `split="train"`, or of a list of clips.

    Raises:
        ConfigError: The list has no clip with split `train`.
    """
    if isinstance(data, ShardSet):
        durations = {name: data.durations(name) for name in data.sources}
        licenses = {name: clips.licenses() for name, clips in data.sources.items()}
        return TrainingData(
            sources=data.sources, durations=durations, key=data.key, searches=data.searches, licenses=licenses
        )
    sources: dict[str, list[Clip]] = {}
    for clip in data:
        if clip.split == "train":
            sources.setdefault(clip.source, []).append(clip)
    if not sources:
        raise ConfigError(f"expected clips with split 'train', found {len(data)} clips and none of them")
    durations = {name: np.array([clip.duration_s for clip in clips]) for name, clips in sources.items()}
    key = content_hash([_identity(clip) for clip in data if clip.split == "train"])
    licenses = {name: tuple(sorted({clip.license for clip in clips})) for name, clips in sources.items()}
    return TrainingData(sources=sources, durations=durations, key=key, licenses=licenses)


def _identity(clip: Clip) -> dict[str, Any]:
    """Return everything about a clip that decides what is trained; where its file lies does not."""
    return {name: value for name, value in clip_to_json(clip).items() if name not in _PLACE}
