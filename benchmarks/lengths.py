"""Clip lengths as the paper's mixture has them, for benchmarks without its 38,000 hours.

Reads nothing but the sizes that the sources of the package declare; no audio. Guarantees: lengths depend on the
arguments alone, lie in (0, 30] s, and have the mean asked for.

Every corpus is given a law of recording lengths with the corpus's own mean; recordings longer than the encoder's window
are cut into equal pieces as `uniwhisper shards` cuts them. Drawing every clip equally often gives the shortest mean
that the mixture has of itself (`natural_mean_s`), because GigaSpeech is more than half of all clips; other means come
from drawing corpora of longer or shorter clips more often, by one exponential factor, which leaves the shape of each
corpus as it is.

Source: means from `SPEC` of each source (hours / clips). Shapes: 10 s spans are constant (AudioSet and what is made
from it, SONYC-UST, TAU, URBAN-SED, YT8M-MTC); quantiles of LibriSpeech and AISHELL-1 as icefall prints them
(k2-fsa/icefall@0cffe78, egs/{librispeech,aishell}/ASR/local/display_manifest_statistics.py); Clotho 15 to 30 s
(Drossos et al., 2020); parts of WavCaps from https://huggingface.co/datasets/cvssp/WavCaps (README: clips, mean
seconds); spreads of songs and of SoundBible measured on the published tables of MAESTRO v3 (0.57), MTG-Jamendo (0.49),
MusicNet (0.56) and WavCaps' SoundBible (1.08). The spreads of GigaSpeech (0.8), Freesound and BBC recordings (1.5, for
LAION-Audio too) are assumptions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from uniwhisper.audio import WINDOW_S
from uniwhisper.sources import get_source

__all__ = ["Law", "corpora", "lengths_by_corpus", "mixture_lengths", "natural_mean_s"]

_POOL = 4000
_SHORTEST_S = 0.3
_SONGS = 0.5

_SHARES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
_LIBRISPEECH = (0.9, 2.4, 3.8, 5.6, 10.5, 13.5, 15.2, 16.5, 17.2, 18.1, 30.0)
_AISHELL = (1.1, 2.3, 2.7, 3.0, 3.5, 4.3, 5.4, 6.5, 7.2, 8.8, 16.1)
_CLOTHO = tuple(15 + 15 * share for share in _SHARES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Law:
    """How long the recordings of a corpus are."""

    recordings: int
    mean_s: float
    spread: float = 0.0
    """Standard deviation of the logarithm of the length; 0 where all are equally long or `quantiles_s` are given."""
    quantiles_s: tuple[float, ...] = ()
    """Lengths at fixed shares of the recordings, scaled to the mean."""

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Return `count` lengths in seconds, evenly spread over the law."""
        points = (np.arange(count) + rng.random(count)) / count
        if self.quantiles_s:
            values = np.interp(points, _SHARES, self.quantiles_s)
        elif self.spread:
            values = np.exp(self.spread * np.quantile(rng.standard_normal(8 * count), points))
        else:
            values = np.ones(count)
        return np.maximum(values * (self.mean_s / values.mean()), _SHORTEST_S)


def _law(name: str, *, spread: float = 0.0, quantiles_s: tuple[float, ...] = ()) -> Law:
    spec = get_source(name).SPEC
    if not (spec.num_clips and spec.hours):
        raise ValueError(f"expected the source {name} to declare its clips and hours, found {spec.num_clips} clips")
    mean_s = spec.hours * 3600 / spec.num_clips
    return Law(recordings=spec.num_clips, mean_s=mean_s, spread=spread, quantiles_s=quantiles_s)


