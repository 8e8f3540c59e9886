"""What two data sets share: clips that are in both are found by name, by hash and by ear.

    identifiers -> hashing -> fingerprint -> index -> coherence

`hashing` finds files and samples that are the same. `fingerprint` turns sound into words that survive codecs, gain,
cropping and noise; `index` holds the words of the clips to be protected and proposes those that a query shares sound
with; `coherence` listens to both and decides. Evaluation clips are indexed, training clips are streamed past.
"""

from __future__ import annotations

from uniwhisper.dedup.coherence import Coherence
from uniwhisper.dedup.fingerprint import Fingerprint
from uniwhisper.dedup.hashing import file_sha256, pcm_hash
from uniwhisper.dedup.index import FingerprintIndex, Match

__all__ = ["Coherence", "Fingerprint", "FingerprintIndex", "Match", "file_sha256", "pcm_hash"]
