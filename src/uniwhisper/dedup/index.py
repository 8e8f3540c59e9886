"""Search of fingerprints: the clips to be protected are indexed, everything else is streamed past them.

Reads fingerprints; `save` writes one npz without pickles. An inverted index leads from words to the places where they
occur. A query looks up each of its words as it is and with its weakest bits flipped; every place found fixes one
alignment of the query with one clip, which is scored over the frames that both have in common: the best stretch counts,
so clips that overlap only in part are found too. `query` proposes; `search` also listens to the proposals
(`coherence`) and returns those that hold the same sound. Guarantees: equal indices and queries give equal matches,
whether the index was built or loaded; a clip is reported once, where it fits best.
"""

from __future__ import annotations

import itertools
import json
import math
import zipfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import numpy as np

from uniwhisper.dedup.coherence import coherence
from uniwhisper.dedup.fingerprint import FRAME_SPAN_S, INDEX_HOP_MS, NUM_WEAK_BITS, QUERY_HOP_MS, Fingerprint
from uniwhisper.errors import DedupError
from uniwhisper.files import atomic_path

__all__ = ["MIN_EVIDENCE", "MIN_SUPPORT", "FingerprintIndex", "Key", "Match", "confirm"]

Key: TypeAlias = int | str
"""What a clip is called; numbers and texts survive `save` as what they are."""

# These were set on one half of the clips of benchmarks/dedup_recall.py, which reports the other.
MIN_SUPPORT = 60.0
"""Nats that a proposal needs; among 8,000 clips one of ten queries meets an unrelated one that reaches it."""
MIN_EVIDENCE = 15.0
"""What `coherence` has to find."""
_BOTH_SUPPORT, _BOTH_EVIDENCE, _BOTH_SHARE = 200.0, 5.0, 0.3  # long agreement makes up for little evidence (tones)
_SAME_SUPPORT, _SAME_BER = 300.0, 0.03  # words that hardly differ at all: the sentence said again has more errors
_MAX_FLIPS = 3  # of the weak bits of a word at once
_ERROR_RATE = 0.15  # of the strong bits of a true match, as the score assumes; above 0.31 a stretch loses support
_NEAR_FRAMES, _NEAR_BER = 28, 0.36  # frames of 36 ms at either side of a place found that must agree so far

_MAX_PLACES = 256  # words that occur more often lead nowhere and are not followed
_STRONG_BITS = 32 - NUM_WEAK_BITS
_GAIN, _LOSS = math.log(2 * (1 - _ERROR_RATE)), math.log((1 - _ERROR_RATE) / _ERROR_RATE)  # nats a bit, nats an error
_GAIN_A_FRAME = _STRONG_BITS * _GAIN
_FLIPS = np.array(
    [
        [bit in flipped for bit in range(NUM_WEAK_BITS)]
        for count in range(_MAX_FLIPS + 1)
        for flipped in itertools.combinations(range(NUM_WEAK_BITS), count)
    ],
    dtype=np.float64,
).T  # [weak bits, variants]; as floats, so that variants are one exact matrix product
_GOLDEN = np.uint32(2_654_435_769)  # 2^32 / golden ratio, Knuth's multiplicative hash
_QUERY_BLOCK, _CELLS = 4_096, 1 << 19  # frames looked up, and frame pairs compared, at once
_FORMAT = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Match:
    """An indexed clip that a query shares sound with, and where."""

    key: Key
    query_start_s: float
    """Where the common sound begins in the query."""
    reference_start_s: float
    """Where it begins in the indexed clip."""
    overlap_s: float
    """How long it is."""
    ber: float
    """Share of the compared strong bits that differ."""
    num_frames: int
    """Words compared; frames of silence are not."""
    support: float
    """Nats by which the words speak for common sound, were bits independent."""
    evidence: float | None = None
    """What `coherence` found; None where nobody listened."""
    share: float | None = None
    """Share of the sound that is common, by `coherence`."""

    @property
    def is_confirmed(self) -> bool:
        """Return whether it is the same sound: by ear, by ear and words together, or by words that hardly differ."""
        if self.support >= _SAME_SUPPORT and self.ber <= _SAME_BER:
            return True
        if self.evidence is None or self.share is None:
            return False
        if self.support >= _BOTH_SUPPORT and self.evidence >= _BOTH_EVIDENCE and self.share >= _BOTH_SHARE:
            return True
        return self.evidence >= MIN_EVIDENCE


