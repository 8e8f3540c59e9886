"""Synthetic predictions of every kind."""

from __future__ import annotations

import numpy as np

from uniwhisper.evaluate.predictions import ClipPredictions, SegmentPredictions, TextPredictions

__all__ = ["ALL_KINDS", "make_clips", "make_kind", "make_segments", "make_texts"]

ALL_KINDS = ("single", "ranked", "multilabel", "segments", "texts")
_WORDS = np.array(["the", "cat", "sat", "on", "a", "mat", "it's"])


def _common(num_clips, num_folds, num_groups, rng):
    fold = np.arange(num_clips) % num_folds
    unit = fold * 1000 + rng.integers(0, num_groups, num_clips) if num_groups else np.arange(num_clips)
    return {"ids": [f"clip-\u00e9{i}.wav" for i in range(num_clips)], "fold": fold, "unit": unit}


def make_clips(
    num_clips=120, num_folds=2, num_seeds=3, num_groups=0, multilabel=False, ranked=False, knn=True, seed=0, skill=0.6
):
    """Return predictions that are right with probability `skill`; the truth depends on the number of clips alone."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(99)
    common = _common(num_clips, num_folds, num_groups, fixed)
    classes = ["a", "b", "\u00fc", "d"]
    if multilabel:
        truth = (fixed.random((num_clips, 4)) < 0.4).astype(np.uint8)
        scores = np.round(rng.random((num_seeds + 1, num_clips, 4)) + skill * truth, 2)
        return ClipPredictions(**common, classes=classes, truth=truth, knn=scores[0] if knn else None, probe=scores[1:])
    truth = fixed.integers(0, 4, num_clips)
    guess = np.where(rng.random((num_seeds + 1, num_clips)) < skill, truth, (truth + 1) % 4)
    logits = np.round(rng.random((num_seeds + 1, num_clips, 4)) + np.eye(4)[guess], 2)
    return ClipPredictions(
        **common,
        classes=classes,
        truth=truth,
        knn=guess[0] if knn else None,
        probe=guess[1:],
        knn_votes=logits[0] if ranked and knn else None,
        probe_logits=logits[1:] if ranked else None,
    )


def make_segments(num_clips=40, num_folds=1, num_seeds=3, num_groups=0, seed=0, skill=0.75):
    """Return segments of three classes; some clips have none."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(98)
    common = _common(num_clips, num_folds, num_groups, fixed)
    per_clip = fixed.integers(0, 5, num_clips)
    truth = fixed.random((per_clip.sum(), 3)) < np.array([0.6, 0.3, 0.1])
    right = rng.random((num_seeds, len(truth), 3)) < skill
    probe = 0.5 + np.where(right == truth, 0.5, -0.5) * rng.random(right.shape)
    return SegmentPredictions(**common, classes=["a", "b", "c"], segments_per_clip=per_clip, truth=truth, probe=probe)


def make_texts(num_clips=50, num_folds=1, num_seeds=2, num_groups=0, seed=0, skill=0.8, normaliser="lower-nopunct"):
    """Return transcripts with some words wrong."""
    rng, fixed = np.random.default_rng(seed), np.random.default_rng(97)
    common = _common(num_clips, num_folds, num_groups, fixed)
    words = [fixed.choice(_WORDS, fixed.integers(1, 12)) for _ in range(num_clips)]

    def hear(said):
        return " ".join(word if rng.random() < skill else str(rng.choice(_WORDS)) for word in said) + "."

    return TextPredictions(
        **common,
        reference=[" ".join(said).upper() for said in words],
        probe=[[hear(said) for said in words] for _ in range(num_seeds)],
        normaliser=normaliser,
    )


def make_kind(kind, **options):
    """Return predictions of one of `ALL_KINDS`."""
    makers = {
        "single": make_clips,
        "ranked": lambda **o: make_clips(ranked=True, **o),
        "multilabel": lambda **o: make_clips(multilabel=True, **o),
        "segments": make_segments,
        "texts": make_texts,
    }
    return makers[kind](**options)
