"""A twin: a training clip that is an evaluation clip, or shares its audio, and which stage found out how."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from uniwhisper.types import Clip

__all__ = ["STAGES", "Stage", "Twin", "twin"]

Stage = Literal["identifier", "hash", "fingerprint"]
STAGES: tuple[Stage, ...] = get_args(Stage)
"""In the order in which they run; a clip that one of them removes is not looked at by the next."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Twin:
    """A pair of clips of which the training one is removed."""

    removed_id: str
    removed_source: str
    removed_path: str
    kept_id: str
    """The evaluation clip; empty where only a blacklist names it."""
    kept_source: str
    """Its corpus."""
    kept_path: str
    stage: Stage
    reason: str
    score: float
    """1 for identity by identifier or hash; for fingerprints, the share of the sound that both have in common."""
    corpora: tuple[str, ...]
    """All evaluation corpora in which the stage found the training clip, the kept one's among them; sorted."""
    removed_at_s: float = 0.0
    """Where in the training clip the common audio begins."""
    kept_at_s: float = 0.0
    """Where in the evaluation clip it begins."""
    overlap_s: float = 0.0
    """How long it is; 0 where the stage does not listen."""
    evidence: float = 0.0
    """In the fingerprint stage: that it is the same sound, by ear (`dedup.coherence`); 0 in the others."""
    agreement: float = 0.0
    """In the fingerprint stage: share of the compared bits that agree; 0 in the others."""

    def to_json(self) -> dict[str, Any]:
        """Return the pair as a row of the stage's report."""
        return {**asdict(self), "corpora": list(self.corpora)}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Twin:
        """Return the pair in a row; the inverse of `to_json`."""
        return cls(**{**row, "corpora": tuple(row["corpora"])})


def twin(removed: Clip, kept: Clip, stage: Stage, reason: str, corpora: Iterable[str], score: float = 1.0) -> Twin:
    """Return the pair of two clips that are in manifests."""
    return Twin(
        removed_id=removed.id,
        removed_source=removed.source,
        removed_path=removed.path,
        kept_id=kept.id,
        kept_source=kept.source,
        kept_path=kept.path,
        stage=stage,
        reason=reason,
        score=score,
        corpora=tuple(sorted(set(corpora))),
    )