@cache
def corpora() -> dict[str, tuple[Law, ...]]:
    """Return the laws of the 23 training corpora; one that is a collection has one for each of its parts."""
    spans = ("audiocaps", "audioset", "musiccaps", "seeing_sound", "sonyc_ust", "tau_asc2020_mobile", "urban_sed")
    spans += ("vggsound", "yt8m_musictextclips", "song_describer")  # the last: excerpts of two minutes
    songs = ("maestro", "medleydb", "mtg_jamendo", "musicnet", "slakh2100")
    return {
        **{name: (_law(name),) for name in spans},
        **{name: (_law(name, spread=_SONGS),) for name in songs},
        "guitarset": (_law("guitarset", spread=0.25),),
        "aishell1": (_law("aishell1", quantiles_s=_AISHELL),),
        "clotho": (_law("clotho", quantiles_s=_CLOTHO),),
        "gigaspeech": (_law("gigaspeech", spread=0.8),),
        "laion_audio": (_law("laion_audio", spread=1.5),),
        "libri_adhoc40": (_law("libri_adhoc40", quantiles_s=_LIBRISPEECH),),
        "librispeech": (_law("librispeech", quantiles_s=_LIBRISPEECH),),
        "wavcaps": (
            Law(recordings=262_300, mean_s=85.98, spread=1.5),
            Law(recordings=31_201, mean_s=115.04, spread=1.5),
            Law(recordings=1_232, mean_s=13.12, spread=1.08),
            Law(recordings=108_317, mean_s=10.0),
        ),
    }


def _pieces(recordings_s: np.ndarray) -> np.ndarray:
    """Return the lengths after cutting at the window into the fewest equal pieces."""
    counts = np.ceil(recordings_s / WINDOW_S).astype(np.int64)
    return np.repeat(recordings_s / counts, counts)


@cache
def lengths_by_corpus(seed: int = 0) -> dict[str, tuple[np.ndarray, float]]:
    """Return a pool of clip lengths of every corpus, and how many clips of the corpus each of them stands for."""
    rng = np.random.default_rng(seed)
    pools: dict[str, tuple[np.ndarray, float]] = {}
    for name, laws in sorted(corpora().items()):
        for number, law in enumerate(laws):
            pools[f"{name}/{number}" if len(laws) > 1 else name] = (
                _pieces(law.draw(_POOL, rng)),
                law.recordings / _POOL,
            )
    return pools


def natural_mean_s(seed: int = 0) -> float:
    """Return the mean length where every clip of the mixture is drawn equally often."""
    pools = lengths_by_corpus(seed).values()
    return float(sum(s.sum() * weight for s, weight in pools) / sum(len(s) * weight for s, weight in pools))


def mixture_lengths(mean_s: float, n: int, seed: int = 0) -> np.ndarray:
    """Return `n` clip lengths in seconds with the mean asked for, in random order.

    Args:
        mean_s: Mean length; 30 gives constant windows of 30 s. `natural_mean_s()` draws every clip equally often.
        n: Number of clips.
        seed: Decides the lengths and their order.

    Raises:
        ValueError: No mixture of the corpora has such a mean, or `n` is below 1.
    """
    if n < 1:
        raise ValueError(f"expected at least 1 clip, found {n}")
    if mean_s == WINDOW_S:
        return np.full(n, float(WINDOW_S))
    pools = lengths_by_corpus(seed)
    means = np.array([values.mean() for values, _ in pools.values()])
    clips = np.array([len(values) * weight for values, weight in pools.values()])
    shares = _tilted(clips, means, mean_s)
    values = np.concatenate([values for values, _ in pools.values()])
    weights = np.concatenate(
        [np.full(len(s), share / len(s)) for (s, _), share in zip(pools.values(), shares, strict=True)]
    )
    order = np.argsort(values, kind="stable")
    rng = np.random.default_rng([seed, n])
    # One point in every n-th of the distribution: few clips have the mixture's mean too.
    points = (np.arange(n) + rng.random(n)) / n
    chosen = np.searchsorted(np.cumsum(weights[order]), points * weights.sum()).clip(max=len(values) - 1)
    return rng.permutation(values[order][chosen])


def _tilted(clips: np.ndarray, means: np.ndarray, mean_s: float) -> np.ndarray:
    """Return shares of the corpora, by clips times exp(rate x their mean length), whose mean length is `mean_s`."""
    if not means.min() < mean_s < means.max():
        raise ValueError(f"expected a mean of {means.min():.1f} to {means.max():.1f} s, or 30, found {mean_s}")

    def shares(rate: float) -> np.ndarray:
        logs = np.log(clips) + rate * means
        raw = np.exp(logs - logs.max())
        return raw / raw.sum()

    low, high = -10.0, 10.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if shares(middle) @ means < mean_s else (low, middle)
    return shares((low + high) / 2)
