"""Three faults of X-ARES 0.1.3, restated in a few lines each, and checks that they fail and that ours passes.

A check takes an implementation: so the same lines show that a fault is absent here and that they would find it.

Source: https://github.com/jimbozhang/xares (v0.1.3): src/xares/audiowebdataset.py (crops, zero padding of a batch,
clips shuffled without a seed, errors in a tar that become warnings), src/xares/task.py (lengths thrown away, keys of
what is stored), src/xares/trainer.py (mean over what is stored, Adam).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hearing import Hearing, write_clips
from uniwhisper.cache import EmbeddingCache
from uniwhisper.clips import read_clip
from uniwhisper.evaluate.embeddings import clip_key, embed_clips
from uniwhisper.evaluate.probes import ProbeConfig, train_probes
from uniwhisper.evaluate.splits import Fold
from uniwhisper.types import Clip

Embed = Callable[[Sequence[Clip]], np.ndarray]
Crop = Callable[[Sequence[Clip], float], dict[str, np.ndarray]]
Probe = Callable[[np.ndarray, np.ndarray, Fold], np.ndarray]

XARES_BATCH = 16
"""Crops in a batch of X-ARES's encoding stage."""


# --- 1: the padding of a batch is encoded and averaged


def ours_embed(clips: Sequence[Clip]) -> np.ndarray:
    return embed_clips(Hearing(), clips, cache=None)


def xares_embed(clips: Sequence[Clip]) -> np.ndarray:
    """Pad to the longest clip, encode everything, average everything: the lengths are not used."""
    waves = [read_clip(clip) for clip in clips]
    longest = max(map(len, waves))
    padded = [np.pad(wave, (0, longest - len(wave))) for wave in waves]
    return np.stack([frames.mean(axis=0) for frames in Hearing().frames(padded)])


def neighbours_change_nothing(embed: Embed, clips: Sequence[Clip]) -> bool:
    """Return whether every clip has the vector that it has alone."""
    alone = np.concatenate([embed([clip]) for clip in clips])
    return np.allclose(embed(clips), alone, atol=1e-6)


def test_padding_of_a_batch_is_not_averaged(tmp_path: Path) -> None:
    clips = write_clips(tmp_path, [1.0, 0.3, 2.5])
    assert neighbours_change_nothing(ours_embed, clips)
    assert not neighbours_change_nothing(xares_embed, clips)
    short = clips[1:2]
    a, b = xares_embed(short)[0], xares_embed([*short, clips[2]])[0]
    assert np.linalg.norm(a - b) > 0.3 * np.linalg.norm(a)  # of one and the same clip


# --- 2: crops of a file get the key of another, and all but one are lost


def cut(clip: Clip, crop_s: float) -> list[Clip]:
    """Return the whole crops of a clip."""
    count = int(clip.duration_s / crop_s + 1e-9)
    return [replace(clip, id=f"{clip.id}#{n}", start_s=n * crop_s, duration_s=crop_s) for n in range(count)]


def ours_crop(clips: Sequence[Clip], crop_s: float, folder: Path) -> dict[str, np.ndarray]:
    """Return the vector of every crop under its key in the cache."""
    encoder, cache = Hearing(), EmbeddingCache(folder / "cache.sqlite")
    crops = [crop for clip in clips for crop in cut(clip, crop_s)]
    embed_clips(encoder, crops, cache=cache)
    return cache.get_many([clip_key(encoder, crop) for crop in crops])


def xares_crop(clips: Sequence[Clip], crop_s: float) -> dict[str, np.ndarray]:
    """Key a crop by its file and the number of its batch, write all to a tar, and read the tar back.

    The crops of a file follow one another, most of them into the same batch, so the reader of the tar sees a key again,
    which is an error that its handler turns into a warning.
    """
    crops = [(clip, crop) for clip in clips for crop in cut(clip, crop_s)]
    written: list[tuple[str, np.ndarray]] = []
    for number, (clip, crop) in enumerate(crops):
        key = f"{clip.id}{number // XARES_BATCH}"
        written.append((key, Hearing().frames([read_clip(crop)])[0].mean(axis=0)))
    found: dict[str, np.ndarray] = {}
    for key, vector in written:
        if key in found:
            warnings.warn(f"duplicate key {key}", UserWarning, stacklevel=1)
            continue
        found[key] = vector
    return found


def every_crop_is_there(crop: Crop, clips: Sequence[Clip], crop_s: float) -> bool:
    """Return whether as many crops come back as were cut."""
    return len(crop(clips, crop_s)) == sum(len(cut(clip, crop_s)) for clip in clips)


def test_no_crop_is_lost(tmp_path: Path) -> None:
    clips = write_clips(tmp_path, [0.5, 1.3, 0.9, 2.0])
    assert every_crop_is_there(lambda clips, crop_s: ours_crop(clips, crop_s, tmp_path), clips, 0.4)
    with pytest.warns(UserWarning, match="duplicate key"):
        assert not every_crop_is_there(xares_crop, clips, 0.4)
    with pytest.warns(UserWarning, match="duplicate key"):
        assert len(xares_crop(clips, 0.4)) == len(clips)  # the first crop of each file, which protocol `xares` keeps


# --- 3: a probe trained again on the same embeddings gives another score


def ours_probe(features: np.ndarray, targets: np.ndarray, fold: Fold) -> np.ndarray:
    config = ProbeConfig(seeds=1, max_epochs=4)
    return train_probes(features, targets, [fold], num_classes=3, config=config)[0].predictions[0]


def xares_probe(features: np.ndarray, targets: np.ndarray, fold: Fold) -> np.ndarray:
    """Seed the weights, but let the order of the clips come from a generator that nobody seeded."""
    torch.manual_seed(42)
    model = nn.Sequential(nn.LayerNorm(features.shape[1]), nn.Linear(features.shape[1], 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    order = np.random.default_rng()
    x, y = torch.from_numpy(features), torch.from_numpy(targets)
    for _ in range(4):
        for rows in np.array_split(order.permutation(fold.train), 20):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return model(x[fold.test]).argmax(dim=1).numpy()


def repeats_itself(probe: Probe, features: np.ndarray, targets: np.ndarray, fold: Fold) -> bool:
    """Return whether three trainings predict the same for every clip."""
    first, *others = [probe(features, targets, fold) for _ in range(3)]
    return all(np.array_equal(first, other) for other in others)


def test_a_probe_trained_again_predicts_the_same() -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 3, 3000)
    features = (rng.standard_normal((3, 16))[targets] + 3 * rng.standard_normal((3000, 16))).astype(np.float32)
    rows = np.arange(3000)
    fold = Fold(name="one", train=rows[:800], valid=rows[800:1000], test=rows[1000:])
    assert repeats_itself(ours_probe, features, targets, fold)
    assert not repeats_itself(xares_probe, features, targets, fold)