class FingerprintIndex:
    """Fingerprints of clips, ready to be searched."""

    def __init__(self, keys: list[Key], starts: np.ndarray, words: np.ndarray, informative: np.ndarray) -> None:
        """Index words that lie end to end; use `build` or `load`.

        Args:
            keys: Names of the K clips.
            starts: [K + 1] int64; words `starts[k]` to `starts[k + 1]` are clip k's.
            words: [T] uint32.
            informative: [T] bool.
        """
        self.keys = keys
        self._starts, self._words, self._informative = starts, words, informative
        places = np.flatnonzero(informative).astype(np.uint32)
        self._places = places[np.argsort(words[places], kind="stable")]
        self._known, first = np.unique(words[self._places], return_index=True)
        self._first = np.append(first, len(places))
        bits = min(max(math.ceil(math.log2(16 * len(self._known) + 1)), 16), 30)
        self._hash_shift = np.uint32(32 - bits)
        self._filter = np.zeros(1 << (bits - 3), np.uint8)  # a Bloom filter of one hash: most words lead nowhere
        byte, bit = self._filter_at(self._known)
        np.bitwise_or.at(self._filter, byte, bit)

    @classmethod
    def build(cls, fingerprints: Iterable[tuple[Key, Fingerprint]]) -> FingerprintIndex:
        """Return the index of clips, each with its name; clips without words are known and never found.

        Raises:
            DedupError: Two clips have one name, or a fingerprint has another hop than `INDEX_HOP_MS`.
        """
        keys: dict[Key, None] = {}
        counts, words, informative = [0], [np.zeros(0, np.uint32)], [np.zeros(0, bool)]
        for key, prints in fingerprints:
            if key in keys:
                raise DedupError(f"expected every clip to have a name of its own, found {key!r} twice")
            if prints.hop_ms != INDEX_HOP_MS:
                raise DedupError(f"{key}: expected a fingerprint every {INDEX_HOP_MS} ms, found {prints.hop_ms} ms")
            keys[key] = None
            counts.append(len(prints.words))
            words.append(prints.words)
            informative.append(prints.informative)
        starts = np.cumsum(counts, dtype=np.int64)
        return cls(list(keys), starts, np.concatenate(words), np.concatenate(informative))

    @classmethod
    def load(cls, path: Path) -> FingerprintIndex:
        """Return the index that `save` wrote.

        Raises:
            DedupError: The file is missing, damaged, or not an index of this version.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                if int(file["format"]) != _FORMAT:
                    raise ValueError(f"format {int(file['format'])} instead of {_FORMAT}")
                keys = json.loads(file["keys"].tobytes().decode())
                starts, words = file["starts"], file["words"]
                informative = np.unpackbits(file["informative"], count=len(words)).astype(bool)
            if len(keys) != len(starts) - 1 or starts[-1] != len(words):
                raise ValueError(f"{len(keys)} names, {len(starts)} starts and {len(words)} words")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
            raise DedupError(f"expected a fingerprint index at {path}, found none: {e}. Build it again") from e
        return cls(keys, starts, words, informative)

    def save(self, path: Path) -> None:
        """Write the index to `path`, an npz; what can be derived is left out."""
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(
                file,
                format=np.array(_FORMAT),
                keys=np.frombuffer(json.dumps(self.keys).encode(), np.uint8),
                starts=self._starts,
                words=self._words,
                informative=np.packbits(self._informative),
            )

    def __len__(self) -> int:
        """Return how many clips are known."""
        return len(self.keys)

    @property
    def num_words(self) -> int:
        """Return how many words can be found."""
        return len(self._places)

    @property
    def num_bytes(self) -> int:
        """Return how much memory the arrays take."""
        arrays = (self._starts, self._words, self._informative, self._places, self._known, self._first, self._filter)
        return sum(array.nbytes for array in arrays)

    def query(self, prints: Fingerprint, *, min_support: float = MIN_SUPPORT) -> list[Match]:
        """Return the clips that may share sound with the query, the best supported first.

        These are proposals: the same words spoken twice by one speaker, or notes of one pitch, are often among them.
        """
        strong = prints.strong
        frames, places = self._hits(prints)
        clips = np.searchsorted(self._starts, places, side="right") - 1
        offsets = (places - self._starts[clips]) * INDEX_HOP_MS - frames * prints.hop_ms
        _, one = np.unique((clips << 32) + (offsets // INDEX_HOP_MS + (1 << 30)), return_index=True)
        clips, offsets, frames = clips[one], offsets[one], frames[one]
        agree = self._agree_nearby(prints, strong, clips, offsets, frames)
        found: dict[int, Match] = {}
        for clip, match in self._aligned(prints, strong, clips[agree], offsets[agree]):
            if match.support >= min_support and (clip not in found or match.support > found[clip].support):
                found[clip] = match
        return [match for _, match in sorted(found.items(), key=lambda item: (-item[1].support, item[0]))]

    def search(
        self, prints: Fingerprint, wave: Callable[[], np.ndarray], reference: Callable[[Key], np.ndarray]
    ) -> list[Match]:
        """Return the clips that hold the same sound as the query, the most evident first.

        Args:
            prints: The query's fingerprint.
            wave: Returns the query's wave; called once, and only where there are proposals.
            reference: Returns the wave of an indexed clip; called for proposals alone.

        Raises:
            AudioError: A wave is not finite, or what the two functions raise.
        """
        proposed = self.query(prints)
        if not proposed:
            return []
        heard = wave()
        judged = [confirm(match, heard, reference(match.key)) for match in proposed]
        confirmed = [match for match in judged if match.is_confirmed]
        return sorted(confirmed, key=lambda match: -(match.evidence or 0.0))

    def _filter_at(self, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the filter's byte and bit for every word."""
        hashes = (words * _GOLDEN) >> self._hash_shift
        return hashes >> np.uint32(3), np.left_shift(np.uint8(1), (hashes & np.uint32(7)).astype(np.uint8))

    def _hits(self, prints: Fingerprint) -> tuple[np.ndarray, np.ndarray]:
        """Return pairs of a query frame and a place in the index, both int64, with the same word but for weak bits."""
        found_frames, found_places = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        informative = np.flatnonzero(prints.informative) if len(self._known) else np.zeros(0, np.int64)
        for start in range(0, len(informative), _QUERY_BLOCK):
            frames = informative[start : start + _QUERY_BLOCK]
            bits = np.exp2(prints.weak[frames].astype(np.float64))  # a sum of different bits flips each of them
            words = (prints.words[frames][:, None] ^ (bits @ _FLIPS).astype(np.uint32)).ravel()
            byte, bit = self._filter_at(words)
            maybe = np.flatnonzero(self._filter[byte] & bit)
            words, frames = words[maybe], frames[maybe // _FLIPS.shape[1]]
            rank = np.minimum(np.searchsorted(self._known, words), len(self._known) - 1)
            counts = self._first[rank + 1] - self._first[rank]
            follow = (self._known[rank] == words) & (counts <= _MAX_PLACES)
            rank, counts = rank[follow], counts[follow]
            before = np.cumsum(counts) - counts
            picks = np.repeat(self._first[rank] - before, counts) + np.arange(counts.sum())
            found_frames.append(np.repeat(frames[follow], counts))
            found_places.append(self._places[picks].astype(np.int64))
        return np.concatenate(found_frames), np.concatenate(found_places)

    def _errors(
        self, prints: Fingerprint, strong: np.ndarray, clips: np.ndarray, offsets: np.ndarray, frames: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return for alignments [K] and query frames [K, F] how many strong bits differ, and where both have sound."""
        at = (frames * prints.hop_ms + offsets[:, None] + INDEX_HOP_MS // 2) // INDEX_HOP_MS
        first = self._starts[clips][:, None]
        both = (
            (frames >= 0) & (frames < len(prints.words)) & (at >= 0) & (at < self._starts[clips + 1][:, None] - first)
        )
        frames, places = np.where(both, frames, 0), np.where(both, first + at, 0)
        both &= prints.informative[frames] & self._informative[places]
        differ = np.bitwise_count((prints.words[frames] ^ self._words[places]) & strong[frames])
        return np.where(both, differ, 0), both

    def _agree_nearby(
        self, prints: Fingerprint, strong: np.ndarray, clips: np.ndarray, offsets: np.ndarray, frames: np.ndarray
    ) -> np.ndarray:
        """Return which alignments agree around the frame that proposed them."""
        half = _NEAR_FRAMES * QUERY_HOP_MS // prints.hop_ms
        around = np.arange(-half, half + 1)
        rows = max(1, _CELLS // len(around))
        agree = [np.zeros(0, bool)]
        for start in range(0, len(clips), rows):
            part = slice(start, start + rows)
            differ, both = self._errors(prints, strong, clips[part], offsets[part], frames[part, None] + around)
            agree.append(differ.sum(axis=1) <= _NEAR_BER * _STRONG_BITS * both.sum(axis=1))
        return np.concatenate(agree)

    def _aligned(
        self, prints: Fingerprint, strong: np.ndarray, clips: np.ndarray, offsets: np.ndarray
    ) -> Iterator[tuple[int, Match]]:
        """Yield the clip and the best stretch of every alignment."""
        lengths = (self._starts[clips + 1] - self._starts[clips]) * INDEX_HOP_MS
        firsts = np.maximum(0, -(offsets + INDEX_HOP_MS) // prints.hop_ms)
        widths = np.minimum(len(prints.words), (lengths - offsets) // prints.hop_ms + 1) - firsts
        rows = max(1, _CELLS // max(1, int(widths.max(initial=0))))
        for start in range(0, len(clips), rows):
            part = slice(start, start + rows)
            frames = firsts[part, None] + np.arange(max(1, int(widths[part].max())))
            differ, both = self._errors(prints, strong, clips[part], offsets[part], frames)
            for row, (begin, end, support) in enumerate(
                _best_stretches(np.where(both, _GAIN_A_FRAME - differ * _LOSS, 0.0))
            ):
                num_frames = int(both[row, begin:end].sum())
                if not num_frames:
                    continue
                query_start_s = int(frames[row, begin]) * prints.hop_ms / 1000
                yield (
                    int(clips[start + row]),
                    Match(
                        key=self.keys[clips[start + row]],
                        query_start_s=query_start_s,
                        reference_start_s=query_start_s + int(offsets[start + row]) / 1000,
                        overlap_s=(end - begin - 1) * prints.hop_ms / 1000 + FRAME_SPAN_S,
                        ber=float(differ[row, begin:end].sum()) / (_STRONG_BITS * num_frames),
                        num_frames=num_frames,
                        support=support * prints.hop_ms / QUERY_HOP_MS,
                    ),
                )


def confirm(match: Match, wave: np.ndarray, reference: np.ndarray) -> Match:
    """Return the match with what listening to both waves says, and with the place in the reference made exact.

    Raises:
        AudioError: A wave is not one-dimensional, not of floats, or not finite.
    """
    heard = coherence(
        wave,
        reference,
        wave_start_s=match.query_start_s,
        reference_start_s=match.reference_start_s,
        span_s=match.overlap_s,
    )
    return replace(
        match,
        reference_start_s=match.reference_start_s + heard.delay_s,
        evidence=heard.evidence,
        share=heard.share,
    )


def _best_stretches(scores: np.ndarray) -> Iterator[tuple[int, int, float]]:
    """Yield begin, end and sum of the stretch of every row [K, F] that has the largest sum."""
    sums = np.concatenate([np.zeros((len(scores), 1)), np.cumsum(scores, axis=1)], axis=1)
    rises = sums - np.minimum.accumulate(sums, axis=1)
    for row, end in enumerate(rises.argmax(axis=1).tolist()):
        yield int(sums[row, : end + 1].argmin()), end, float(rises[row, end])
